"""Turns a context of the kubeconfig into `Settings`.

Its input is the document that `kubeconfig.read` returns. The fields are those of client-go's
`tools/clientcmd/api/v1/types.go`. When a user has several credentials, they are preferred in the same order as in
`client-go/rest/transport.go` and `plugin/pkg/client/auth/exec`.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files
from hatchway.kube.overrides import NONE, Overrides
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.kube.serversettings import Oidc, Plugin, Settings

# The special characters of header field names (RFC 9110 section 5.6.2), except "%", with which all others are escaped.
_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
# The exec plugin gets these fields of the cluster's kubeconfig entry, and the content of the extension
# `_CLUSTER_CONFIG`.
_PLUGIN_CLUSTER_FIELDS = (
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)
_CLUSTER_CONFIG = "client.authentication.k8s.io/exec"
_REMOVED = {"gcp": "gke-gcloud-auth-plugin", "azure": "https://github.com/Azure/kubelogin"}
_FIX_HINT = "correct the kubeconfig, or choose another context with --context"


def load(kubeconfig: str | None = None, context: str | None = None, overrides: Overrides = NONE) -> Settings:
    """Return the settings of a context of the kubeconfig. In a pod without a kubeconfig, use the pod's service account.

    Args:
        kubeconfig: the file; None for $KUBECONFIG, else ~/.kube/config.
        context: the context's name; None for the current context.
        overrides: settings of the command line, which replace those of the kubeconfig.

    Raises:
        HatchwayError: there is no such context, or the context cannot be used.
    """
    if not kubeconfig and not any(path.exists() for path in kubeconfig_files.sources()):
        if overrides.server and not context:
            return from_document({"contexts": [], "clusters": [], "users": []}, "", overrides)
        if in_pod() and not context:
            return from_service_account(overrides, SERVICE_ACCOUNT)
    document = kubeconfig_files.read(kubeconfig)
    known = sorted(str(item.get("name")) for item in document["contexts"])
    hint = f"--context takes {', '.join(known)}" if known else "`hatchway up` starts a cluster and writes one"
    wanted = context or str(document.get("current-context") or "")
    if wanted not in known and (wanted or not (overrides.server or overrides.cluster)):
        what = f'there is no context "{wanted}"' if wanted else "no context is current"
        if known and not wanted:
            # Like kubectl, do not use the only context unless it is current: users may have unset it on purpose.
            which = "it" if len(known) == 1 else "one"
            hint += f"; `kubectl config use-context {shlex.quote(known[0])}` makes {which} current"
        raise HatchwayError(f"no cluster to talk to: {what} in the kubeconfig", hint)
    return from_document(document, wanted, overrides)


def in_pod() -> bool:
    """Return True when this process runs in a pod with a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").exists()


