"""The reason why an API server cannot be reached, and advice."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from hatchway.proxy.routing import ProxyError

# Host names and addresses of this machine.
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# OpenSSL's messages for a certificate that is not valid at this time.
_OUT_OF_TIME = ("certificate is not yet valid", "certificate has expired")


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason why the API server cannot be reached.

    since: when the first attempt failed, in POSIX seconds.
    error: the error of the last attempt.
    """

    reason: str
    hint: str
    since: float
    error: ProxyError


def advice(error: ProxyError, host: str) -> str:
    """Return advice for a person when the API server on `host` could not be reached because of `error`."""
    if error.stage == "tls" and any(words in error.message for words in _OUT_OF_TIME):
        return (
            f"this machine's clock says {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}: is that right? "
            "`hatchway down` and `hatchway up` renew the certificates of an embedded cluster"
        )
    if error.stage == "tls" and "certificate" in error.message:
        return (
            "the kubeconfig's certificate-authority, server and tls-server-name must match the server; "
            "was the cluster created again?"
        )
    if "lookup failed" in error.message:
        return "this machine cannot resolve the server's name; is the VPN connected?"
    if error.stage == "dial" and host in _LOOPBACK:
        return "is the cluster on this machine running? `hatchway up` starts an embedded cluster"
    if error.stage == "dial":
        return "is the cluster running, and is the VPN connected?"
    return "the API server may be starting or overloaded"
