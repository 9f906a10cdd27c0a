"""Finds the servers behind APIServices, and connects to them over TLS with the front proxy's certificate.

Requests are sent to a ready endpoint and not to the service's address, so that they do not depend on the service proxy
(kube-apiserver's `--enable-aggregator-routing`).
"""

from __future__ import annotations

from pathlib import Path

from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, Locator
from hatchway.cluster.api.connect.tlscontexts import TlsContexts
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.routing import Headers, Upstream

__all__ = ["RemoteBackends", "identity_fields"]

_TOKEN = frozenset(b"!#$&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class RemoteBackends:
    """Finds the endpoints of remote APIs. certificate, key: the files of the front proxy's client certificate."""

    def __init__(self, locator: Locator, certificate: Path, key: Path) -> None:
        self._locator = locator
        self._contexts = TlsContexts(certificate, key)

    def endpoints(self, api: RemoteApi) -> list[BackendEndpoint]:
        """Return the endpoints of the API's service: at least one.

        Raises ApiError: 503 or 404 if there is no endpoint, 500 if the CA bundle is not valid; UnreachableBackend.
        """
        found = self._locator.locate("services", api.namespace, f"https:{api.service}:{api.port}")
        try:
            number, context = self._contexts.get(api.ca_bundle, api.insecure)
        except ValueError as error:
            raise ApiError(500, "", str(error)) from error
        name = f"{api.service}.{api.namespace}.svc"
        return [
            BackendEndpoint(
                one.address,
                one.host,
                one.dialed,
                Upstream(("apiservice", name, one.dialed, number), one.upstream.connect, context, name),
            )
            for one in found
        ]


def identity_fields(user: UserInfo) -> Headers:
    """Return the header fields that contain the user of a request (client-go `transport.SetAuthProxyHeaders`).

    Raises ValueError for a name that cannot be sent in a header field.
    """
    fields: Headers = [(b"X-Remote-User", user.name.encode())]
    if user.uid:
        fields.append((b"X-Remote-Uid", user.uid.encode()))
    fields += [(b"X-Remote-Group", group.encode()) for group in user.groups]
    for key, values in user.extra.items():
        name = b"X-Remote-Extra-" + _escaped(key)
        fields += [(name, value.encode()) for value in values]
    for _, value in fields:
        if any(byte < 0x20 or byte == 0x7F for byte in value):
            raise ValueError("the user's name has a control character")
    return fields


def _escaped(key: str) -> bytes:
    """Return a key as part of a field's name: characters that a token cannot have are percent-encoded."""
    return b"".join(bytes((byte,)) if byte in _TOKEN else b"%%%02X" % byte for byte in key.encode())
