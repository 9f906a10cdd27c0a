from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.rewrite import encoding
from hatchway.rewrite.html import URL_ATTRIBUTES, VALUE_LIMIT, HtmlRewriter
from hatchway.rewrite.urlrules import KubernetesRule

PREFIX = b"/api/v1/namespaces/default/services/web:http/proxy"


def rewriter() -> HtmlRewriter:
    return HtmlRewriter(KubernetesRule(PREFIX, b"127.0.0.1:6443", b"10.244.1.3:8080"))


def rewritten(page: bytes) -> bytes:
    transform = rewriter()
    return transform.feed(page) + transform.finish()


def in_pieces(page: bytes, cuts: list[int]) -> bytes:
    transform = rewriter()
    edges = [0, *sorted(cut % (len(page) + 1) for cut in cuts), len(page)]
    out = [transform.feed(page[a:b]) for a, b in pairwise(edges)]
    return b"".join(out) + transform.finish()


ALL_ATTRIBUTES = sorted({name for names in URL_ATTRIBUTES.values() for name in names} | {b"srcset", b"title", b"style"})


@pytest.mark.parametrize("element", sorted(URL_ATTRIBUTES))
def test_only_the_attributes_of_the_table_are_rewritten(element: bytes) -> None:
    for attribute in ALL_ATTRIBUTES:
        page = b'<p>/x</p><%s %s="/x">' % (element, attribute)
        under = PREFIX if attribute in URL_ATTRIBUTES[element] else b""
        assert rewritten(page) == b'<p>/x</p><%s %s="%s/x">' % (element, attribute, under)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b'<a href="/x">', b'<a href="P/x">'),
        (b"<a href='/x'>", b"<a href='P/x'>"),
        (b"<a href=/x>", b"<a href=P/x>"),
        (b"<a href=/x/>", b"<a href=P/x/>"),
        (b'<A HREF = "/x" Class=c >', b'<A HREF = "P/x" Class=c >'),
        (b"<a\nhref\n=\n/x\n>", b"<a\nhref\n=\nP/x\n>"),
        (b'<a title="a>b" href="/x">', b'<a title="a>b" href="P/x">'),
        (b"<a title='\"' href=/x>", b"<a title='\"' href=P/x>"),
        (b'<a b"c href="/x">', b'<a b"c href="P/x">'),
        (b"<a x=1/href=/x>", b"<a x=1/href=/x>"),
        (b'<a x="1"href="/x">', b'<a x="1"href="P/x">'),
        (b"<img/src=/x/>", b"<img/src=P/x/>"),
        (b"<a href><a href=>/x", b"<a href><a href=>/x"),
        (b"<a =href=/x href=/y>", b"<a =href=/x href=P/y>"),
        (b"<a href=''>", b"<a href=''>"),
        (b'<a href="/x?a=1&amp;b=2">', b'<a href="P/x?a=1&amp;b=2">'),
        (b'<a href="/x&quot;y">', b'<a href="P/x&quot;y">'),
        (b'<a href="&#47;x">', b'<a href="P/x">'),
        (b'<a href="&#x2f;&sol;example.com/x">', b'<a href="&#x2f;&sol;example.com/x">'),
        (b'<a href=" /x ">', b'<a href=" P/x ">'),
        (b'<a href="/caf\xc3\xa9">\xff\xfe', b'<a href="P/caf\xc3\xa9">\xff\xfe'),
        (b'</a href="/x">', b'</a href="/x">'),
        (b'a < b href="/x">', b'a < b href="/x">'),
        (b'<!-- <a href="/x"> --><a href="/x">', b'<!-- <a href="/x"> --><a href="P/x">'),
        (b'<!--><a href="/x">', b'<!--><a href="P/x">'),
        (b'<!---><a href="/x">', b'<!---><a href="P/x">'),
        (b'<!-- --!><a href="/x">', b'<!-- --!><a href="P/x">'),
        (b'<!DOCTYPE html><a href="/x">', b'<!DOCTYPE html><a href="P/x">'),
        (b'<?xml ?><a href="/x">', b'<?xml ?><a href="P/x">'),
        (b'</ <a href="/x"><a href="/y">', b'</ <a href="/x"><a href="P/y">'),
        (b'<![CDATA[ <a href="/x"> ]]><a href="/x">', b'<![CDATA[ <a href="/x"> ]]><a href="P/x">'),
        (
            b'<script src="/x">"<a href=\'/x\'>"</script><a href=/x>',
            b'<script src="P/x">"<a href=\'/x\'>"</script><a href=P/x>',
        ),
        (b"<script></scripty><a href=/x></SCRIPT ><a href=/x>", b"<script></scripty><a href=/x></SCRIPT ><a href=P/x>"),
        (
            b"<script><!-- <script> <a href=/x> </script> <a href=/x> --></script><a href=/x>",
            b"<script><!-- <script> <a href=/x> </script> <a href=/x> --></script><a href=P/x>",
        ),
        (b"<script><!--><script></script><a href=/x>", b"<script><!--><script></script><a href=P/x>"),
        (b"<style><a href=/x></style><a href=/x>", b"<style><a href=/x></style><a href=P/x>"),
        (b"<textarea><a href=/x></textarea><a href=/x>", b"<textarea><a href=/x></textarea><a href=P/x>"),
        (b"<title><a href=/x></title><a href=/x>", b"<title><a href=/x></title><a href=P/x>"),
        (b"<iframe src=/x><a href=/x></iframe>", b"<iframe src=P/x><a href=/x></iframe>"),
        (b"<noscript><img src=/x></noscript>", b"<noscript><img src=P/x></noscript>"),
        (b"<plaintext></plaintext><a href=/x>", b"<plaintext></plaintext><a href=/x>"),
        (b'<a href="/x', b'<a href="/x'),
        (b"<a href=/x", b"<a href=/x"),
        (b"text <", b"text <"),
        (b"<!-", b"<!-"),
        (b"<script>x</scr", b"<script>x</scr"),
    ],
)
def test_markup(page: bytes, expected: bytes) -> None:
    expected = expected.replace(b"P/", PREFIX + b"/")
    assert rewritten(page) == expected
    assert in_pieces(page, list(range(len(page)))) == expected


