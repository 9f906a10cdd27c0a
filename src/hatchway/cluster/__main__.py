"""The control plane's process: `python -m hatchway.cluster STATE_DIR [--attached]`; see `server.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from hatchway.cluster.server import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), attached="--attached" in sys.argv[2:]))
