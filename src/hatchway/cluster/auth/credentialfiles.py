"""Reads, makes, sets and removes tokens and passwords in a cluster's credential files.

A running cluster notices changes of these files.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatchway.cluster.auth import basic, pki, tokens
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from hatchway.files import write_private

ADMIN = "kubernetes-admin"
ADMIN_GROUPS = ("system:masters",)


def ensure_admin_token(state: StateDir) -> str:
    """Return the administrator's static token; create and store it if there is none. Raises HatchwayError."""
    with _locked(state):
        content = _read(state.tokens_file, {"tokens": []})
        for entry in content["tokens"]:
            if isinstance(entry, dict) and entry.get("user") == ADMIN and isinstance(entry.get("token"), str):
                return str(entry["token"])
        token = secrets.token_urlsafe(32)
        content["tokens"].append({"user": ADMIN, "groups": list(ADMIN_GROUPS), "token": token})
        _write(state.tokens_file, content)
        return token


def mint_token(state: StateDir, *, user: str, groups: Sequence[str], seconds: int) -> str:
    """Make a token for any user, signed with the cluster's key and valid for `seconds`. Raises HatchwayError."""
    if not user:
        raise HatchwayError("the user's name is empty", "write --user NAME")
    key = pki.load_key(pki.load(state.pki).user_tokens_key)
    return tokens.mint(key, user=user, groups=groups, seconds=seconds)


def set_password(state: StateDir, *, user: str, groups: Sequence[str], password: str) -> None:
    """Allow `user` to log in by HTTP basic authentication with this password. Raises HatchwayError."""
    if not user or ":" in user:
        raise HatchwayError(f'"{user}" cannot be a user of basic authentication', "a name must not hold a colon")
    if user.startswith("system:"):
        raise HatchwayError(f'"{user}" cannot be a user of basic authentication', "such names are the cluster's own")
    hashed = basic.hash_password(password)
    with _locked(state):
        content = _read(state.basic_file, {"users": {}})
        content["users"][user] = {"hash": hashed, "groups": list(groups)}
        _write(state.basic_file, content)


def remove_password(state: StateDir, user: str) -> None:
    """Remove a user of basic authentication. Raises HatchwayError when no user has this name."""
    with _locked(state):
        content = _read(state.basic_file, {"users": {}})
        if content["users"].pop(user, None) is None:
            raise HatchwayError(f'"{user}" is not a user of basic authentication')
        _write(state.basic_file, content)


@contextmanager
def _locked(state: StateDir) -> Iterator[None]:
    """Hold the lock of the credential files, so that simultaneous commands do not overwrite each other's changes."""
    try:
        descriptor = os.open(state.path / "credentials.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HatchwayError(f"cannot write to {state.path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path, empty: dict[str, Any]) -> dict[str, Any]:
    """Return a file's content. empty: the content if there is no file. The file must have the field of `empty`."""
    (field,) = empty
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return empty
    except (OSError, ValueError) as error:
        raise HatchwayError(f"cannot read {path}: {type(error).__name__}", "move the file away and try again") from None
    if not isinstance(content, dict) or not isinstance(content.get(field), type(empty[field])):
        raise HatchwayError(f"cannot read {path}: it holds no {field}", "move the file away and try again")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        write_private(path, json.dumps(content, indent=1).encode())
    except OSError as error:
        raise HatchwayError(f"cannot write {path}: {error.strerror}") from error
