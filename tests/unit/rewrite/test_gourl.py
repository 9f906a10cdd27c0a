"""Go's URLs: the answers of Go (gourl.json, Go 1.19), and properties of all texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.rewrite.gourl import GoURLError, clean, escape_path, join, join_location, parse, unescape

ANSWERS = json.loads(Path(__file__).with_name("gourl.json").read_text())
BASE = b"/api/v1/x/proxy"
PIECES = [
    b"/", b"//", b".", b"..", b"%2F", b"%2e", b"%00", b"%", b"%zz", b"a", b"!", b" ",
    b"[", b":", b"?", b"#", b"@", b"\xe3\x81\x82", b"http:", b"\n",
]  # fmt: skip
texts = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))


def told(value: str) -> bytes:
    return value.encode("latin-1")


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: repr(answer["text"]))
def test_recorded_answers_of_go(answer: dict[str, object]) -> None:
    text, parsed = told(str(answer["text"])), answer["parsed"]
    assert isinstance(parsed, dict)
    if "error" in parsed:
        with pytest.raises(GoURLError) as error:
            parse(text)
        assert str(error.value) == parsed["error"]
    else:
        assert (bytes(parse(text)), parse(text).path) == (told(parsed["string"]), told(parsed["path"]))
    assert escape_path(text) == told(str(answer["escaped"]))
    assert join_location(BASE, text) == told(str(answer["joined"]))
    if answer["unescaped"] is None:
        with pytest.raises(GoURLError):
            unescape(text)
    else:
        assert unescape(text) == told(str(answer["unescaped"]))


@given(texts)
def test_an_escaped_path_is_unescaped_to_the_same_path(path: bytes) -> None:
    written = escape_path(path)
    assert unescape(written) == path or b"%" not in written
    assert escape_path(unescape(written)) == written
    assert written.isascii() and not set(written) & set(b' \r\n?#"<>')


@given(texts)
def test_a_formatted_url_is_equal_after_parsing_and_formatting(text: bytes) -> None:
    try:
        url = parse(text)
    except GoURLError:
        return
    once = bytes(url)
    if once.startswith(b"//") and not url.host and url.user is None:
        return  # A path that begins with two slashes (`/%2f a`) is parsed as a host after formatting, in Go, too.
    assert bytes(parse(once)) == once


@given(texts, texts)
def test_cleaned_paths_are_stable_and_below_their_root(one: bytes, other: bytes) -> None:
    for found in (clean(b"/" + one), join(b"/", one, other), clean(one)):
        assert clean(found) == found
        assert b"//" not in found
    assert b".." not in clean(b"/" + one).split(b"/")
