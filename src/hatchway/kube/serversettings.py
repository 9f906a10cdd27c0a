"""The types of an API server's settings, which are parsed from a kubeconfig's context (`kube/contexts.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from hatchway.kube.paths import SERVICE_ACCOUNT

# Seconds that a request of the embedded cluster's own programs may take. The limit is high, because a machine that
# starts a cluster is slow.
_OWN_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Plugin:
    """An exec plugin.

    cluster: `spec.cluster` of the ExecCredential for the plugin; None unless provideClusterInfo is set.
    stdin: "Never", "IfAvailable" or "Always" (interactiveMode).
    """

    command: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    api_version: str
    stdin: str
    hint: str
    cluster: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID Connect provider (`auth-provider: oidc`).

    ca: the issuer's certificate authority: PEM, the path of a file, or None.
    file: the path of the kubeconfig with the tokens.
    user: the name of the user entry in that file.
    """

    issuer: str
    client_id: str
    client_secret: str
    ca: bytes | Path | None
    id_token: str
    refresh_token: str
    file: Path
    user: str

    def updated(self, config: dict[str, str]) -> Oidc:
        """Return a copy with the tokens of the `auth-provider` configuration `config`."""
        return replace(self, id_token=config.get("id-token", ""), refresh_token=config.get("refresh-token", ""))


@dataclass(frozen=True, slots=True)
class Settings:
    """An API server, and the credentials of the user.

    server: URL without a slash at its end.
    namespace: "default" when the context names none.
    user: the name of the user entry in the kubeconfig.
    ca, certificate, key: PEM, or the path of a file that holds it, or None.
    proxy: the URL of a proxy; "" when the kubeconfig names none.
    token_file: used instead of `token` when both are set.
    basic: (user, password) for basic authentication.
    impersonate: the `Impersonate-*` header fields.
    timeout: seconds for one request, 0 for the client's own limits.
    """

    server: str
    context: str
    namespace: str
    user: str
    ca: bytes | Path | None = None
    insecure: bool = False
    tls_server_name: str = ""
    proxy: str = ""
    token: str = ""
    token_file: Path | None = None
    basic: tuple[str, str] | None = None
    certificate: bytes | Path | None = None
    key: bytes | Path | None = None
    plugin: Plugin | None = None
    oidc: Oidc | None = None
    impersonate: tuple[tuple[bytes, bytes], ...] = ()
    timeout: float = 0.0

    @property
    def url(self) -> SplitResult:
        """Return the server's URL, split into its parts."""
        return urlsplit(self.server)

    @property
    def has_issuer(self) -> bool:
        """Return True when a plugin or an OpenID Connect provider issues credentials, which expire."""
        return self.plugin is not None or self.oidc is not None

    @property
    def files(self) -> list[Path]:
        """Return the files with credentials and certificates."""
        return [found for found in (self.ca, self.certificate, self.key, self.token_file) if isinstance(found, Path)]

    @property
    def label(self) -> str:
        """Return the context and the server in the form that error messages use."""
        if self.context:
            return f'context "{self.context}" ({self.server})'
        inside = self.token_file == SERVICE_ACCOUNT / "token"
        return f"the cluster of this pod ({self.server})" if inside else f"the API server {self.server}"


def with_certificate(server: str, ca: Path, certificate: Path, key: Path) -> Settings:
    """Return the settings of a program of the embedded cluster, with a client certificate (PEM files)."""
    return Settings(
        server, context="", namespace="default", user="", ca=ca, certificate=certificate, key=key, timeout=_OWN_TIMEOUT
    )
