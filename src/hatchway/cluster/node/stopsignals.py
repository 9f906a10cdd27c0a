"""Parses names of signals, in images (STOPSIGNAL) and in pods (lifecycle.stopSignal). Pure."""

from __future__ import annotations

import re
import signal

from hatchway.numerals import is_digits

_REAL_TIME = re.compile(r"RTM(IN|AX)(?:([+-])([0-9]{1,2}))?\Z")


def parse_signal(text: str) -> int | None:
    """Return the number of a signal: `SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`. None for other texts.

    Behaviour: `github.com/moby/sys/signal` (`ParseSignal`), which containerd uses.
    """
    if is_digits(text):
        number = int(text[:4])
        return number if 0 < number <= signal.SIGRTMAX else None
    name = text.upper().removeprefix("SIG")
    if match := _REAL_TIME.match(name):
        base = signal.SIGRTMIN if match[1] == "IN" else signal.SIGRTMAX
        number = base + int(f"{match[2]}{match[3]}") if match[2] else int(base)
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    found = getattr(signal, f"SIG{name}", None) if name.isalnum() else None
    return int(found) if isinstance(found, signal.Signals) else None


def stop_signal(lifecycle: str, image: str = "") -> int:
    """Return the signal that ends a container: the pod's (lifecycle.stopSignal), else the image's, else SIGTERM.

    As in containerd, an unknown name means SIGTERM.
    """
    return (parse_signal(lifecycle) if lifecycle else parse_signal(image)) or int(signal.SIGTERM)
