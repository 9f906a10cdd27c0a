"""Runs credential plugins: `client.authentication.k8s.io/v1`, `v1beta1` (client-go `plugin/pkg/client/auth/exec`).

A plugin is a program that prints an ExecCredential on standard output. Its standard error is shown to the user, because
plugins use it to ask the user to open a page or to touch a key. The last bytes of the standard error are also stored,
for error messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hatchway.errors import HatchwayError
from hatchway.kube import goyaml
from hatchway.kube.serversettings import Plugin, Settings

# Timeouts in seconds. With a terminal, a plugin may wait until the user has logged in with a browser.
_PATIENCE_WITH_PERSON = 600.0
_PATIENCE = 60.0
_KEPT = 2000
# The maximum number of bytes of a plugin's output, which contains a token, or a certificate and a key.
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class ApiCredential:
    """The answer of a plugin. certificate, key: PEM. expires: seconds since the epoch, or None."""

    token: str = ""
    certificate: bytes | None = None
    key: bytes | None = None
    expires: float | None = None


async def run(settings: Settings) -> ApiCredential:
    """Run the plugin of `settings`, and return its credential. Raises HatchwayError with the plugin's message.

    The plugin's process never outlives the call.
    """
    plugin = settings.plugin
    assert plugin is not None
    interactive = plugin.stdin != "Never" and sys.stdin is not None and sys.stdin.isatty()
    if plugin.stdin == "Always" and not interactive:
        raise _failure(settings, "needs a terminal, and standard input is not one", "run this in a terminal")
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.arguments,
            stdin=None if interactive else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": _info(plugin, interactive)},
        )
    except FileNotFoundError as error:
        raise _failure(settings, "is not installed", plugin.hint or f"install {plugin.command}") from error
    except OSError as error:
        raise _failure(settings, f"cannot be started: {error.strerror}", plugin.hint) from error
    try:
        async with asyncio.timeout(_PATIENCE_WITH_PERSON if interactive else _PATIENCE):
            output, said = await asyncio.gather(_read(process.stdout), _pass_on(process.stderr))
            code = await process.wait()
    except TimeoutError:
        raise _failure(settings, "did not end in time", f"try `{plugin.command}` by itself") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code:
        why = " ".join(said.split()) or "it printed no error"
        raise _failure(settings, f"failed with exit code {code}: {why}", "log in again as the plugin says, then retry")
    return _credential(settings, output)


def _info(plugin: Plugin, interactive: bool) -> str:
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    return json.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec})


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    found = bytearray()
    while piece := await stream.read(65536):
        # Output beyond the limit is read and dropped, because a plugin whose pipe is full could not exit.
        found += piece[: max(0, _LARGEST - len(found))]
    return bytes(found)


async def _pass_on(stream: asyncio.StreamReader | None) -> str:
    """Copy a plugin's standard error to this process's standard error; return the last bytes as text."""
    assert stream is not None
    kept = b""
    while piece := await stream.read(4096):
        if sys.stderr is not None:
            sys.stderr.write(piece.decode(errors="replace"))
            sys.stderr.flush()
        kept = (kept + piece)[-_KEPT:]
    return kept.decode(errors="replace")


def _credential(settings: Settings, output: bytes) -> ApiCredential:
    plugin = settings.plugin
    assert plugin is not None
    try:
        found = _decoded(output)
        if found["kind"] != "ExecCredential":
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise _failure(settings, "did not print an ExecCredential", plugin.hint) from None
    if found.get("apiVersion") != plugin.api_version:
        raise _failure(
            settings,
            f'answered in "{found.get("apiVersion")}" but the kubeconfig asks for "{plugin.api_version}"',
            "update the plugin, or the apiVersion in the kubeconfig",
        )
    status = found.get("status")
    if not isinstance(status, dict):
        raise _failure(settings, "gave no credentials", plugin.hint)
    texts = [status.get(key) or "" for key in ("token", "clientCertificateData", "clientKeyData")]
    if not all(isinstance(text, str) for text in texts):
        raise _failure(settings, "gave credentials that are not strings", plugin.hint)
    token, certificate, key = texts[0].strip(), texts[1], texts[2]
    if bool(certificate) != bool(key) or not (token or certificate):
        raise _failure(settings, "gave neither a token nor a certificate with its key", plugin.hint)
    if any(character in token for character in "\r\n\0"):
        raise _failure(settings, "gave a token with a line break in it", plugin.hint)
    return ApiCredential(
        token,
        certificate.encode() if certificate else None,
        key.encode() if key else None,
        _moment(settings, status.get("expirationTimestamp")),
    )


def _decoded(output: bytes) -> Any:
    """Parse JSON or YAML; client-go accepts both. Raises ValueError."""
    if output.lstrip().startswith(b"{"):
        return json.loads(output)
    return goyaml.value(goyaml.parse(output).root)


def _moment(settings: Settings, text: Any) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise _failure(settings, f'gave an expirationTimestamp that is not a valid time: "{text}"', "") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _failure(settings: Settings, what: str, hint: str) -> HatchwayError:
    assert settings.plugin is not None
    return HatchwayError(f'{settings.label}: the credential plugin "{settings.plugin.command}" {what}', hint)
