from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.rewrite.page import TAG_LIMIT, PageRewriter
from tests.unit.rewrite.pieces import HOST, PREFIX, in_pieces, rule, whole

SCRIPT = b"<script>S</script>"


def fragment() -> PageRewriter:
    return PageRewriter(rule(), SCRIPT, whole=False)


def document() -> PageRewriter:
    return PageRewriter(rule(), SCRIPT, whole=True)


def unknown() -> PageRewriter:
    return PageRewriter(rule(), SCRIPT, whole=None)


def under(text: str) -> bytes:
    return text.encode().replace(b"P/", PREFIX + b"/")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<img src=/a srcset='/a 1x, /b 2x'>", "<img src=P/a srcset='P/a 1x, P/b 2x'>"),
        ("<link rel=preload imagesrcset='/a 1x' href=/c>", "<link rel=preload imagesrcset='P/a 1x' href=P/c>"),
        ("<p style=\"background:url('/x')\">", "<p style=\"background:url('P/x')\">"),
        ("<style>a{b:url(/x)}</style>", "<style>a{b:url(P/x)}</style>"),
        ("<meta http-equiv=refresh content='5; url=/x'>", "<meta http-equiv=refresh content='5; url=P/x'>"),
        ("<meta content=\"0;URL='/x'\" http-equiv=Refresh>", "<meta content=\"0;URL='P/x'\" http-equiv=Refresh>"),
        ("<meta name=x content='5; url=/x'>", "<meta name=x content='5; url=/x'>"),
        ("<meta name=referrer content=no-referrer>", "<meta name=referrer content=same-origin>"),
        ("<svg><use xlink:href='/i.svg#a'/><image href=/b /></svg>", "<svg><use xlink:href='P/i.svg#a'/><image "
                                                                     "href=P/b /></svg>"),
        ("<track src=/t><button formaction=/f><portal src=/p>", "<track src=P/t><button formaction=P/f><portal "
                                                                "src=P/p>"),
        ("<a ping='/p /q' href=#x>", "<a ping='P/p P/q' href=#x>"),
        ("<base href=/>", "<base href=P/>"),
        ("<a href='/a' href='/b'>", "<a href='P/a' href='/b'>"),
        ("<script src=/a.js integrity=sha256-x defer></script>", "<script src=P/a.js  defer></script>"),
        ("<script src=a.js integrity=sha256-x></script>", "<script src=a.js ></script>"),
        (
            "<script src=https://cdn.example.com/a.js integrity=sha256-x></script>",
            "<script src=https://cdn.example.com/a.js integrity=sha256-x></script>",
        ),
        ("<script type=module>import '/a'</script>", "<script type=module>import 'P/a'</script>"),
        ("<script>import('/a')</script>", "<script>import('P/a')</script>"),
        ("<script src=x>import('/a')</script>", "<script src=x>import('/a')</script>"),
        ("<script type=text/template><a href=/x></script>", "<script type=text/template><a href=/x></script>"),
        ("<textarea><a href=/x></textarea>", "<textarea><a href=/x></textarea>"),
        ("<title>a{b:url(/x)}</title>", "<title>a{b:url(/x)}</title>"),
        ("<!-- <a href=/x> -->", "<!-- <a href=/x> -->"),
    ],
)  # fmt: skip
def test_elements(source: str, expected: str) -> None:
    assert whole(fragment, source.encode()) == under(expected)
    assert whole(fragment, under(expected)) == under(expected)


def test_own_hosts() -> None:
    assert whole(fragment, b'<base href="https://%b/x/">' % HOST) == b'<base href="%b/x/">' % PREFIX


