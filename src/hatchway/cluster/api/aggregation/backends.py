"""Finds the servers behind APIServices, and connects to them over TLS with the front proxy's certificate.

Requests are sent to a ready endpoint and not to the service's address, so they do not depend on the service proxy
(kube-apiserver's `--enable-aggregator-routing`).
"""

from __future__ import annotations

import itertools
import ssl
from collections import OrderedDict
from pathlib import Path

from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, Locator
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.routing import Headers, Upstream

__all__ = ["RemoteBackends", "identity_fields"]

# How many TLS contexts are kept; each takes tens of kilobytes.
_CONTEXTS = 32
_TOKEN = frozenset(b"!#$&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class RemoteBackends:
    """Finds the endpoints of remote APIs. certificate, key: the files of the front proxy's client certificate."""

    def __init__(self, locator: Locator, certificate: Path, key: Path) -> None:
        self._locator = locator
        self._files = (certificate, key)
        self._numbers = itertools.count()
        self._contexts: OrderedDict[tuple[bytes, bool], tuple[int, ssl.SSLContext]] = OrderedDict()

    def endpoints(self, api: RemoteApi) -> list[BackendEndpoint]:
        """Return the endpoints of the API's service, at least one.

        Raises ApiError: 503 or 404 without an endpoint, 500 when the CA bundle is not valid. Raises UnreachableBackend.
        """
        found = self._locator.locate("services", api.namespace, f"https:{api.service}:{api.port}")
        number, context = self._context(api.ca_bundle, api.insecure)
        name = f"{api.service}.{api.namespace}.svc"
        return [
            BackendEndpoint(
                one.address,
                one.host,
                one.dialed,
                # The number keeps connections apart whose servers were verified in different ways.
                Upstream(("apiservice", name, one.dialed, number), one.upstream.connect, context, name),
            )
            for one in found
        ]

    def _context(self, bundle: bytes, insecure: bool) -> tuple[int, ssl.SSLContext]:
        """Return the TLS context for these settings, and its own number. It is made when it is not kept."""
        known = self._contexts.get((bundle, insecure))
        if known is not None:
            self._contexts.move_to_end((bundle, insecure))
            return known
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif bundle:
            try:
                context.load_verify_locations(cadata=bundle.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise ApiError(500, "", f"unable to load root certificates: {error}") from error
        else:
            context.load_default_certs()
        made = self._contexts[bundle, insecure] = next(self._numbers), context
        if len(self._contexts) > _CONTEXTS:
            self._contexts.popitem(last=False)
        return made


def identity_fields(user: UserInfo) -> Headers:
    """Return the fields that tell another server who sends a request (client-go `transport.SetAuthProxyHeaders`).

    Raises ValueError for a name that cannot be sent in a field.
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
