"""Continue tokens of lists: the list's version and the next page's position (apiserver's `storage/continue.go`)."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from hatchway.errors import ApiError, bad_request
from hatchway.kube.api import Object

# Seconds for which the pages of a list stay consistent: etcd is compacted every five minutes
# (--etcd-compaction-interval).
EXPIRES_AFTER = 300.0
_VERSION = "meta.k8s.io/v1"
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_not_base64 = re.compile(r"[^A-Za-z0-9_-]").search
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# The namespace and the name of an object. Lists are sorted by this pair.
Position = tuple[str, str]


class ListExpired(ApiError):
    """The error 410 for an expired list. Its token continues in the latest state (`handleCompactedErrorForPaging`)."""

    def __init__(self, token: str) -> None:
        super().__init__(410, "Expired", _EXPIRED)
        self.token = token

    def status(self) -> dict[str, Any]:
        """Return the Status with the token."""
        return {**super().status(), "metadata": {"continue": self.token}}


@dataclass(frozen=True, slots=True)
class Token:
    """A decoded continue token: the position at which a list continues.

    revision: the version of the list's first page; negative for the latest version.
    after: the last object that was listed.
    began: when the first page was made, in POSIX seconds; 0 when unknown.
    """

    revision: int
    after: Position
    began: float = 0.0

    def expired(self) -> bool:
        """Return True when a list of a fixed revision began too long ago to be continued."""
        return self.revision > 0 and self.began > 0 and time.time() - self.began > EXPIRES_AFTER

    def latest(self) -> Token:
        """Return a token for the same position in the latest state of the list."""
        return Token(-1, self.after)

    def format(self, namespace: str | None) -> str:
        """Encode the token. namespace: the list's namespace; None for all, "" when the type has none."""
        start = f"{self.after[0]}/{self.after[1]}\0" if namespace is None else f"/{self.after[1]}\0"
        found: dict[str, Any] = {"v": _VERSION, "rv": self.revision, "start": start}
        if self.began:
            found["at"] = int(self.began)
        return base64.urlsafe_b64encode(_encode(found)).decode().rstrip("=")


def position(obj: Object) -> Position:
    """Return an object's position in lists: its namespace and name."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def parse_token(text: str, namespace: str | None) -> Token:
    """Decode a continue token. Raises ApiError 400."""
    wrong = _not_base64(text)
    if wrong is not None or len(text) % 4 == 1:
        at = wrong.start() if wrong is not None else len(text) - 1
        raise _invalid(f"continue key is not valid: illegal base64 data at input byte {at}")
    try:
        found = _decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"continue key is not valid: {error}") from None
    version = found.get("v", "") if isinstance(found, dict) else ""
    if version != _VERSION:
        raise _invalid(f"continue key is not valid: server does not recognize this encoded version {version}")
    revision, start, began = found.get("rv"), found.get("start"), found.get("at", 0)
    if type(revision) is not int or not revision or abs(revision) >= 2**63:
        raise _invalid(f"continue key is not valid: incorrect encoded start resourceVersion (version {_VERSION})")
    if not isinstance(start, str) or not start or type(began) is not int:
        raise _invalid(f"continue key is not valid: encoded start key empty (version {_VERSION})")
    path = start.removeprefix("/").removesuffix("\0")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or len(parts) > (2 if namespace is None else 1):
        raise _invalid(f"continue key is not valid: {start}")
    after = (namespace or "", path) if len(parts) == 1 else (parts[0], parts[1])
    return Token(revision, after, float(began))


def _invalid(why: str) -> ApiError:
    return bad_request(f"invalid continue token: {why}")