def from_service_account(overrides: Overrides = NONE, account: Path = SERVICE_ACCOUNT) -> Settings:
    """Return the settings of the API server inside a pod (client-go `rest.InClusterConfig`).

    Args:
        account: the directory with the service account's token and the CA.

    Raises:
        HatchwayError: the token or the CA cannot be used.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "") or "443"
    namespace = account / "namespace"
    cluster = {
        "server": f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        "certificate-authority": str(account / "ca.crt"),
    }
    own = {
        "cluster": "pod",
        "user": "",
        "namespace": namespace.read_text().strip() if namespace.exists() else "",
    }
    document = {
        "contexts": [{"name": "", "context": own}],
        "clusters": [{"name": "pod", "cluster": cluster}],
        "users": [{"name": "", "user": {"tokenFile": str(account / "token")}}],
    }
    return from_document(document, "", overrides)


def from_document(document: kubeconfig_files.Kubeconfig, context: str, overrides: Overrides = NONE) -> Settings:
    """Return the settings of a context in a document of `kubeconfig.read`.

    Args:
        context: the context's name; "" to use no context, only `overrides`.

    Raises:
        HatchwayError: there is no such context, or the context cannot be used.
    """
    where = f'context "{context}" of the kubeconfig' if context else "the cluster"
    known = any(item.get("name", "") == context for item in document["contexts"])
    chosen = _entry(document, "contexts", context, where) if context or known else {}
    cluster_name, user_name = str(chosen.get("cluster") or ""), str(chosen.get("user") or "")
    if overrides.cluster:
        cluster_name = _named(document, "clusters", overrides.cluster)
    if overrides.user:
        user_name = _named(document, "users", overrides.user)
    cluster = _entry(document, "clusters", cluster_name, where) if cluster_name or not overrides.server else {}
    # A context that names no user sends requests without credentials (anonymous).
    anonymous = not user_name and all(item.get("name", "") for item in document["users"])
    user = {} if anonymous else _entry(document, "users", user_name, where)
    origins = (item.get(kubeconfig_files.ORIGIN) for item in document["users"] if item.get("name", "") == user_name)
    origin = next(origins, None) or Path(os.devnull)
    namespace = overrides.namespace or str(chosen.get("namespace") or "default")
    try:
        return _settings(
            context,
            namespace,
            overrides.of_cluster(cluster),
            user_name,
            overrides.of_user(user),
            origin,
            overrides.timeout,
        )
    except _Unusable as error:
        raise HatchwayError(f"{where} cannot be used: {error}", _FIX_HINT) from error


def _named(document: kubeconfig_files.Kubeconfig, section: str, name: str) -> str:
    """Return the name of an entry that the command line selects. Raises HatchwayError when there is no such entry."""
    known = [str(item.get("name", "")) for item in document[section]]
    if name not in known:
        flag = section.removesuffix("s")
        raise HatchwayError(
            f'there is no {flag} "{name}" in the kubeconfig', f"--{flag} takes {', '.join(sorted(known)) or 'none'}"
        )
    return name


class _Unusable(ValueError):
    """An entry of the kubeconfig cannot be used; the message says why."""


def _entry(document: kubeconfig_files.Kubeconfig, section: str, name: str, where: str) -> dict[str, Any]:
    key = section.removesuffix("s")
    for item in document.get(section) or []:
        if item.get("name", "") == name:
            found = item.get(key) or {}
            if isinstance(found, dict):
                return found
    what = f'its {key} "{name}" is not in the kubeconfig' if name else f"it names no {key}"
    raise HatchwayError(f"{where} cannot be used: {what}", _FIX_HINT)


def _settings(
    context: str,
    namespace: str,
    cluster: dict[str, Any],
    user_name: str,
    user: dict[str, Any],
    origin: Path,
    timeout: float,
) -> Settings:
    token, token_file = _text(user, "token").strip(), _text(user, "tokenFile")
    name, password = _text(user, "username"), _text(user, "password")
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if (certificate is None) != (key is None):
        raise _Unusable("a client certificate needs a client key, and the key a certificate")
    static = bool(token or token_file or name)
    oidc = _provider(user["auth-provider"], user_name, origin) if user.get("auth-provider") else None
    if oidc is not None and user.get("exec"):
        raise _Unusable(f'its user "{user_name}" has both an auth-provider and an exec plugin: remove one of them')
    plugin = user.get("exec")
    ca = _pem(cluster, "certificate-authority")
    insecure = cluster.get("insecure-skip-tls-verify") is True
    if insecure and ca is not None:
        raise _Unusable("it sets both insecure-skip-tls-verify and certificate-authority: remove one of them")
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
        # As in client-go, credentials in the file take precedence over a plugin.
        plugin=_plugin(plugin, cluster, server) if plugin and not static else None,
        oidc=None if static else oidc,
        timeout=timeout,
        impersonate=_impersonation(user),
    )


def _provider(provider: Any, user: str, file: Path) -> Oidc:
    """Return the settings of an `oidc` provider. Raises _Unusable for providers that kubectl no longer supports."""
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
            f'its exec plugin uses "{version}", which is not supported; {" and ".join(_EXEC_VERSIONS)} are '
            "(a newer release of the plugin writes them)"
        )
    stdin = str(found.get("interactiveMode") or "IfAvailable")
    if stdin not in ("Never", "IfAvailable", "Always"):
        raise _Unusable(f'the interactiveMode "{stdin}" of its exec plugin is unknown')
    info: dict[str, Any] | None = None
    if found.get("provideClusterInfo") is True:
        info = {"server": server}
        info |= {key: cluster[key] for key in _PLUGIN_CLUSTER_FIELDS if cluster.get(key)}
        path = cluster.get("certificate-authority")
        if path and "certificate-authority-data" not in info:
            try:
                info["certificate-authority-data"] = base64.b64encode(Path(path).read_bytes()).decode()
            except OSError as error:
                raise _Unusable(f"its certificate-authority {path} cannot be read: {error.strerror}") from error
        for extension in cluster.get("extensions") or ():
            if isinstance(extension, dict) and extension.get("name") == _CLUSTER_CONFIG:
                info["config"] = extension.get("extension")
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
        cluster=info,
    )


def _impersonation(user: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the `Impersonate-*` fields (client-go `transport/round_trippers.go`)."""
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
        raise _Unusable("it sets as-groups, as-uid or as-user-extra without as")
    return tuple(fields)


def _check_field(name: str, value: str) -> None:
    if any(character in value for character in "\r\n\0"):
        raise _Unusable(f"its {name} contains a line break or a NUL character")


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return "" if value is None else str(value)


def _pem(item: dict[str, Any], key: str) -> bytes | Path | None:
    """Return the decoded content of `KEY-data`, or the path in `KEY` if there is no such content (as in client-go)."""
    data = item.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode("".join(str(data).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _Unusable(f"its {key}-data is not base64") from error
    return Path(str(item[key])) if item.get(key) else None
