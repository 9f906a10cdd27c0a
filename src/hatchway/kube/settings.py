"""What a context of the kubeconfig says about reaching an API server: parsed once, checked, nothing of it done yet.

lightkube's parser costs 150 ms of imports and knows only part of this, so the document that `kubeconfig.read` gives
is taken apart here. The fields are those of client-go's `tools/clientcmd/api/v1/types.go`; who wins when several
credentials are given follows `client-go/rest/transport.go` and `plugin/pkg/client/auth/exec`.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files
from hatchway.kube.paths import SERVICE_ACCOUNT

# Characters of a header field's name (RFC 9110 section 5.6.2) without "%", which escapes the others.
_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_CLUSTER_CONFIG = "client.authentication.k8s.io/exec"
_REMOVED = {"gcp": "gke-gcloud-auth-plugin", "azure": "https://github.com/Azure/kubelogin"}
_MEND = "mend the kubeconfig, or choose another context with --context"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An exec plugin. cluster: `spec.cluster` of the ExecCredential that it gets, or None when it wants none.

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
    """An OpenID Connect provider (`auth-provider: oidc`). ca: of the issuer; PEM, its file, or None. file, user: where
    in which kubeconfig the tokens stand."""

    issuer: str
    client_id: str
    client_secret: str
    ca: bytes | Path | None
    id_token: str
    refresh_token: str
    file: Path
    user: str

    def updated(self, config: dict[str, str]) -> Oidc:
        """With the tokens of a configuration as it is now."""
        return replace(self, id_token=config.get("id-token", ""), refresh_token=config.get("refresh-token", ""))


@dataclass(frozen=True, slots=True)
class Settings:
    """One API server and who speaks to it.

    server: URL without a slash at its end. namespace: "default" when the context names none. user: the kubeconfig's
    name for the credentials. ca, certificate, key: PEM, or the path of a file that holds it, or None. token_file wins
    over token. basic: (user, password). impersonate: header fields. proxy: URL, "" when the kubeconfig says none.
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

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.server)

    @property
    def asks(self) -> bool:
        """Whether credentials have to be asked for, and end some time."""
        return self.plugin is not None or self.oidc is not None

    @property
    def files(self) -> list[Path]:
        """The files that credentials and certificates are read from."""
        return [found for found in (self.ca, self.certificate, self.key, self.token_file) if isinstance(found, Path)]

    @property
    def label(self) -> str:
        """Context and server, as errors name them."""
        return (
            f'context "{self.context}" ({self.server})' if self.context else f"the cluster of this pod ({self.server})"
        )


def load(kubeconfig: str | None = None, context: str | None = None) -> Settings:
    """A context of the kubeconfig (the current one unless said); the pod's own account where there is no kubeconfig.

    Raises HatchwayError.
    """
    try:
        document = kubeconfig_files.read(kubeconfig)
    except HatchwayError:
        if kubeconfig or context or not in_pod():
            raise
        return from_service_account()
    known = sorted(str(item.get("name")) for item in document["contexts"])
    hint = f"--context takes {', '.join(known)}" if known else "`hatchway up` starts a cluster and writes one"
    wanted = context or str(document.get("current-context") or "")
    if wanted not in known:
        what = f'there is no context "{wanted}"' if wanted else "no context is current"
        if known and not wanted:
            # Not even an only one is taken unasked: who leaves none current may want to be asked each time.
            hint += f"; `kubectl config use-context {shlex.quote(known[0])}` makes {'it' if len(known) == 1 else 'one'} current"
        raise HatchwayError(f"no cluster to talk to: {what} in the kubeconfig", hint)
    return from_document(document, wanted)


def in_pod() -> bool:
    """Whether this process runs in a pod with a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").exists()


def from_service_account() -> Settings:
    """The API server as a pod reaches it (client-go `rest.InClusterConfig`)."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "") or "443"
    namespace = SERVICE_ACCOUNT / "namespace"
    return Settings(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        context="",
        namespace=(namespace.read_text().strip() if namespace.exists() else "") or "default",
        user="",
        ca=SERVICE_ACCOUNT / "ca.crt",
        token_file=SERVICE_ACCOUNT / "token",
    )