def test_import_maps() -> None:
    source = {
        "imports": {"a": "/a.js", "/b/": "/c/", "d": "./d.js"},
        "scopes": {"/s/": {"a": "/e.js"}},
        "integrity": {},
    }
    page = b"<script type=importmap>" + json.dumps(source).encode() + b"</script>"
    found = whole(fragment, page).removeprefix(b"<script type=importmap>").removesuffix(b"</script>")
    prefix = PREFIX.decode()
    assert json.loads(found) == {
        "imports": {"a": prefix + "/a.js", prefix + "/b/": prefix + "/c/", "d": "./d.js"},
        "scopes": {prefix + "/s/": {"a": prefix + "/e.js"}},
    }
    broken = b"<script type=importmap>{ /a </script>"
    assert whole(fragment, broken) == broken


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<!DOCTYPE html><html><head lang=x><title>", "<!DOCTYPE html><html><head lang=x>S<title>"),
        ("<html><body><p>", "<html>S<body><p>"),
        ("<!-- c --><title>x", "<!-- c -->S<title>x"),
        ("<p>a", "S<p>a"),
        ("plain text", "plain text"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_the_place_of_the_inserted_script(page: str, expected: str) -> None:
    assert whole(document, page.encode()) == expected.encode().replace(b"S", SCRIPT)


@pytest.mark.parametrize(
    ("page", "has"),
    [
        ("<!doctype html><p>", True),
        ("<html><p>", True),
        ("<head><p>", True),
        ("<body><p>", True),
        ("<p>a</p>", False),
        ("<div><body>", False),
        ("", False),
    ],
)
def test_fragments_get_no_script(page: str, has: bool) -> None:
    assert (SCRIPT in whole(unknown, page.encode())) is has
    assert SCRIPT not in whole(fragment, page.encode())


def test_inline_scripts_without_a_hash_in_the_policy_are_not_changed() -> None:
    page = (
        b"<meta http-equiv=content-security-policy content=\"script-src 'sha256-AAAA'\"><script>import('/a')</script>"
    )
    found = whole(fragment, page)
    assert found.startswith(
        b'<meta http-equiv=content-security-policy content="script-src &#x27;sha256-AAAA&#x27; &#x27;nonce-'
    )
    assert found.endswith(b"><script>import('/a')</script>")


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_a_script_with_a_hash_in_the_policy_is_changed_and_gets_the_nonce(name: str) -> None:
    text = b"import('/a')"
    digest = base64.b64encode(hashlib.new(name, text).digest()).decode()
    page = f"<meta http-equiv=content-security-policy content=\"script-src '{name}-{digest}'\"><script id=x>".encode()
    page += text + b"</script><script>import('/b')</script><script>same()</script>"
    found = whole(fragment, page)
    nonce = re.search(rb"nonce-([\w-]+)", found)
    assert nonce is not None
    changed = b"<script id=x nonce=\"%s\">import('%s/a')</script>" % (nonce[1], PREFIX)
    assert found.endswith(changed + b"<script>import('/b')</script><script>same()</script>")


@pytest.mark.parametrize(
    "src", ["/a.js", "https://cdn.example.com/a.js", "\\\\evil.example/a.js", "/\t/evil.example/a.js"]
)
def test_a_file_that_was_not_checked_gets_no_nonce(src: str) -> None:
    page = (
        "<meta http-equiv=content-security-policy content=\"script-src 'sha256-AAAA'\">"
        f"<script src='{src}' integrity='sha256-AAAA'></script>"
    )
    out = document()
    element = (out.feed(page.encode()) + out.finish()).rpartition(b"<script")[2]
    assert b"nonce" not in element
    # A file of another server is not changed by the rewriting, so the element keeps its checksum.
    assert (b"integrity='sha256-AAAA'" in element) == (src != "/a.js")


def test_code_in_attributes() -> None:
    page = b"<a onclick='x=&quot;a&quot;+location.href' href=javascript:f(location.href)>"
    helper = b"(globalThis.__hatchway||(_&#61;&#62;_))(location)"
    assert whole(fragment, page) == (
        b"<a onclick='x&#61;&#34;a&#34;+" + helper + b".href' href=javascript:f(" + helper + b".href)>"
    )
    assert whole(fragment, b"<a onclick='f(\"&amp;\")'>") == b"<a onclick='f(\"&amp;\")'>"


def test_a_tag_that_is_too_long_is_not_changed() -> None:
    page = b"<a title='" + b"x" * TAG_LIMIT + b"' href=/x><a href=/y>"
    found = whole(fragment, page)
    assert found == page.replace(b"/y", PREFIX + b"/y")
    assert in_pieces(fragment, page, [10, 5000, TAG_LIMIT - 1, TAG_LIMIT + 5, TAG_LIMIT + 16]) == found


FRAGMENTS = st.sampled_from(
    [
        "<!doctype html>", "<html>", "<head>", "<body>", "<a href='/x'>", "<a href=", '"', "'", "/y", ">",
        "<script>", "</script>",
        "<script type=module>", "import '/a';", "location.href", "<style>", "a{b:url(/x)}", "</style>",
        "<!--", "-->", "<", "</",
        "<p style='background:url(/z)'>", "<script type=importmap>", '{"imports":{"a":"/b"}}', "text", " ", "\n",
        "<img srcset='/a 1x,/b 2x'>",
        "<meta http-equiv=refresh content='0;url=/x'>", "<script src=/x integrity=sha256-y>",
        "=", "<title>", "</title>", "&#47;",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(FRAGMENTS, max_size=25),
    st.lists(st.integers(0, 1000), max_size=8),
    st.sampled_from([document, unknown, fragment]),
)
def test_pieces_make_no_difference(parts: list[str], cuts: list[int], make: object) -> None:
    text = "".join(parts).encode()
    assert callable(make)
    assert in_pieces(make, text, cuts) == whole(make, text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes(text: bytes, cuts: list[int]) -> None:
    assert in_pieces(document, text, cuts) == whole(document, text)
