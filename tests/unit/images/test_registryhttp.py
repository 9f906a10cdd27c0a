from __future__ import annotations

import pytest

from hatchway.images.pulling import registryauth
from hatchway.images.pulling.credentials import Credential
from hatchway.images.pulling.registryauth import TokenCache
from hatchway.images.pulling.registryhttp import LONGEST_DELAY, delay_before, unreachable
from hatchway.proxy.routing import ProxyError


@pytest.mark.parametrize(
    ("stage", "message", "reason", "kind", "advice"),
    [
        (
            "dial",
            "lookup failed: name or service not known",
            'failed to do request: Get "https://r.test/v2/": dial tcp: lookup r.test: no such host',
            "unreachable",
            "is r.test right?",
        ),
        (
            "dial",
            "lookup failed: temporary failure in name resolution",
            'failed to do request: Get "https://r.test/v2/": dial tcp: lookup r.test: temporary failure in name resolution',
            "unreachable",
            "network",
        ),
        (
            "dial",
            "connection refused",
            'failed to do request: Get "https://r.test/v2/": dial tcp r.test:443: connect: connection refused',
            "unreachable",
            "network",
        ),
        (
            "dial",
            "proxy p:3128: connection refused",
            'failed to do request: Get "https://r.test/v2/": proxyconnect tcp: proxy p:3128: connection refused',
            "unreachable",
            "HTTPS_PROXY",
        ),
        (
            "tls",
            "tls: failed to verify certificate: unable to get local issuer certificate",
            'failed to do request: Get "https://r.test/v2/": tls: failed to verify certificate: unable to get local issuer certificate',
            "unreachable",
            '[registry."r.test"]',
        ),
        (
            "tls",
            "tls: wrong version number",
            'failed to do request: Get "https://r.test/v2/": http: server gave HTTP response to HTTPS client',
            "unreachable",
            "--insecure-registry r.test",
        ),
        ("read", "EOF", 'failed to do request: Get "https://r.test/v2/": EOF', "unavailable", ""),
    ],
)
def test_errors_about_unreachable_registries(stage: str, message: str, reason: str, kind: str, advice: str) -> None:
    error = unreachable(ProxyError(stage, message), "GET", "https://r.test/v2/?token=secret", "r.test")
    assert error.reason == reason
    assert error.kind == kind
    assert advice in error.hint
    assert error.retryable


def test_delays() -> None:
    first, second, third = (delay_before(attempt) for attempt in (1, 2, 3))
    assert first and second and third and first < second < third
    assert delay_before(1, 7.0) == 7.0
    assert delay_before(1, LONGEST_DELAY + 1) is None


def key(number: int) -> tuple[str, str, str, str, Credential | None]:
    return ("r.test", "https://r.test/token", "service", f"repository:{number}:pull", None)


def test_the_number_of_cached_tokens_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = TokenCache()
    for number in range(1000):
        tokens.put(key(number), f"token{number}", 300)
        assert tokens.get(key(0)) == "token0", "a token that is used stays in the cache"
    kept = [number for number in range(1000) if tokens.get(key(number))]
    assert len(kept) == 64
    assert kept[-1] == 999


def test_cached_tokens_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(registryauth.time, "monotonic", lambda: now)
    tokens = TokenCache()
    tokens.put(key(1), "short", 60)
    tokens.put(key(2), "long", 1e300)
    now = 149.0
    assert tokens.get(key(1)) == "short"
    now = 151.0
    assert tokens.get(key(1)) is None, "the cache drops a token before the server does"
    now = 4000.0
    assert tokens.get(key(2)) is None