def from_document(document: kubeconfig_files.Document, context: str) -> Settings:
    """The settings of a context of a document as `kubeconfig.read` gives it. Raises HatchwayError."""
    chosen = _entry(document, "contexts", "context", context, context)
    cluster = _entry(document, "clusters", "cluster", str(chosen.get("cluster") or ""), context)
    user_name = str(chosen.get("user") or "")
    # A context without a user is an anonymous one.
    user = _entry(document, "users", "user", user_name, context) if user_name else {}
    origins = (item.get(kubeconfig_files.ORIGIN) for item in document["users"] if item.get("name", "") == user_name)
    origin = next(origins, None) or Path(os.devnull)
    try:
        return _settings(context, str(chosen.get("namespace") or "default"), cluster, user_name, user, origin)
    except _Unusable as error:
        raise HatchwayError(f'context "{context}" of the kubeconfig cannot be used: {error}', _MEND) from error


class _Unusable(ValueError):
    """Why an entry cannot be used."""


def _entry(document: kubeconfig_files.Document, section: str, key: str, name: str, context: str) -> dict[str, Any]:
    for item in document.get(section) or []:
        if item.get("name") == name:
            found = item.get(key) or {}
            if isinstance(found, dict):
                return found
    what = f'its {key} "{name}" is not in the kubeconfig' if name else f"it names no {key}"
    raise HatchwayError(f'context "{context}" of the kubeconfig cannot be used: {what}', _MEND)


def _settings(
    context: str, namespace: str, cluster: dict[str, Any], user_name: str, user: dict[str, Any], origin: Path
) -> Settings:
    token, token_file = _text(user, "token").strip(), _text(user, "tokenFile")
    name, password = _text(user, "username"), _text(user, "password")
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if (certificate is None) != (key is None):
        raise _Unusable("a client certificate needs a client key, and the key a certificate")
    static = bool(token or token_file or name)
    oidc = _provider(user["auth-provider"], user_name, origin) if user.get("auth-provider") else None
    if oidc is not None and user.get("exec"):
        raise _Unusable(f'its user "{user_name}" has an auth-provider beside an exec plugin: one of them has to go')
    plugin = user.get("exec")
    ca = _pem(cluster, "certificate-authority")
    insecure = cluster.get("insecure-skip-tls-verify") is True
    if insecure and ca is not None:
        raise _Unusable("it says insecure-skip-tls-verify beside a certificate-authority: one of them has to go")
    server = _server(_text(cluster, "server"), ca is not None or insecure or certificate is not None)
    _check_field("token", token)
    return Settings(
        server=server,
        context=context,
        namespace=namespace,
        user=user_name,
        ca=ca,
        insecure=insecure,
        tls_server_name=_text(cluster, "tls-server-name"),
        proxy=_text(cluster, "proxy-url"),
        token=token,
        token_file=Path(token_file) if token_file else None,
        basic=(name, password) if name else None,
        certificate=certificate,
        key=key,
        # What is written down wins over what a plugin would say.
        plugin=_plugin(plugin, cluster, server) if plugin and not static else None,
        oidc=None if static else oidc,
        impersonate=_impersonation(user),
    )


def _provider(provider: Any, user: str, file: Path) -> Oidc:
    """The provider that kubectl still has. Raises _Unusable for the others, in kubectl's words."""
    name = _text(provider, "name") if isinstance(provider, dict) else ""
    if name in _REMOVED:
        raise _Unusable(f"the {name} auth plugin has been removed; {_REMOVED[name]} takes its place as an exec plugin")
    if name != "oidc":
        raise _Unusable(f'there is no auth-provider "{name}"; an exec plugin takes its place')
    config = provider.get("config") or {}
    for key in ("idp-issuer-url", "client-id"):
        if not config.get(key):
            raise _Unusable(f"its auth-provider has no {key}")
    return Oidc(
        issuer=_text(config, "idp-issuer-url"),
        client_id=_text(config, "client-id"),
        client_secret=_text(config, "client-secret"),
        ca=_pem(config, "idp-certificate-authority"),
        id_token=_text(config, "id-token"),
        refresh_token=_text(config, "refresh-token"),
        file=file,
        user=user,
    )


