"""The messages between a node and the service that pulls images."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.pulling.credentials import Credential
from hatchway.images.pullservice.pullmessages import (
    BadPullMessage,
    Pulled,
    PullFailure,
    Pulling,
    PullRequest,
    decode_answer,
    encode_answer,
)
from hatchway.images.reference import parse

_texts = st.text(max_size=20)
_credentials = st.builds(Credential, _texts, _texts, _texts, _texts, _texts)


@given(st.sampled_from(["nginx", "ghcr.io/a/b:1", "localhost:5000/x@sha256:" + "a" * 64]), st.lists(_credentials))
def test_a_request_is_equal_after_encoding_and_decoding(image: str, credentials: list[Credential]) -> None:
    request = PullRequest(parse(image), tuple(credentials))
    line = request.encode()
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert PullRequest.decode(line) == request


@given(
    st.one_of(
        st.builds(Pulling, st.integers(0, 2**50), st.integers(0, 2**50)),
        st.builds(Pulled, _texts, st.integers(0, 2**50), st.floats(0, 1e6)),
        st.builds(PullFailure, _texts),
    )
)
def test_an_answer_is_equal_after_encoding_and_decoding(answer: Pulling | Pulled | PullFailure) -> None:
    line = encode_answer(answer)
    assert line.count(b"\n") == 1 and decode_answer(line) == answer


@pytest.mark.parametrize(
    "message",
    [
        [],
        {},
        {"image": 1},
        {"image": "A B"},
        {"image": "x", "credentials": {}},
        {"image": "x", "credentials": [{"username": "u"}]},
        {"image": "x", "credentials": [{"server": "s", "other": "o"}]},
        {"image": "x", "credentials": [{"server": "s", "password": 1}]},
        {"image": "x", "credentials": ["s"]},
    ],
)
def test_invalid_requests(message: object) -> None:
    with pytest.raises(BadPullMessage):
        PullRequest.decode(json.dumps(message).encode())


@pytest.mark.parametrize(
    "line", [b"", b"\xff", b"[" * 100_000, b"{}", b'{"pulled": {}}', b'{"progress": {"done": "1"}}']
)
def test_invalid_answers(line: bytes) -> None:
    with pytest.raises(BadPullMessage):
        decode_answer(line)


def test_errors_about_requests_show_no_secret() -> None:
    with pytest.raises(BadPullMessage) as caught:
        PullRequest.decode(b'{"image": "x", "credentials": [{"server": 1, "password": "hunter2"}]}')
    assert "hunter2" not in str(caught.value)
