"""Sets the size of a terminal, which its programs see."""

from __future__ import annotations

import fcntl
import struct
import termios


def set_terminal_size(terminal: int, width: int, height: int) -> None:
    """Set how many characters a terminal shows. terminal: a descriptor of either end. Raises OSError."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
