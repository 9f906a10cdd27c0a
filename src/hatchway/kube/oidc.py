"""Gets tokens for `auth-provider: oidc` of a kubeconfig (client-go `plugin/pkg/client/auth/oidc`).

The id-token in the kubeconfig is used while it is valid. After that, the issuer is asked for a new id-token with the
refresh-token. The new tokens are written back to the kubeconfig, so that kubectl and other programs can use them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import ssl
import time
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, urlencode, urljoin, urlsplit

from hatchway import __version__
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig
from hatchway.kube.dial import Dialer
from hatchway.kube.envproxy import from_environment
from hatchway.kube.execplugin import ApiCredential
from hatchway.kube.http import HttpAnswer, HttpClient
from hatchway.kube.serversettings import Oidc, Settings
from hatchway.kube.tls import client_context
from hatchway.proxy.routing import ProxyError, Upstream

# A token that expires within this many seconds is renewed first (golang.org/x/oauth2's expiryDelta).
_NEAR_END = 10.0
_PATIENCE = 30.0
_LARGEST = 1 << 20
# The maximum number of redirects that are followed, as in Go's net/http.
_REDIRECTS = 10
_LOG_IN_AGAIN = "log in again where this kubeconfig comes from; it holds tokens of an OpenID Connect provider"


class _Problem(Exception):
    """The issuer gave no token. The message is the end of a sentence that begins with "the issuer URL"."""


def valid_token(oidc: Oidc) -> ApiCredential | None:
    """Return the kubeconfig's id-token if it is still valid, else None."""
    expires = _expiry(oidc.id_token)
    if expires is None or time.time() + _NEAR_END >= expires:
        return None
    return ApiCredential(token=oidc.id_token, expires=expires)


async def obtain(settings: Settings) -> ApiCredential:
    """Return a valid id-token: the kubeconfig's, or a new one from the issuer, which is written to the kubeconfig.

    Raises HatchwayError.
    """
    known = settings.oidc
    assert known is not None
    # Read the file again: another program may have renewed the token, and a refresh-token often works only once.
    config = await asyncio.to_thread(kubeconfig.update_auth_provider, known.file, known.user, lambda now: now)
    oidc = known.updated(config)
    if oidc.id_token and _expiry(oidc.id_token) is None:
        raise _failure(settings, f'the id-token of user "{oidc.user}" is not a valid JWT', _LOG_IN_AGAIN)
    if (credential := valid_token(oidc)) is not None:
        return credential
    if not oidc.refresh_token:
        raise _failure(
            settings,
            f'the id-token of user "{oidc.user}" has expired, and there is no refresh-token to renew it',
            _LOG_IN_AGAIN,
        )
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await _refresh(oidc)
    except TimeoutError:
        raise _failure(
            settings, f"the issuer {oidc.issuer} does not answer", "is it running, and is the VPN connected?"
        ) from None
    except _Problem as error:
        raise _failure(settings, f"the issuer {oidc.issuer} {error}", _LOG_IN_AGAIN) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise _failure(
            settings, f"the issuer {oidc.issuer} cannot be used: {why}", "is it running, and is the VPN connected?"
        ) from error
    token = str(answer["id_token"])
    changed = {"id-token": token}
    if answer.get("refresh_token"):
        changed["refresh-token"] = str(answer["refresh_token"])
    await asyncio.to_thread(kubeconfig.update_auth_provider, oidc.file, oidc.user, lambda now: {**now, **changed})
    expires = _expiry(token)
    if expires is None:
        raise _failure(settings, f"the issuer {oidc.issuer} gave an id_token that is not a valid JWT")
    return ApiCredential(token=token, expires=expires)


def _failure(settings: Settings, what: str, hint: str = "") -> HatchwayError:
    return HatchwayError(f"{settings.label}: {what}", hint)


def _expiry(token: str) -> float | None:
    """Return when a JWT expires, in POSIX seconds; 0 when it has no expiry; None when the text is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        claims = json.loads(payload)
        return float(claims.get("exp") or 0) if isinstance(claims, dict) else None
    except (binascii.Error, ValueError, TypeError):
        return None


class _RequestRefused(_Problem):
    """The issuer has refused the request. It may accept the same credentials in another part of the request."""


async def _refresh(oidc: Oidc) -> dict[str, Any]:
    """Return the issuer's answer to the refresh-token. Raises _Problem or OSError."""
    try:
        ca = oidc.ca if isinstance(oidc.ca, bytes) or oidc.ca is None else oidc.ca.read_bytes()
        context = client_context(ca, None, None, insecure=False)
    except (OSError, ValueError) as error:
        raise _Problem(f"cannot be verified: its idp-certificate-authority cannot be used: {error}") from error
    client = _IssuerClient(context)
    try:
        endpoint = await _token_endpoint(client, oidc.issuer)
        form = {"grant_type": "refresh_token", "refresh_token": oidc.refresh_token}
        # As in golang.org/x/oauth2: first try with the client's credentials in the header, which RFC 6749 recommends,
        # then in the body.
        pair = f"{quote_plus(oidc.client_id)}:{quote_plus(oidc.client_secret)}".encode()
        header = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        try:
            return await _token(client, endpoint, form, header)
        except _RequestRefused:
            form["client_id"] = oidc.client_id
            if oidc.client_secret:
                form["client_secret"] = oidc.client_secret
            return await _token(client, endpoint, form, {})
    except ProxyError as error:
        raise _Problem(f"cannot be reached: {error.message}") from error
    finally:
        await client.aclose()


