"""Dynamic channel gating: which channels an image needs is decided while it runs through."""
