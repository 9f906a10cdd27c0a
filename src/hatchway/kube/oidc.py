"""`auth-provider: oidc` of a kubeconfig (client-go `plugin/pkg/client/auth/oidc`): Dex, Kubermatic, OpenUnison and others.

The id-token is sent while it is valid, then the refresh-token buys another one at the issuer, and both are written
back to the kubeconfig, so that kubectl and everything else go on with them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import time
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig
from hatchway.kube.envproxy import from_environment
from hatchway.kube.execplugin import Credential
from hatchway.kube.settings import Oidc, Settings
from hatchway.kube.tls import client_context

# A token that ends sooner is renewed first (golang.org/x/oauth2's expiryDelta).
_NEAR_END = 10.0
_PATIENCE = 30.0
_LARGEST = 1 << 20
_AGAIN = "log in again where this kubeconfig comes from; it holds tokens of an OpenID Connect provider"


class _Problem(Exception):
    """Why the issuer gave no token. The text belongs behind "the issuer ..."."""


def held(oidc: Oidc) -> Credential | None:
    """The id-token of the kubeconfig while it is valid, else None."""
    expires = _expiry(oidc.id_token)
    if expires is None or time.time() + _NEAR_END >= expires:
        return None
    return Credential(token=oidc.id_token, expires=expires)


async def obtain(settings: Settings) -> Credential:
    """A valid id-token: what the kubeconfig has by now, else a fresh one from the issuer, which is written back.

    Raises HatchwayError.
    """
    known = settings.oidc
    assert known is not None
    # Another program may have renewed it since; a refresh-token often works only once.
    config = await asyncio.to_thread(kubeconfig.update_auth_provider, known.file, known.user, lambda now: now)
    oidc = known.updated(config)
    if oidc.id_token and _expiry(oidc.id_token) is None:
        raise _failure(settings, f'the id-token of user "{oidc.user}" is not a valid JWT', _AGAIN)
    if (credential := held(oidc)) is not None:
        return credential
    if not oidc.refresh_token:
        raise _failure(
            settings,
            f'the id-token of user "{oidc.user}" has expired, and there is no refresh-token to renew it',
            _AGAIN,
        )
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await _refresh(oidc)
    except TimeoutError:
        raise _failure(settings, f"the issuer {oidc.issuer} does not answer", "is it up, is the VPN?") from None
    except _Problem as error:
        raise _failure(settings, f"the issuer {oidc.issuer} {error}", _AGAIN) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise _failure(settings, f"the issuer {oidc.issuer} cannot be used: {why}", "is it up, is the VPN?") from error
    token = str(answer["id_token"])
    changed = {"id-token": token}
    if answer.get("refresh_token"):
        changed["refresh-token"] = str(answer["refresh_token"])
    await asyncio.to_thread(kubeconfig.update_auth_provider, oidc.file, oidc.user, lambda now: {**now, **changed})
    expires = _expiry(token)
    if expires is None:
        raise _failure(settings, f"the issuer {oidc.issuer} gave an id_token that is not a valid JWT")
    return Credential(token=token, expires=expires)


def _failure(settings: Settings, what: str, hint: str = "") -> HatchwayError:
    return HatchwayError(f"{settings.label}: {what}", hint)


def _expiry(token: str) -> float | None:
    """When a JWT ends, in seconds since the epoch (0 when it does not say); None for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        claims = json.loads(payload)
        return float(claims.get("exp") or 0) if isinstance(claims, dict) else None
    except (binascii.Error, ValueError, TypeError):
        return None


class _Refused(_Problem):
    """The issuer did not take the request, so that it may be made in another way."""


async def _refresh(oidc: Oidc) -> dict[str, Any]:
    """The issuer's answer to the refresh-token. Raises _Problem, OSError, or TimeoutError."""
    # Only those who have such a kubeconfig, and only when a token has ended, wait for these imports.
    import httpx2

    try:
        ca = oidc.ca if isinstance(oidc.ca, bytes) or oidc.ca is None else oidc.ca.read_bytes()
        context = client_context(ca, None, None, insecure=False)
    except (OSError, ValueError) as error:
        raise _Problem(f"cannot be verified, its idp-certificate-authority cannot be used: {error}") from error
    proxy = from_environment(urlsplit(oidc.issuer), os.environ)
    try:
        async with httpx2.AsyncClient(
            verify=context, proxy=proxy or None, trust_env=False, follow_redirects=True, timeout=_PATIENCE
        ) as client:
            endpoint = await _token_endpoint(client, oidc.issuer)
            form = {"grant_type": "refresh_token", "refresh_token": oidc.refresh_token}
            # As golang.org/x/oauth2: credentials in the header first, which RFC 6749 prefers, then in the body.
            pair = f"{quote_plus(oidc.client_id)}:{quote_plus(oidc.client_secret)}".encode()
            header = {"authorization": "Basic " + base64.b64encode(pair).decode()}
            try:
                return await _token(client, endpoint, form, header)
            except _Refused:
                form["client_id"] = oidc.client_id
                if oidc.client_secret:
                    form["client_secret"] = oidc.client_secret
                return await _token(client, endpoint, form, {})
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError) as error:
        raise _Problem(f"cannot be reached: {error or type(error).__name__}") from error


async def _token_endpoint(client: Any, issuer: str) -> str:
    """OpenID Connect Discovery 1.0, section 4."""
    status, body = await _ask(client, "GET", issuer.removesuffix("/") + "/.well-known/openid-configuration", b"", {})
    if status != 200:
        raise _Problem(f"answers {status} when it is asked for its configuration: {_short(body)}")
    try:
        endpoint = json.loads(body)["token_endpoint"]
    except (ValueError, KeyError, TypeError):
        endpoint = None
    if not endpoint or not isinstance(endpoint, str):
        raise _Problem("names no token_endpoint in its configuration")
    return endpoint


async def _token(client: Any, endpoint: str, form: dict[str, str], header: dict[str, str]) -> dict[str, Any]:
    """RFC 6749, section 6."""
    fields = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json", **header}
    status, body = await _ask(client, "POST", endpoint, urlencode(form).encode(), fields)
    try:
        found = json.loads(body)
    except ValueError:
        found = dict(parse_qsl(body.decode(errors="replace")))
    if not isinstance(found, dict):
        found = {}
    if not 200 <= status < 300 or found.get("error"):
        said = " ".join(str(found[key]) for key in ("error", "error_description") if found.get(key))
        raise _Refused(f"refused to renew the token ({status}): {said or _short(body)}")
    if not found.get("access_token"):
        raise _Problem("answered without an access_token")
    if not isinstance(found.get("id_token"), str):
        raise _Problem(
            'answered without an id_token: either the scope "openid" was not requested at login, or it gives none when a '
            "token is renewed"
        )
    return found


async def _ask(client: Any, method: str, url: str, content: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    async with client.stream(method, url, content=content or None, headers=headers) as response:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > _LARGEST:
                raise _Problem(f"answered with more than {_LARGEST} bytes")
        return response.status_code, bytes(body)


def _short(body: bytes) -> str:
    text = " ".join(body[:200].decode(errors="replace").split())
    return text[:80] + "..." if len(text) > 80 else text or "nothing more"
