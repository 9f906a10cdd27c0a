from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.images.pulling.challenge import parse_challenges

HUB = b'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"'


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (
            [HUB],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/nginx:pull",
                    },
                )
            ],
        ),
        ([b"Basic"], [("basic", {})]),
        ([b'Basic realm="a, b=\\"c\\""'], [("basic", {"realm": 'a, b="c"'})]),
        ([b"Bearer realm=https://x/y?z,service=s"], [("bearer", {"realm": "https://x/y?z", "service": "s"})]),
        ([b'Basic realm="x", Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ([b"Negotiate", b'Basic REALM = "x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        ([b""], []),
        ([b'Bearer realm="unterminated'], [("bearer", {})]),
    ],
)
def test_challenges(values: list[bytes], found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in parse_challenges(values)][: len(found)] == found


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes(values: list[bytes]) -> None:
    parse_challenges(values)


@pytest.mark.parametrize(
    "value", [b"," * 100_000, b'a="' * 50_000, b"x " * 50_000, b'B a="' + b"\\" * 90_000, b'B a="b",' * 9999]
)
def test_long_values_end_soon(value: bytes) -> None:
    found = parse_challenges([value] * 50)
    assert sum(len(one.parameters) for one in found) < 10_000
