"""The control plane's process: `python -m hatchway.cluster STATE_DIR [--attached]`; see `server.py`."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    # Do not search for garbage during the imports, because imported modules stay in memory.
    gc.disable()
    from hatchway.cluster.server import main

    gc.enable()
    sys.exit(main(Path(sys.argv[1]), attached="--attached" in sys.argv[2:]))
