"""Reads a context of the kubeconfig for `quickexec.py`, if it uses no special features.

For a context with special features the result is None, and `kube/contexts.py` must read the context. Special features
are: several files, proxies, credential plugins, passwords, impersonation, an insecure server, and every other field
that is not listed below.
"""

from __future__ import annotations

import binascii
import os

from hatchway.remote import plainyaml

_CLUSTER = frozenset({"server", "certificate-authority", "certificate-authority-data", "extensions"})
_USER = frozenset({"client-certificate", "client-certificate-data", "client-key", "client-key-data", "token"})
_CONTEXT = frozenset({"cluster", "user", "namespace", "extensions"})
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
# Kubeconfigs with more bytes are not read here.
_LARGEST = 1 << 20


class QuickContext:
    """A server and its user.

    host, port: the server's host and port.
    certificate, key: PEM; b"" for none.
    token: "" for none.
    """

    __slots__ = ("authority", "certificate", "host", "key", "namespace", "path", "port", "token")

    host: str
    port: int
    path: str
    authority: bytes
    certificate: bytes
    key: bytes
    token: str
    namespace: str


def load(kubeconfig: str, context: str) -> QuickContext | None:
    """Return a context; None when another reader is needed.

    kubeconfig: the file; "" for $KUBECONFIG, else ~/.kube/config.
    context: the context's name; "" for the current one.
    """
    environment = os.environ
    if any(environment.get(name) for name in _PROXIES):
        return None
    path = kubeconfig or environment.get("KUBECONFIG") or ""
    if not path:
        home = environment.get("HOME")
        if not home:
            return None
        path = f"{home}/.kube/config"
    if os.pathsep in path:
        return None
    text = _read(path)
    document = plainyaml.parse(text.decode("utf-8", "surrogateescape")) if text else None
    if document is None:
        return None
    name = context or document.get("current-context")
    asked = _named(document.get("contexts"), name, "context", _CONTEXT)
    if asked is None:
        return None
    cluster = _named(document.get("clusters"), asked.get("cluster"), "cluster", _CLUSTER)
    user = _named(document.get("users"), asked.get("user"), "user", _USER)
    if cluster is None or user is None:
        return None
    return _built(cluster, user, asked, os.path.dirname(path))


def _built(
    cluster: dict[str, object], user: dict[str, object], asked: dict[str, object], directory: str
) -> QuickContext | None:
    made = QuickContext()
    server, token, namespace = cluster.get("server"), user.get("token", ""), asked.get("namespace") or "default"
    if not isinstance(server, str) or not isinstance(token, str) or not isinstance(namespace, str):
        return None
    scheme, separator, rest = server.partition("://")
    authority, _, path = rest.partition("/")
    host, _, digits = authority.rpartition(":") if ":" in authority else (authority, "", "443")
    if scheme != "https" or not separator or not host or "@" in authority or "[" in authority:
        return None
    if not (digits.isdigit() and 0 < int(digits) < 65536):
        return None
    made.host, made.port, made.path = host, int(digits), "/" + path.rstrip("/") if path.rstrip("/") else ""
    made.token, made.namespace = token, namespace
    values = []
    for fields, key in ((cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key")):
        value = _content(fields, key, directory)
        if value is None:
            return None
        values.append(value)
    made.authority, made.certificate, made.key = values
    # `kube/contexts.py` handles the other cases: servers with a certificate of a public CA, encrypted keys, and keys
    # without a certificate.
    if not made.authority or bool(made.certificate) != bool(made.key) or b"ENCRYPTED" in made.key:
        return None
    return made


def _content(fields: dict[str, object], key: str, directory: str) -> bytes | None:
    """Return the content of `KEY-data`, or of the file in `KEY`; b"" without both, None when it is not plain PEM."""
    data, file = fields.get(f"{key}-data"), fields.get(key)
    if data:
        if not isinstance(data, str):
            return None
        try:
            found = binascii.a2b_base64(data, strict_mode=True)
        except ValueError:
            return None
    elif file:
        found = _read(os.path.join(directory, str(file)))
    else:
        return b""
    return found if found.startswith(b"-----BEGIN ") and found.isascii() else None


def _named(items: object, name: object, key: str, known: frozenset[str]) -> dict[str, object] | None:
    """Return the item with this name; None unless there is exactly one, and all its fields are known."""
    if not isinstance(items, list) or not isinstance(name, str) or not name:
        return None
    found = [one for one in items if isinstance(one, dict) and one.get("name") == name]
    value = found[0].get(key) if len(found) == 1 else None
    return value if isinstance(value, dict) and known.issuperset(value) else None


def _read(path: str) -> bytes:
    """Return a file's bytes; b"" when it cannot be read or is too large."""
    try:
        with open(path, "rb") as file:
            found = file.read(_LARGEST + 1)
    except OSError:
        return b""
    return found if len(found) <= _LARGEST else b""
