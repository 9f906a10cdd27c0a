"""The messages between the process that pulls images and its clients: JSON, one object per line. Pure.

A client sends one request per connection. The process answers with progress reports, at least one every few seconds,
and then with one result.

    {"image": "docker.io/library/nginx:1.27", "credentials": [{"server": "ghcr.io", "username": "u", "password": "p"}]}
    {"progress": {"done": 1048576, "total": 71000000}}
    {"pulled": {"image_id": "sha256:...", "size": 71000000, "seconds": 1.2}}
    {"error": "docker.io/library/nginx:1.27: not found"}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from hatchway.images.pulling.credentials import Credential
from hatchway.images.reference import ImageNameError, Reference, parse

__all__ = [
    "LONGEST_ANSWER",
    "LONGEST_REQUEST",
    "BadPullMessage",
    "PullAnswer",
    "PullFailure",
    "PullRequest",
    "Pulled",
    "Pulling",
    "decode_answer",
    "encode_answer",
]

# The most bytes of one line. A pod may name several Secrets of up to 1 MiB each.
LONGEST_REQUEST = 8 << 20
LONGEST_ANSWER = 1 << 20
_CREDENTIAL = frozenset(Credential.__dataclass_fields__)


class BadPullMessage(ValueError):
    """A line is not a valid message. The error's text contains no secret."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """The request to pull an image. credentials: the pod's credentials, in the order of its Secrets."""

    reference: Reference
    credentials: tuple[Credential, ...] = ()

    def encode(self) -> bytes:
        """Return the request as a line."""
        return _line({"image": str(self.reference), "credentials": [asdict(one) for one in self.credentials]})

    @classmethod
    def decode(cls, line: bytes) -> PullRequest:
        """Return the request that a line contains. Raises BadPullMessage."""
        found = _object(line)
        image, given = found.get("image"), found.get("credentials", [])
        if not isinstance(image, str) or not isinstance(given, list):
            raise BadPullMessage("a request has an image and a list of credentials")
        try:
            return cls(parse(image), tuple(map(_credential, given)))
        except ImageNameError as error:
            raise BadPullMessage(str(error)) from error


@dataclass(frozen=True, slots=True)
class Pulling:
    """The progress of a pull, in bytes of compressed layers. total: 0 while it is unknown."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Pulled:
    """A finished pull. size: the bytes of all blobs. seconds: how long it took, without the time in the queue."""

    image_id: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PullFailure:
    """A failed pull. message: the registry's reason, for the user."""

    message: str


PullAnswer = Pulling | Pulled | PullFailure


def encode_answer(answer: PullAnswer) -> bytes:
    """Return an answer as a line."""
    match answer:
        case Pulling():
            return _line({"progress": asdict(answer)})
        case Pulled():
            return _line({"pulled": asdict(answer)})
        case PullFailure():
            return _line({"error": answer.message})


def decode_answer(line: bytes) -> PullAnswer:
    """Return the answer that a line contains. Raises BadPullMessage."""
    found = _object(line)
    try:
        match found:
            case {"progress": {"done": int(done), "total": int(total)}}:
                return Pulling(done, total)
            case {"pulled": {"image_id": str(image), "size": int(size), "seconds": float() | int() as seconds}}:
                return Pulled(image, size, float(seconds))
            case {"error": str(message)}:
                return PullFailure(message)
    except OverflowError:
        pass
    raise BadPullMessage("the service that pulls images has given an unknown answer")


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadPullMessage("a line is not valid JSON") from None
    if not isinstance(found, dict):
        raise BadPullMessage("a line is not a JSON object")
    return found


def _credential(given: Any) -> Credential:
    if (
        not isinstance(given, dict)
        or not given.keys() <= _CREDENTIAL
        or not isinstance(given.get("server"), str)
        or not all(isinstance(value, str) for value in given.values())
    ):
        raise BadPullMessage("a credential is an object of strings, with a server")
    return Credential(**given)
