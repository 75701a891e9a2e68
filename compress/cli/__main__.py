"""``python -m compress.cli``."""

import sys

from compress.cli import main

sys.exit(main())
