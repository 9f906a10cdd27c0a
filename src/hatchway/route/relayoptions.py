"""The options for a relay pod. They are not in `relayroute.py`, so that `--help` does not import the route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The default image: small, well known, and with the Python that a relay needs.
DEFAULT_IMAGE: Final = "python:3-alpine"
# A relay ends when it was not renewed for this many seconds.
ORPHAN_SECONDS: Final = 60
# The rights that the command needs in the relay's namespace: (verbs, resource, subresource).
RIGHTS: Final = (
    (("create", "get", "list", "watch", "delete"), "pods", ""),
    (("create", "get"), "pods", "portforward"),
)


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """The relay pod that may be made.

    image: an image with `python3`, 3.8 or later.
    namespace: the namespace in which the pod is made.
    """

    image: str
    namespace: str
