from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.pulling.pullerror import explain_body, refusal


def errors(*entries: object) -> bytes:
    return json.dumps({"errors": entries}).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (errors({"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}), "manifest unknown"),
        (
            errors({"code": "DENIED", "message": "requested access to the resource is denied", "detail": [{"x": 1}]}),
            "denied: requested access to the resource is denied",
        ),
        (errors({"code": "NAME_UNKNOWN", "message": "", "detail": "repo gone"}), "name unknown: repo gone"),
        (errors({"code": "A", "message": "x"}, {"code": "B"}), "a: x; b"),
        (errors(1, None, {"code": 2}), ""),
        (b'{"details":"incorrect username or password"}', "incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"gone"}', "invalid_grant: gone"),
        (b"<html><body>502</body></html>", ""),
        (b"plain  text\n", "plain text"),
        (b"\x1b[31mred", "?[31mred"),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_reasons_in_the_words_of_registries(body: bytes, words: str) -> None:
    assert explain_body(400, body) == words


@given(st.binary(max_size=2000), st.integers(300, 599))
def test_any_answer_gives_a_short_line(body: bytes, status: int) -> None:
    error = refusal(status, body, "a.test/x:1", "a.test", with_credentials=False)
    assert error.message.isprintable()
    assert len(error.message) < 1000
    assert error.retryable == (status >= 500 or status in (408, 429))


def test_long_texts_are_shortened() -> None:
    body = errors(*({"code": "X" * 10_000, "message": "y" * 10_000} for _ in range(1000)))
    assert len(explain_body(400, body)) <= 403
