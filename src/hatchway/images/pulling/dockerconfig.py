"""The user's own credentials for registries: files of Docker and Podman, and credential helpers.

The paths are those of `docker/cli` (`cli/config/config.go`) and of containers-auth.json(5). Helpers follow the protocol
of `docker/docker-credential-helpers`: `docker-credential-NAME get` reads a server's name and prints JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hatchway.images.pulling.credentials import (
    HUB_SERVER,
    LARGEST_CONFIG,
    BadCredentials,
    Credential,
    make_credential,
    parse_docker_config,
    parse_json,
)
from hatchway.images.reference import DEFAULT_REGISTRY

# Seconds that a helper may take. This is long because a helper may ask the user to unlock a key ring.
_PATIENCE = 60.0
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# The message that helpers print when they have no credentials for a server (`credentials/error.go`).
_NONE = "credentials not found in native keychain"


@dataclass(slots=True)
class UserCredentials:
    """The user's credentials for some registries.

    credentials: in the order of the files.
    problems: one line for each file and helper that cannot be used. Problems are shown only when a registry refuses a
    pull, because public images need no credentials.
    """

    credentials: list[Credential] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def config_paths(environment: Mapping[str, str]) -> list[Path]:
    """Return the paths of files that may have credentials, Docker's first."""
    home = Path(environment.get("HOME") or Path.home())
    docker = environment.get("DOCKER_CONFIG")
    config = environment.get("XDG_CONFIG_HOME")
    runtime = environment.get("XDG_RUNTIME_DIR")
    return [
        (Path(docker) if docker else home / ".docker") / "config.json",
        *([Path(own)] if (own := environment.get("REGISTRY_AUTH_FILE")) else []),
        *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
        (Path(config) if config else home / ".config") / "containers" / "auth.json",
    ]


async def find_credentials(registries: Iterable[str], environment: Mapping[str, str]) -> UserCredentials:
    """Return the user's credentials: all credentials in the files, and the helpers' credentials for `registries`.

    registries: host names, as in `Reference.registry`.
    """
    found = UserCredentials()
    hosts = list(dict.fromkeys(registries))
    for path in config_paths(environment):
        try:
            text = await asyncio.to_thread(_read, path)
            if text is None:
                continue
            found.credentials += parse_docker_config(text)
            helpers = _helpers(parse_json(text), hosts)
        except (OSError, BadCredentials) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            found.problems.append(f"{path} cannot be used: {why}")
            continue
        for host, helper in helpers.items():
            try:
                credential = await _ask(helper, HUB_SERVER if host == DEFAULT_REGISTRY else host, environment)
            except BadCredentials as error:
                found.problems.append(f"{path}: {error}")
                continue
            if credential is not None:
                found.credentials.append(credential)
    return found


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_CONFIG + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _helpers(config: dict[str, Any], hosts: list[str]) -> dict[str, str]:
    """Return the helper of each host that has one: its own (`credHelpers`), else the default (`credsStore`)."""
    own, default = config.get("credHelpers") or {}, config.get("credsStore") or ""
    if not isinstance(own, dict) or not isinstance(default, str):
        raise BadCredentials("its credHelpers are not an object, or its credsStore is not a string")
    chosen = {}
    for host in hosts:
        names = (HUB_SERVER, "index.docker.io", host) if host == DEFAULT_REGISTRY else (host, f"https://{host}")
        name = next((own[key] for key in names if own.get(key)), default)
        if not isinstance(name, str) or (name and _HELPER.fullmatch(name) is None):
            raise BadCredentials(f"the credential helper for {host} has no valid name")
        if name:
            chosen[host] = name
    return chosen


async def _ask(helper: str, server: str, environment: Mapping[str, str]) -> Credential | None:
    """Return a helper's credential for a server; None when it has none. Raises BadCredentials, with no secret in it."""
    program = f"docker-credential-{helper}"
    try:
        transport, conversation = await asyncio.get_running_loop().subprocess_exec(
            _Conversation, program, "get", stderr=asyncio.subprocess.DEVNULL, env=dict(environment)
        )
    except FileNotFoundError:
        raise BadCredentials(f"the credential helper {program} is not installed") from None
    except OSError as error:
        raise BadCredentials(f"the credential helper {program} cannot be started: {error.strerror}") from error
    try:
        # uvloop's pipes are no subclass of asyncio's.
        pipe = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        # When the helper has already exited, its input is closed; uvloop reports this by a RuntimeError.
        with contextlib.suppress(OSError, RuntimeError):
            pipe.write(server.encode())
            pipe.close()
        async with asyncio.timeout(_PATIENCE):
            await conversation.ended.wait()
            await conversation.output_ended.wait()
    except TimeoutError:
        raise BadCredentials(f"the credential helper {program} did not end in {_PATIENCE:g} s") from None
    finally:
        # This kills the program, and stops reading its output even if another process keeps the pipe open.
        transport.close()
    output = bytes(conversation.output)
    if code := transport.get_returncode():
        said = " ".join(output[:200].decode(errors="replace").split())
        if _NONE in said:
            return None
        raise BadCredentials(f"the credential helper {program} failed: {said or f'exit code {code}'}")
    try:
        answer = parse_json(output)
    except BadCredentials as error:
        raise BadCredentials(f"the answer of the credential helper {program} cannot be used: {error}") from None
    username, secret = answer.get("Username") or "", answer.get("Secret") or ""
    if not isinstance(username, str) or not isinstance(secret, str):
        raise BadCredentials(f"the credential helper {program} gave a value that is not a string")
    return make_credential(server, username, secret)


class _Conversation(asyncio.SubprocessProtocol):
    """Collects a helper's standard output.

    ended: set when the helper has exited. output_ended: set when its output has ended.
    """

    def __init__(self) -> None:
        self.output = bytearray()
        self.ended = asyncio.Event()
        self.output_ended = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        # Output beyond the limit is read and dropped, because a helper whose pipe is full could not exit.
        self.output += data[: max(0, LARGEST_CONFIG - len(self.output))]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self.output_ended.set()

    def process_exited(self) -> None:
        self.ended.set()
