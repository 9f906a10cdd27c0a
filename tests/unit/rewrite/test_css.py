from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.rewrite.css import URL_LIMIT, CssRewriter, rewrite_srcset, rewrite_style
from tests.unit.rewrite.pieces import HOST, PREFIX, in_pieces, rule, whole


def rewriter() -> CssRewriter:
    return CssRewriter(rule())


def under(text: str) -> bytes:
    return text.encode().replace(b"P/", PREFIX + b"/")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a{b:url(/x)}", "a{b:url(P/x)}"),
        ("a{b:URL( '/x' )}", "a{b:URL( 'P/x' )}"),
        ('a{b:url("/x?a=b#c")}', 'a{b:url("P/x?a=b#c")}'),
        ("a{b:url(/x ), url(/y)}", "a{b:url(P/x ), url(P/y)}"),
        ('@import "/x.css";@import url(/y.css) screen;', '@import "P/x.css";@import url(P/y.css) screen;'),
        ("@import'/x.css'", "@import'P/x.css'"),
        ("a{b:url(x)}", "a{b:url(x)}"),
        ("a{b:url(//cdn.example.com/x)}", "a{b:url(//cdn.example.com/x)}"),
        ("a{b:url(data:image/*;,x/*)}c{d:url(/y)}", "a{b:url(data:image/*;,x/*)}c{d:url(P/y)}"),
        ("a{b:url('data:image/svg+xml,<a href=\"/x\">')}", "a{b:url('data:image/svg+xml,<a href=\"/x\">')}"),
        ("/* url(/x) */a{content:'url(/y)'}", "/* url(/x) */a{content:'url(/y)'}"),
        ("a{b:my-url(/x)}", "a{b:my-url(/x)}"),
        ("@importance '/x'", "@importance '/x'"),
        ("a{b:'\nc:url(/x)}", "a{b:'\nc:url(P/x)}"),
        ("a{b:url(/a\\)b)}", "a{b:url(/a\\)b)}"),
    ],
)
def test_urls(source: str, expected: str) -> None:
    assert whole(rewriter, source.encode()) == under(expected)


FRAGMENTS = st.sampled_from(
    [
        "url(",
        "URL('",
        "@import ",
        '"',
        "'",
        "/x",
        ")",
        "/*",
        "*/",
        "\\",
        " ",
        "\n",
        "a{b:",
        "}",
        "data:,",
        "//h/",
        "u",
        "@",
    ]
)


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=30), st.lists(st.integers(0, 200), max_size=8))
def test_pieces_make_no_difference(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts).encode()
    assert in_pieces(rewriter, text, cuts) == whole(rewriter, text)


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=30))
def test_rewriting_is_idempotent_and_only_adds_the_prefix(parts: list[str]) -> None:
    text = "".join(parts).encode()
    once = whole(rewriter, text)
    assert once.replace(PREFIX, b"") == text
    assert whole(rewriter, once) == once


def test_long_urls_are_not_changed() -> None:
    text = b"a{b:url(/" + b"x" * (2 * URL_LIMIT) + b");c:url(/y)}"
    found = whole(rewriter, text)
    assert found == text.replace(b"url(/y)", b"url(" + PREFIX + b"/y)")
    assert in_pieces(rewriter, text, list(range(0, len(text), 1000))) == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/a.png", "P/a.png"),
        ("/a.png 1x, /b.png 2x", "P/a.png 1x, P/b.png 2x"),
        ("/a.png, /b.png 2x", "P/a.png, P/b.png 2x"),
        (" /a,b.png 100w,\n c.png 200w", " P/a,b.png 100w,\n c.png 200w"),
        ("data:image/png;base64,AA== 1x, /b 2x", "data:image/png;base64,AA== 1x, P/b 2x"),
        ("", ""),
    ],
)
def test_srcset(value: str, expected: str) -> None:
    assert rewrite_srcset(value.encode(), rule()) == under(expected)
    assert rewrite_srcset(under(expected), rule()) == under(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("color:red", "color:red"),
        ("background:url(/x)", "background:url(P/x)"),
        ("background:url(&quot;/x&quot;),url('/y')", "background:url(&quot;P/x&quot;),url('P/y')"),
        ("background:url(&#39;/x&#39;)", "background:url(&#39;P/x&#39;)"),
        (f"background:url(http://{HOST.decode()}/x)", "background:url(P/x)"),
        ("background:url(x)", "background:url(x)"),
    ],
)
def test_style(value: str, expected: str) -> None:
    assert rewrite_style(value.encode(), rule()) == under(expected)