class _IssuerClient:
    """Sends requests to an issuer, through the proxy of the environment variables if set, and follows redirects."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._http = HttpClient()

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._http.aclose()

    async def ask(self, method: str, url: str, content: bytes, fields: dict[str, str]) -> tuple[int, bytes]:
        """Return the status and the body of the answer, after following redirects as Go's net/http does.

        Raises _Problem, or ProxyError when no answer came.
        """
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise _Problem(f"cannot be reached: {url!r} is not a valid URL")
            answer = await self._http.ask(
                self._upstream(parts), method, _head(method, parts, content, fields), content, _PATIENCE
            )
            try:
                location = answer.field(b"location") if answer.status in (301, 302, 303, 307, 308) else None
                if location is None:
                    return answer.status, await self._body(answer)
            finally:
                answer.leave()
            target = urljoin(url, location.decode(errors="replace"))
            if urlsplit(target).hostname != parts.hostname:
                # Credentials must not be sent to another host.
                fields = {name: value for name, value in fields.items() if name != "Authorization"}
            if answer.status in (301, 302, 303) and method != "GET":
                method, content = "GET", b""
            url = target
        raise _Problem(f"redirects more than {_REDIRECTS} times")

    async def _body(self, answer: HttpAnswer) -> bytes:
        body = bytearray()
        async for piece in answer.pieces(_PATIENCE):
            body += piece
            if len(body) > _LARGEST:
                raise _Problem(f"answered with more than {_LARGEST} bytes")
        return bytes(body)

    def _upstream(self, parts: SplitResult) -> Upstream:
        assert parts.hostname is not None
        tls = parts.scheme == "https"
        try:
            port = parts.port or (443 if tls else 80)
            proxy = from_environment(parts, os.environ)
            dialer = Dialer(
                parts.hostname, port, proxy, proxy_tls=self._context if proxy.startswith("https:") else None
            )
        except (ValueError, HatchwayError) as error:
            raise _Problem(f"cannot be reached: {error}") from error
        key = ("issuer", parts.scheme, parts.hostname, port)
        return Upstream(key, dialer, self._context if tls else None, parts.hostname.rstrip("."))


def _head(method: str, parts: SplitResult, content: bytes, fields: dict[str, str]) -> bytes:
    host = parts.netloc.rpartition("@")[2]
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host if host.isascii() else host.encode('idna').decode()}",
        f"User-Agent: hatchway/{__version__}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    if any(character in line for line in lines for character in "\r\n\0"):
        raise _Problem(f"cannot be reached: {parts.geturl()!r} is not a valid URL")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _token_endpoint(client: _IssuerClient, issuer: str) -> str:
    """Return the issuer's token endpoint (OpenID Connect Discovery 1.0, section 4)."""
    accept = {"Accept": "application/json"}
    status, body = await client.ask("GET", issuer.removesuffix("/") + "/.well-known/openid-configuration", b"", accept)
    if status != 200:
        raise _Problem(f"answers {status} when it is asked for its configuration: {_short(body)}")
    try:
        endpoint = json.loads(body)["token_endpoint"]
    except (ValueError, KeyError, TypeError):
        endpoint = None
    if not endpoint or not isinstance(endpoint, str):
        raise _Problem("names no token_endpoint in its configuration")
    return endpoint


async def _token(client: _IssuerClient, endpoint: str, form: dict[str, str], header: dict[str, str]) -> dict[str, Any]:
    """Ask the issuer for a token with a refresh token (RFC 6749, section 6)."""
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **header}
    status, body = await client.ask("POST", endpoint, urlencode(form).encode(), fields)
    try:
        found = json.loads(body)
    except ValueError:
        found = dict(parse_qsl(body.decode(errors="replace")))
    if not isinstance(found, dict):
        found = {}
    if not 200 <= status < 300 or found.get("error"):
        said = " ".join(str(found[key]) for key in ("error", "error_description") if found.get(key))
        raise _RequestRefused(f"refused to renew the token ({status}): {said or _short(body)}")
    if not found.get("access_token"):
        raise _Problem("answered without an access_token")
    if not isinstance(found.get("id_token"), str):
        raise _Problem(
            'answered without an id_token: either the scope "openid" was not requested at login, or it gives none when '
            "a token is renewed"
        )
    return found


def _short(body: bytes) -> str:
    text = " ".join(body[:200].decode(errors="replace").split())
    return text[:80] + "..." if len(text) > 80 else text or "nothing more"
