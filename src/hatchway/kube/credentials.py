"""Makes a context's credentials: reads the files that the context names, and builds TLS contexts and header fields."""

from __future__ import annotations

import contextlib
import ssl
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hatchway.errors import HatchwayError
from hatchway.kube.execplugin import ApiCredential
from hatchway.kube.serversettings import Settings
from hatchway.kube.tls import client_context


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """The contents of the files that the settings name. ca, certificate, key: PEM; None when there is none."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None
    token: str


def read_files(found: Settings) -> CredentialFiles:
    """Read the files that the settings name. Raises HatchwayError."""

    def content(source: bytes | Path | None) -> bytes | None:
        if not isinstance(source, Path):
            return source
        try:
            return source.read_bytes()
        except OSError as error:
            raise HatchwayError(
                f"{found.label}: cannot read {source}: {error.strerror}", "the kubeconfig names this file"
            ) from error

    token = found.token
    if found.token_file is not None:
        token = (content(found.token_file) or b"").decode(errors="replace").strip()
        if any(character in token for character in "\r\n\0"):
            raise HatchwayError(f"{found.label}: {found.token_file} contains more than a token")
    return CredentialFiles(content(found.ca), content(found.certificate), content(found.key), token)


def header_fields(
    found: Settings, files: CredentialFiles, credential: ApiCredential | None
) -> list[tuple[bytes, bytes]]:
    """Return the header fields with the credentials of a request.

    Args:
        credential: the credential from a plugin or an OpenID Connect issuer; None without one.
    """
    if found.url.scheme != "https":
        # Like client-go, send no credentials without TLS: others on the network could read them.
        return []
    token = files.token or (credential.token if credential is not None else "")
    fields: list[tuple[bytes, bytes]] = []
    if token:
        fields.append((b"Authorization", b"Bearer " + token.encode()))
    elif found.basic is not None:
        fields.append((b"Authorization", b"Basic " + b64encode(":".join(found.basic).encode())))
    return fields + list(found.impersonate)


def server_tls(found: Settings, ca: bytes | None, certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    """Return the TLS context for the API server. Raises HatchwayError.

    ca, certificate, key: PEM; None when there is none.
    """
    try:
        return client_context(ca, certificate, key, insecure=found.insecure)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise HatchwayError(
            f"{found.label}: its certificates or key cannot be used: {why}",
            "the kubeconfig, or a file that it names, is not PEM, or the key belongs to another certificate",
        ) from error


def proxy_tls(found: Settings, ca: bytes | None) -> ssl.SSLContext:
    """Return the TLS context for a proxy in front of the API server. Raises HatchwayError.

    The proxy's certificate may be issued by the cluster's CA, as with kubectl, or by one of the system's CAs.
    """
    try:
        context = client_context(ca, None, None, insecure=found.insecure)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise HatchwayError(
            f"{found.label}: its certificates cannot be used: {why}", "correct the kubeconfig"
        ) from error
    context.load_default_certs()
    return context


def have_same_source(one: Settings, other: Settings) -> bool:
    """Return True when two settings get their credentials from the same plugin or issuer."""
    sources = [found.oidc.updated({}) if found.oidc is not None else found.plugin for found in (one, other)]
    return sources[0] == sources[1]


def file_marks(paths: Iterable[Path]) -> dict[Path, tuple[int, ...] | None]:
    """For each file, return a value that changes when the file is edited; None for a missing file."""
    found: dict[Path, tuple[int, ...] | None] = {}
    for path in paths:
        found[path] = None
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_size, status.st_ino
    return found
