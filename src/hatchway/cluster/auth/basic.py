"""HTTP basic authentication (RFC 7617) against a file of argon2 hashes. It is off as long as the file has no user.

basic.json: `{"users": {NAME: {"hash": "$argon2id$...", "groups": [...]}}}`.

Checking a password is slow on purpose. A separate thread checks one password at a time. A successful check is cached by
a keyed hash, so that the many requests of a browser need only one check. Failures are limited per user; all names that
do not exist share one limit. Checking a name that does not exist takes as long as checking an existing name.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import argon2

from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError, HatchwayError, unauthorized

# OWASP's second choice for argon2id: 19 MiB, two passes, one lane.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# The maximum number of successful credentials that are cached, and the maximum number of credentials that may wait for
# their check.
_CACHE_SIZE = 1024
_PENDING = 16
# A user may fail this often in a row, and then once per _REFILL seconds.
_BURST = 10.0
_REFILL = 6.0
_UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class PasswordEntry:
    """A user of the file: the argon2 hash of the password, and the groups."""

    hash: str
    groups: tuple[str, ...]


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, for basic.json."""
    return str(_HASHER.hash(password))


def parse(path: Path) -> dict[str, PasswordEntry]:
    """Return the users of a basic.json; none when there is no file. Raises HatchwayError when it cannot be read."""
    try:
        users = json.loads(path.read_bytes())["users"]
        return {name: PasswordEntry(str(user["hash"]), tuple(user.get("groups", ()))) for name, user in users.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HatchwayError(f"cannot read {path}: {type(error).__name__}", "move the file away and try again") from None


def decode_credentials(encoded: str) -> tuple[str, str] | None:
    """Return (user, password) of a Basic credential; None if it is malformed."""
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


class BasicAuthenticator:
    """Checks Basic credentials. `close` ends its thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users = parse(path)
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, UserInfo] = OrderedDict()
        self._failures: dict[str, tuple[float, float]] = {}
        self._running: dict[bytes, asyncio.Task[UserInfo]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2")
        self._unknown_user_hash: str | None = None

    @property
    def enabled(self) -> bool:
        """Return True when the file has a user."""
        return bool(self._users)

    def reload(self) -> None:
        """Read the file again, and drop all cached checks.

        Raises HatchwayError. After an error, the former content stays in use.
        """
        self._users = parse(self.path)
        # The key of cached checks changes, so no new request waits for a check that uses the former content.
        self._key = os.urandom(32)
        self._known.clear()
        self._failures.clear()

    def close(self) -> None:
        """Cancel the checks that are under way and end their thread."""
        for task in self._running.values():
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def cached(self, encoded: str) -> UserInfo | None:
        """Return the user of a credential that was checked before; None for other credentials."""
        key = self._digest(encoded)
        user = self._known.get(key)
        if user is not None:
            self._known.move_to_end(key)
        return user

    async def authenticate(self, encoded: str) -> UserInfo:
        """Check a credential (the text after `Basic `) and return its user.

        Raises ApiError 401, or 429 after too many failures.
        """
        user = self.cached(encoded)
        if user is not None:
            return user
        key = self._digest(encoded)
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= _PENDING:
                raise _too_many(1)
            # A separate task: the check continues if one of the requests that wait for the check is cancelled.
            task = asyncio.create_task(self._check(encoded, key), name="basic authentication")
            self._running[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: bytes, task: asyncio.Task[UserInfo]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            # The exception is retrieved here, because every waiter may be gone.
            task.exception()

    async def _check(self, encoded: str, key: bytes) -> UserInfo:
        credentials = decode_credentials(encoded)
        if credentials is None:
            raise unauthorized()
        name, password = credentials
        users = self._users
        entry = users.get(name)
        bucket = name if entry is not None else _UNKNOWN
        # The attempt is counted before its result is known, so that simultaneous checks cannot share one attempt.
        self._spend(bucket)
        good = await asyncio.get_running_loop().run_in_executor(self._thread, self._verify, entry, password)
        if not good or entry is None:
            raise unauthorized()
        self._give_back(bucket)
        user = UserInfo(name, entry.groups)
        if users is self._users:
            self._known[key] = user
            if len(self._known) > _CACHE_SIZE:
                self._known.popitem(last=False)
        return user

    def _verify(self, entry: PasswordEntry | None, password: str) -> bool:
        if entry is None:
            if self._unknown_user_hash is None:
                self._unknown_user_hash = hash_password(os.urandom(16).hex())
            _matches(self._unknown_user_hash, password)
            return False
        return _matches(entry.hash, password)

    def _allowance(self, bucket: str) -> float:
        known = self._failures.get(bucket)
        if known is None:
            return _BURST
        left, since = known
        return min(_BURST, left + (time.monotonic() - since) / _REFILL)

    def _spend(self, bucket: str) -> None:
        """Use one of a user's attempts. Raises ApiError 429 when none is left."""
        left = self._allowance(bucket)
        if left < 1:
            raise _too_many(max(1, round((1 - left) * _REFILL)))
        self._failures[bucket] = (left - 1, time.monotonic())

    def _give_back(self, bucket: str) -> None:
        self._failures[bucket] = (min(_BURST, self._allowance(bucket) + 1), time.monotonic())

    def _digest(self, encoded: str) -> bytes:
        return hashlib.blake2b(encoded.encode(), key=self._key, digest_size=16).digest()


def _matches(hashed: str, password: str) -> bool:
    try:
        return bool(_HASHER.verify(hashed, password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _too_many(seconds: int) -> ApiError:
    return ApiError(
        429,
        "TooManyRequests",
        "too many failed attempts to authenticate, please try again later",
        {"retryAfterSeconds": seconds},
    )
