"""The image of pods with a shell. In a file of its own, so that `--help` need not import `shellpod.py`."""

from __future__ import annotations

from typing import Final

# A small and widely available image with the usual tools for debugging.
SHELL_IMAGE: Final = "busybox:stable"