def _server(text: str, tls: bool) -> str:
    if not text:
        raise _Unusable("its cluster has no server")
    if "://" not in text:
        text = ("https://" if tls else "http://") + text
    parts = urlsplit(text)
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise _Unusable(f'its server "{text}" is not a URL')
    if parts.username is not None:
        raise _Unusable("its server's URL holds a user name; credentials belong to the user")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _plugin(found: Any, cluster: dict[str, Any], server: str) -> Plugin:
    if not isinstance(found, dict) or not found.get("command"):
        raise _Unusable("its exec plugin has no command")
    version = str(found.get("apiVersion") or "")
    if version not in _EXEC_VERSIONS:
        raise _Unusable(
            f'its exec plugin speaks "{version}", which is not supported; {" and ".join(_EXEC_VERSIONS)} are '
            "(a newer release of the plugin writes them)"
        )
    stdin = str(found.get("interactiveMode") or "IfAvailable")
    if stdin not in ("Never", "IfAvailable", "Always"):
        raise _Unusable(f'the interactiveMode "{stdin}" of its exec plugin is unknown')
    told: dict[str, Any] | None = None
    if found.get("provideClusterInfo") is True:
        told = {"server": server}
        for key in (
            "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url", "disable-compression"
        ):  # fmt: skip
            if cluster.get(key):
                told[key] = cluster[key]
        path = cluster.get("certificate-authority")
        if path and "certificate-authority-data" not in told:
            try:
                told["certificate-authority-data"] = base64.b64encode(Path(path).read_bytes()).decode()
            except OSError as error:
                raise _Unusable(f"its certificate-authority {path} cannot be read: {error.strerror}") from error
        for extension in cluster.get("extensions") or ():
            if isinstance(extension, dict) and extension.get("name") == _CLUSTER_CONFIG:
                told["config"] = extension.get("extension")
    environment = found.get("env") or ()
    if not all(isinstance(pair, dict) and pair.get("name") for pair in environment):
        raise _Unusable("the env of its exec plugin is not a list of names and values")
    return Plugin(
        command=str(found["command"]),
        arguments=tuple("" if argument is None else str(argument) for argument in found.get("args") or ()),
        environment=tuple((str(pair["name"]), _text(pair, "value")) for pair in environment),
        api_version=version,
        stdin=stdin,
        hint=" ".join(str(found.get("installHint") or "").split()),
        cluster=told,
    )


def _impersonation(user: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    """`Impersonate-*` fields (client-go `transport/round_trippers.go`)."""
    fields: list[tuple[bytes, bytes]] = []
    pairs = [("Impersonate-User", _text(user, "as")), ("Impersonate-Uid", _text(user, "as-uid"))]
    pairs += [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        name = "Impersonate-Extra-" + quote(str(key).lower(), safe=_TOKEN_CHARACTERS)
        pairs += [(name, str(value)) for value in values or ()]
    for name, value in pairs:
        if value:
            _check_field(name, value)
            fields.append((name.encode(), value.encode()))
    if fields and not _text(user, "as"):
        raise _Unusable("it says as-groups, as-uid or as-user-extra without as")
    return tuple(fields)


def _check_field(name: str, value: str) -> None:
    if any(character in value for character in "\r\n\0"):
        raise _Unusable(f"its {name} holds a line break")


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return "" if value is None else str(value)


def _pem(item: dict[str, Any], key: str) -> bytes | Path | None:
    """What `KEY-data` (base64) holds, else the file that `KEY` names; data wins as in client-go."""
    data = item.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode("".join(str(data).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _Unusable(f"its {key}-data is not base64") from error
    return Path(str(item[key])) if item.get(key) else None
