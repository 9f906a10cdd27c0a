"""Pages without a Content-Type are recognized by their first bytes, as in browsers."""

from __future__ import annotations

import gzip

import pytest

from hatchway.rewrite.prefix import PrefixRewriter
from hatchway.rewrite.sniff import LIMIT, is_html

PREFIX = b"/api/v1/namespaces/shop/services/web/proxy"
NAVIGATION = [(b"Sec-Fetch-Dest", b"document"), (b"Accept", b"text/html")]


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b"<!doctype html>", True),
        (b"\n\t <!DOCTYPE HTML PUBLIC", True),
        (b"<html>", True),
        (b"<HTML lang=en>", True),
        (b"<h1>hello", True),
        (b"<p>x", True),
        (b"<!-- x", True),
        (b"<a href=/x>", True),
        (b"<body ", True),
        (b"<article>", False),
        (b"<h2>hello", False),
        (b"hello <html>", False),
        (b"<?xml version='1.0'?><html>", False),
        (b"\xef\xbb\xbf<html>", False),
        (b"{}", False),
        (b"%PDF-1.7 <html>", False),
        (b"", None),
        (b"  \n", None),
        (b"<", None),
        (b"<!doc", None),
        (b"<html", None),
        (b" " * LIMIT, False),
    ],
)
def test_beginnings(beginning: bytes, expected: bool | None) -> None:
    assert is_html(beginning) is expected


def edited(body: bytes, *fields: tuple[bytes, bytes], request: list[tuple[bytes, bytes]] = NAVIGATION) -> bytes:
    rewriter = PrefixRewriter(PREFIX, b"prefix.localhost:8001", b"web:80")
    rewriter.edit_request(list(request))
    transform = rewriter.edit_response(200, list(fields))
    if transform is None:
        return body
    return b"".join([*map(transform.feed, [body[:1], body[1:9], body[9:]]), transform.finish()])


PAGE = b"<!DOCTYPE html><a href='/x'>x</a>"
REWRITTEN = b"<a href='" + PREFIX + b"/x'>x</a>"


@pytest.mark.parametrize("kind", [None, b"", b"*/*", b"unknown/unknown", b"application/unknown; charset=x"])
def test_a_page_without_a_type_is_a_page(kind: bytes | None) -> None:
    found = edited(PAGE, *([] if kind is None else [(b"Content-Type", kind)]))
    assert found.endswith(REWRITTEN) and b"<script>" in found


def test_a_compressed_page_without_a_type() -> None:
    found = gzip.decompress(edited(gzip.compress(PAGE), (b"Content-Encoding", b"gzip")))
    assert found.endswith(REWRITTEN) and b"<script>" in found


@pytest.mark.parametrize(
    ("body", "fields", "request_fields"),
    [
        (PAGE, [(b"X-Content-Type-Options", b"nosniff")], NAVIGATION),
        (PAGE, [(b"X-Content-Type-Options", b"NoSniff, x")], NAVIGATION),
        (PAGE, [(b"Content-Type", b"text/plain")], NAVIGATION),
        (PAGE, [(b"Content-Type", b"application/octet-stream")], NAVIGATION),
        (PAGE, [], [(b"Sec-Fetch-Dest", b"empty"), (b"Accept", b"*/*")]),
        (PAGE, [], [(b"Sec-Fetch-Dest", b"image")]),
        (PAGE, [], [(b"Accept", b"*/*")]),
        (b'{"href": "/x"}', [], NAVIGATION),
        (b"", [], NAVIGATION),
        (b"<", [], NAVIGATION),
    ],
)
def test_responses_that_a_browser_does_not_show_as_a_page_are_not_changed(
    body: bytes, fields: list[tuple[bytes, bytes]], request_fields: list[tuple[bytes, bytes]]
) -> None:
    assert edited(body, *fields, request=request_fields) == body


def test_a_style_sheet_without_a_type() -> None:
    body = b"a { background: url(/x.png) }"
    assert PREFIX + b"/x.png" in edited(body, request=[(b"Sec-Fetch-Dest", b"style")])