FRAGMENTS = [
    *(b"<a href=", b"<img src=", b"<div ", b"<script>", b"</script>", b"<SCRIPT src=", b"<style>", b"</style>"),
    *(b"<textarea>", b"</textarea ", b"<!--", b"-->", b"--!>", b"<![CDATA[", b"]]>", b"<!", b"<?", b"</", b"<", b">"),
    *(b'"', b"'", b"=", b"/", b"/x", b"//y", b" ", b"\n", b"href", b"src=", b"&#47;", b"&amp;", b"\xc3\xa9"),
    *(b"http://127.0.0.1:6443/", b"http://10.244.1.3:8080/", b"text", b"-", b"!", b"]", b"\x00", b"\xff", b"..", b"?"),
]
pages = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join)


@settings(max_examples=400)
@given(pages, st.lists(st.integers(0, 10_000), max_size=6))
def test_the_result_does_not_depend_on_the_pieces_of_the_input(page: bytes, cuts: list[int]) -> None:
    whole = rewritten(page)
    assert in_pieces(page, cuts) == whole
    assert in_pieces(page, list(range(len(page)))) == whole


@given(
    st.lists(
        st.sampled_from([f for f in FRAGMENTS if b"." not in f and b"/" not in f[:1] and b"4" not in f]), max_size=40
    ).map(b"".join)
)
def test_without_absolute_urls_nothing_changes(page: bytes) -> None:
    assert rewritten(page) == page


@given(pages)
def test_the_prefix_is_inserted_and_nothing_else_changes(page: bytes) -> None:
    page = page.replace(b"..", b"").replace(b"//", b"/").replace(b"&#", b"")
    assert rewritten(page).replace(PREFIX, b"") == page


def test_values_that_are_too_long_are_not_changed_and_memory_is_limited() -> None:
    longest = b"/" + b"x" * (VALUE_LIMIT - 1)
    assert rewritten(b'<a href="' + longest + b'">') == b'<a href="' + PREFIX + longest + b'">'
    too_long = b'<a href="/' + b"x" * VALUE_LIMIT + b'" id=1><a href="/y">'
    assert rewritten(too_long) == too_long.replace(b"/y", PREFIX + b"/y")
    transform = rewriter()
    for piece in [b'<a href="/', *[b"x" * 4096] * 64, b'" title="', *[b"<" * 4096] * 64, b'">', *[b"<"] * 4096]:
        transform.feed(piece)
        assert len(transform._rest) <= VALUE_LIMIT + 4096


