"""Bearer tokens of users: static tokens in tokens.json, and minted tokens, which the cluster signs.

tokens.json: `{"tokens": [{"user", "uid", "groups", and "token" or "sha256"}]}`. The administrator's own token is not
hashed, so that `hatchway token` can print it. (The file has mode 0600, like the CA's key.) Other tokens may be hashed.

A minted token is a JWT (ES256) with an issuer and an audience of its own, so that it cannot be mistaken for a service
account's token. It is verified without a look-up, and it expires; it cannot be revoked.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import HatchwayError

USER_ISSUER = "https://hatchway.invalid/user-tokens"
USER_AUDIENCE = "hatchway"
ALGORITHM = "ES256"
# No valid token is longer, so longer texts are not parsed.
MAX_LENGTH = 16 * 1024


class InvalidToken(Exception):
    """The token is not valid; the message says why, without quoting any part of it."""


def sha256(token: str) -> str:
    """Return the form of a token in tokens.json: its hexadecimal digest."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class StaticTokens:
    """The users of tokens.json, which is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users = parse_static(path)

    def reload(self) -> None:
        """Read the file again. Raises HatchwayError. After an error, the former content stays in use."""
        self._users = parse_static(self.path)

    def authenticate(self, token: str) -> UserInfo | None:
        """Return the user of a token, or None."""
        # The look-up uses a digest, so its timing reveals nothing about the tokens.
        return self._users.get(sha256(token))


def parse_static(path: Path) -> dict[str, UserInfo]:
    """Return users by digest; none when there is no file. Raises HatchwayError when it cannot be parsed."""
    try:
        entries = json.loads(path.read_bytes())["tokens"]
        return {
            entry["sha256"] if "sha256" in entry else sha256(entry["token"]): UserInfo(
                entry["user"], tuple(entry.get("groups", ())), entry.get("uid", "")
            )
            for entry in entries
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # The error's text could quote a token.
        raise HatchwayError(f"cannot read {path}: {type(error).__name__}", "move the file away and try again") from None


def mint(key: ec.EllipticCurvePrivateKey, *, user: str, groups: Sequence[str], seconds: int) -> str:
    """Return a token for `user` that is valid for `seconds` from now."""
    now = int(time.time())
    claims = {
        "iss": USER_ISSUER,
        "aud": [USER_AUDIENCE],
        "sub": user,
        "groups": list(groups),
        "iat": now,
        "nbf": now,
        "exp": now + seconds,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def verify_minted(key: ec.EllipticCurvePublicKey, token: str) -> tuple[UserInfo, float]:
    """Return the user of a minted token, and when the token expires (POSIX seconds). Raises InvalidToken."""
    claims = verified_claims(key, token, issuer=USER_ISSUER, audiences=[USER_AUDIENCE])
    user, groups = claims.get("sub"), claims.get("groups", [])
    if not isinstance(user, str) or not user:
        raise InvalidToken("it names no user")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidToken("its groups are not a list of names")
    return UserInfo(user, tuple(groups)), float(claims["exp"])


def issuer_of(token: str) -> str | None:
    """Return the unverified issuer of a token, which decides which key to try; None for a text that is no JWT."""
    if len(token) > MAX_LENGTH or token.count(".") != 2:
        return None
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def verified_claims(
    key: ec.EllipticCurvePublicKey, token: str, *, issuer: str, audiences: Sequence[str]
) -> dict[str, Any]:
    """Return the claims of a JWT whose signature, issuer, audience and times are valid. Raises InvalidToken.

    The algorithm is fixed. The algorithm in the token's header is ignored (RFC 8725, section 3.1).
    """
    try:
        found = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=list(audiences),
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidToken(f"{type(error).__name__}") from error
    exp = found["exp"]
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        raise InvalidToken("its expiry is not a number")
    return found
