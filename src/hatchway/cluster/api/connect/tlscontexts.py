"""Makes TLS contexts for servers whose CA bundle is in an object of the cluster (APIServices, webhooks)."""

from __future__ import annotations

import itertools
import ssl
from collections import OrderedDict
from pathlib import Path

from hatchway.cluster.api.work import run_apart

__all__ = ["TlsContexts"]

# The maximum number of cached TLS contexts. Each needs tens of kilobytes.
_CONTEXTS = 32

_Made = tuple[int, ssl.SSLContext]


class TlsContexts:
    """Makes TLS contexts, and caches the most recent ones.

    certificate, key: the files of the client certificate; None to send none.
    """

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        self._files = (certificate, key)
        self._numbers = itertools.count()
        self._kept: OrderedDict[tuple[bytes, bool], _Made] = OrderedDict()

    def get(self, bundle: bytes, insecure: bool) -> _Made:
        """Return the context for these settings, and a number that identifies it.

        The number is for keys of connection pools: connections must not be shared if their servers were verified in
        different ways. Raises ValueError when the bundle is not valid.

        bundle: certificates in PEM; b"" for the system's CAs.
        insecure: True to skip the verification of the server's certificate.
        """
        return self._find(bundle, insecure) or self._keep(bundle, insecure, self._make(bundle, insecure))

    async def get_soon(self, bundle: bytes, insecure: bool) -> _Made:
        """Return and raise like `get`. A new context is made on a thread, because a long bundle takes much time."""
        found = self._find(bundle, insecure)
        if found is None:
            context = await run_apart(self._make, bundle, insecure)
            found = self._find(bundle, insecure) or self._keep(bundle, insecure, context)
        return found

    def _find(self, bundle: bytes, insecure: bool) -> _Made | None:
        found = self._kept.get((bundle, insecure))
        if found is not None:
            self._kept.move_to_end((bundle, insecure))
        return found

    def _keep(self, bundle: bytes, insecure: bool, context: ssl.SSLContext) -> _Made:
        made = self._kept[bundle, insecure] = next(self._numbers), context
        if len(self._kept) > _CONTEXTS:
            self._kept.popitem(last=False)
        return made

    def _make(self, bundle: bytes, insecure: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self._files
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif bundle:
            try:
                context.load_verify_locations(cadata=bundle.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise ValueError(f"unable to load root certificates: {error}") from error
        else:
            context.load_default_certs()
        return context
