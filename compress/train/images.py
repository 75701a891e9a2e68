"""Single images in, depth maps out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress._files import whole
from compress.errors import CompressError

PNG_MAX = 65535


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, upright; ``CompressError`` when it is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise CompressError(f"{path}: there is no such image") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise CompressError(f"{path}: not an image that can be read ({error})") from None
    except Image.DecompressionBombError as error:
        raise CompressError(f"{path}: {error}") from None


def write_depth(path: Path, depth_m: npt.NDArray[np.float32], scale: float = 1000.0) -> None:
    """Write depth (H, W) in metres: ``.npy`` as it is, ``.png`` as 16-bit units of 1/scale m.

    In a PNG 0 means no depth, so that none is written nearer than one unit; depth beyond what 16
    bits hold is cut there.
    """
    if not 0 < scale < float("inf"):
        raise CompressError(f"depth scale {scale:g}: give the units a metre, above 0")
    if path.suffix.lower() == ".npy":
        _replaced(path, lambda file: np.save(file, depth_m.astype(np.float32)))
        return
    from PIL import Image

    units = np.clip(np.rint(depth_m * scale), 1, PNG_MAX).astype(np.uint16)
    _replaced(path, lambda file: Image.fromarray(units).save(file, format="PNG"))


def write_classes(path: Path, map_: npt.NDArray[np.uint8]) -> None:
    """Write a class map (H, W) as an 8-bit PNG."""
    from PIL import Image

    with whole(path) as temporary:
        Image.fromarray(map_).save(temporary, format="PNG")


def write_preview(path: Path, depth_m: npt.NDArray[np.float32]) -> None:
    """Write a picture of a depth map, near bright and far dark, on a logarithmic scale."""
    from matplotlib import colormaps
    from PIL import Image

    logs = np.log(np.maximum(depth_m, 1e-3))
    low, high = np.quantile(logs, [0.01, 0.99])
    share = np.clip((high - logs) / max(high - low, 1e-6), 0, 1)
    rgb = (colormaps["magma"](share)[..., :3] * 255).astype(np.uint8)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG")
    _replaced(path, lambda file: Image.fromarray(rgb).save(file, format=kind))


def _replaced(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file under a temporary name and put it in place when it is complete."""
    with whole(path) as temporary, temporary.open("wb") as file:
        write(file)
