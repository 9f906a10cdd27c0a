"""The image of pods with a shell. It is not in `shellpod.py`, so that `--help` does not import that."""

from __future__ import annotations

from typing import Final

# A small and widely available image with the usual tools for debugging.
SHELL_IMAGE: Final = "busybox:stable"