@pytest.mark.parametrize(
    "text",
    [
        b"<a " + b"b " * 30000,
        b"<a " + b"b=c " * 15000,
        b"<a " + b"/ " * 30000,
        b"<" + b"a" * 60000,
        b"<a x='" + b"y" * 60000,
        b"<a " + b"b='c'" * 10000,
        b"<a " + b"= " * 30000,
        b"<a b" + b" " * 60000,
        b"<a b=" + b" " * 60000 + b"'",
    ],
)
def test_an_endless_tag_takes_linear_time(text: bytes) -> None:
    """A regular expression with backtracking would practically not end."""
    assert rewritten(text) == text


def test_text_is_not_buffered() -> None:
    transform = rewriter()
    assert transform.feed(b"<p>hello") == b"<p>hello"
    assert transform.feed(b"<script>var x = 1;") == b"<script>var x = 1;"


PAGE = b"<html><body>" + b'<a href="/x">y</a>' * 50 + b"</body></html>"


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


CODINGS = {
    b"gzip": (gzip.compress, gzip.decompress),
    b"X-GZIP": (lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]), gzip.decompress),
    b"deflate": (zlib.compress, zlib.decompress),
    b" Deflate ": (raw_deflate, lambda data: zlib.decompress(data, wbits=-15)),
    b"identity": (bytes, bytes),
}


@pytest.mark.parametrize("coding", sorted(CODINGS))
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_codings(coding: bytes, size: int) -> None:
    encode, decode = CODINGS[coding]
    assert encoding.supported(coding)
    transform = encoding.wrap(rewriter(), coding)
    encoded = encode(PAGE)
    out = [transform.feed(encoded[i : i + size]) for i in range(0, len(encoded), size)]
    assert decode(b"".join([*out, transform.finish()])) == rewritten(PAGE)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_decoded_page_can_be_sent_without_a_coding(size: int) -> None:
    encoded = gzip.compress(PAGE)
    for inner, expected in ((rewriter(), rewritten(PAGE)), (encoding.Unchanged(), PAGE)):
        transform = encoding.decode(inner, b"gzip")
        out = [transform.feed(encoded[i : i + size]) for i in range(0, len(encoded), size)]
        assert b"".join([*out, transform.finish()]) == expected


def test_other_codings_are_not_supported() -> None:
    assert not any(encoding.supported(coding) for coding in (b"br", b"zstd", b"gzip, br", b"gzip, gzip"))
    with pytest.raises(ValueError, match="zstd"):
        encoding.wrap(rewriter(), b"zstd")


def test_received_data_can_be_decoded_at_once() -> None:
    server = zlib.compressobj(wbits=encoding.GZIP)
    transform = encoding.wrap(rewriter(), b"gzip")
    client = zlib.decompressobj(encoding.GZIP)
    for piece in (b"<a href=/1>", b"<a href=/2>"):
        sent = server.compress(piece) + server.flush(zlib.Z_SYNC_FLUSH)
        assert client.decompress(transform.feed(sent)) == piece.replace(b"=", b"=" + PREFIX)


def test_decompression_bombs_are_processed_in_pieces() -> None:
    sizes: list[int] = []

    class Measure:
        def feed(self, data: bytes) -> bytes:
            sizes.append(len(data))
            return data

        def finish(self) -> bytes:
            return b""

    transform = encoding.wrap(Measure(), b"gzip")
    out = transform.feed(gzip.compress(bytes(8 * 1024 * 1024))) + transform.finish()
    assert gzip.decompress(out) == bytes(8 * 1024 * 1024)
    assert max(sizes) <= encoding.PIECE


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data[:60] + b"\xff" * 40 + data[100:], lambda data: b"no gzip"]
)
def test_damaged_input_gives_damaged_output(damage: object) -> None:
    transform = encoding.wrap(rewriter(), b"gzip")
    out = transform.feed(damage(gzip.compress(PAGE * 20))) + transform.finish()  # type: ignore[operator]
    with pytest.raises((EOFError, zlib.error, gzip.BadGzipFile)):
        gzip.decompress(out)


def test_padding_after_the_end_is_dropped() -> None:
    transform = encoding.wrap(rewriter(), b"gzip")
    assert gzip.decompress(transform.feed(gzip.compress(b"x") + bytes(512)) + transform.finish()) == b"x"
