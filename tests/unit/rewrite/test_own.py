"""The application's own addresses in its pages, if the application has a host name of its own."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.rewrite.ownaddress import LONG_SCRIPT, OwnAddressRewriter, OwnAddressText
from tests.unit.rewrite.pieces import whole

OUTER = b"web.shop.svc.localhost:8001"
HOSTS = (b"0.0.0.0:8080", b"localhost:8080", b"web.shop.svc.cluster.local", b"[::]:8080", OUTER)


def rule(url: bytes) -> bytes:
    for host in HOSTS:
        for scheme in (b"http://", b"https://"):
            if url.startswith(scheme + host):
                return b"http://" + OUTER + (url[len(scheme + host) :] or b"/")
    return url


def text() -> OwnAddressText:
    return OwnAddressText(HOSTS, OUTER)


CHANGED = [
    (b'fetch("http://0.0.0.0:8080/a")', b'fetch("http://OUTER/a")'),
    (b"'ws://localhost:8080'", b"'ws://OUTER'"),
    (b"`wss://LOCALHOST:8080/x`", b"`ws://OUTER/x`"),
    (b'"https:\\/\\/localhost:8080\\/a"', b'"http:\\/\\/OUTER\\/a"'),
    (b"http://web.shop.svc.cluster.local?a", b"http://OUTER?a"),
    (b"http://[::]:8080/a", b"http://OUTER/a"),
    (b"https://web.shop.svc.localhost:8001/a", b"http://OUTER/a"),
    (b"&quot;http://0.0.0.0:8080&quot;", b"&quot;http://OUTER&quot;"),
    (b"http://0.0.0.0:8080", b"http://OUTER"),
    (b"a=http://0.0.0.0:8080,http://localhost:8080", b"a=http://OUTER,http://OUTER"),
]
KEPT = [
    b"http://localhost:80801/",
    b"http://localhost:9222/json",
    b"http://localhost/",
    b"http://localhost:8080.example.com/",
    b"http://localhost:8080@evil.example/",
    b"//localhost:8080/x",
    b"ftp://localhost:8080/",
    b"xhttp://localhost:8080/",
    b"localhost:8080",
    b"http://elsewhere.example/?u=localhost:8080",
]


@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_addresses_in_scripts(before: bytes, after: bytes) -> None:
    assert whole(text, before) == after.replace(b"OUTER", OUTER)


@pytest.mark.parametrize("kept", KEPT)
def test_ambiguous_texts_are_not_changed(kept: bytes) -> None:
    assert whole(text, kept) == kept


def test_a_scheme_at_the_end_of_a_longer_word_is_not_changed() -> None:
    body = b"xhttp://localhost:8080/" + b" " * 60
    for cut in range(len(body)):
        made = text()
        assert made.feed(body[:cut]) + made.feed(body[cut:]) + made.finish() == body


@given(st.lists(st.sampled_from([before for before, _ in CHANGED] + KEPT), max_size=4), st.data())
def test_the_result_does_not_depend_on_the_pieces(parts: list[bytes], data: st.DataObject) -> None:
    body = b" ".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    made = text()
    found = b"".join(made.feed(body[first:last]) for first, last in zip([0, *cuts], [*cuts, len(body)], strict=True))
    assert found + made.finish() == whole(text, body)


def edit(body: bytes, kind: bytes | None, *, destination: bytes = b"document", **fields: bytes) -> bytes:
    headers = [(b"Content-Length", b"%d" % len(body))]
    headers += [] if kind is None else [(b"Content-Type", kind)]
    headers += [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    made = OwnAddressRewriter(
        rule, text(), destination=destination, page=destination == b"document", names_itself=False
    )
    transform = made.edit_response(200, headers)
    return body if transform is None else transform.feed(body) + transform.finish()


PAGE = b"""<!DOCTYPE html><meta http-equiv="refresh" content="9; url=http://0.0.0.0:8080/next">
<meta name="referrer" content="no-referrer"><meta name="api" content="http://localhost:8080">
<script src="http://0.0.0.0:8080/x.js" integrity="sha256-x"></script><script src="/y.js" integrity="sha256-y"></script>
<img srcset="http://localhost:8080/a.png 1x, /b.png 2x" style="background: url(http://localhost:8080/c.png)">
<style>@import "http://0.0.0.0:8080/d.css";</style><div data-url="ws://localhost:8080/ws"></div>
<script type="application/json">{"url": "http:\\/\\/localhost:8080\\/"}</script><script>new WebSocket("ws://0.0.0.0:8080/")</script>
<input name="base" value="http://localhost:8080/"><textarea>http://localhost:8080/</textarea><pre>curl http://localhost:8080/</pre>
<a href="http://localhost:9222/">debugger</a><a href="/relative">x</a>"""


def test_a_page() -> None:
    found = edit(PAGE, b"text/html; charset=utf-8")
    own = b"http://" + OUTER
    for piece in (
        b'content="9; url=' + own + b'/next"',
        b'content="no-referrer"',
        b'content="' + own + b'"',
        b'src="' + own + b'/x.js" integrity="sha256-x"',
        b'src="/y.js" integrity="sha256-y"',
        own + b"/a.png 1x, /b.png 2x",
        b"url(" + own + b"/c.png)",
        b'"' + own + b'/d.css"',
        b'data-url="ws://' + OUTER + b'/ws"',
        b'{"url": "http:\\/\\/' + OUTER + b'\\/"}',
        b'WebSocket("ws://' + OUTER + b'/")',
        # Texts that users read, or send back in forms, are not changed.
        b'value="http://localhost:8080/"',
        b"<textarea>http://localhost:8080/</textarea><pre>curl http://localhost:8080/</pre>",
        b'<a href="http://localhost:9222/">debugger</a><a href="/relative">x</a>',
    ):
        assert piece in found, (piece, found)
    assert edit(PAGE, None) == found
    assert gzip.decompress(edit(gzip.compress(PAGE), b"text/html", Content_Encoding=b"gzip")) == found


SOME = b"<!DOCTYPE html><title>t</title><p>x</p><script src=/a.js></script><script>b()</script>"
MARK = b"document.currentScript"


@pytest.mark.parametrize(
    ("policy", "nonce"),
    [
        (b"", b""),
        (b"default-src 'self'; script-src 'unsafe-inline'", b""),
        (b"img-src 'none'", b""),
        (b"script-src 'nonce-n0' 'strict-dynamic' 'unsafe-inline'", b' nonce="n0"'),
    ],
)
def test_the_inserted_script_has_the_applications_addresses(policy: bytes, nonce: bytes) -> None:
    """It is inserted once, before the first script of the page, with the addresses that mean the application."""
    found = edit(SOME, b"text/html", **({"Content_Security_Policy": policy} if policy else {}))
    assert found.count(MARK) == 1
    before, _, rest = found.partition(b"<script" + nonce + b">")
    own, _, after = rest.partition(b"</script>")
    assert before + after == SOME and MARK in own and b'"localhost:8080"' in own


@pytest.mark.parametrize(
    "policy",
    [
        b"default-src 'self'",
        b"script-src 'sha256-abc='",
        b"script-src 'none'",
        b"script-src 'unsafe-inline', script-src 'self'",
        b"script-src 'unsafe-inline' 'strict-dynamic'",
        b"script-src 'nonce-a', script-src 'nonce-b'",
    ],
)
def test_a_policy_that_allows_no_inline_script_is_respected(policy: bytes) -> None:
    assert edit(SOME, b"text/html", Content_Security_Policy=policy) == SOME
    assert edit(SOME, b"text/html", Content_Security_Policy_Report_Only=policy) == SOME
    if b"," not in policy:
        meta = b'<meta http-equiv=Content-Security-Policy content="' + policy + b'">' + SOME
        assert edit(meta, b"text/html") == meta


def test_a_page_without_scripts_is_not_changed() -> None:
    page = b"<!DOCTYPE html><title>t</title><noscript>x</noscript><a href=/>x</a><!-- <script> -->"
    assert edit(page, b"text/html") == page
    xml = b'<html xmlns="http://www.w3.org/1999/xhtml"><script src="/a.js"/></html>'
    assert edit(xml, b"application/xhtml+xml") == xml


def test_scripts_whose_hash_is_in_the_policy_are_not_changed() -> None:
    found = edit(PAGE, b"text/html", Content_Security_Policy=b"script-src 'sha256-abc='")
    assert b'WebSocket("ws://0.0.0.0:8080/")' in found and b'src="http://' + OUTER + b"/x.js" in found


@pytest.mark.parametrize(
    ("kind", "destination", "changed"),
    [
        (b"text/javascript", b"script", True),
        (b"application/javascript; charset=utf-8", b"worker", True),
        (b"text/javascript", b"empty", False),
        (b"application/json", b"empty", False),
        (b"text/html", b"empty", False),
        (b"text/plain", b"document", False),
        (b"application/octet-stream", b"document", False),
    ],
)
def test_only_files_that_a_browser_loads_for_a_page_are_changed(kind: bytes, destination: bytes, changed: bool) -> None:
    body = b'connect("ws://localhost:8080/ws")'
    found = edit(body, kind, destination=destination)
    assert found == (b'connect("ws://' + OUTER + b'/ws")' if changed else body)


def test_long_scripts_without_an_early_address_are_not_changed() -> None:
    body = b"x" * LONG_SCRIPT + b'"ws://localhost:8080/ws"'
    assert edit(body, b"text/javascript", destination=b"script") == body


@pytest.mark.parametrize(
    ("page", "charset"),
    [
        (b"<head><script>1</script><meta charset='koi8-r'>", b"koi8-r"),
        (b'<script>1</script><meta http-equiv="Content-Type" content="text/html; charset=shift_jis">', b"shift_jis"),
        (b"<meta charset=utf-8><script>1</script><meta charset=koi8-r>", b""),
        (b"<script>1</script><!-- <meta charset=iso-2022-jp> -->", b""),
        (b"<script>1</script>" + bytes(2000) + b"<meta charset=koi8-r>", b""),
        (b'<script>1</script><meta charset="<script>">', b""),
    ],
)
def test_the_charset_stays_in_the_bytes_that_browsers_search(page: bytes, charset: bytes) -> None:
    rewriter = OwnAddressRewriter(rule, text(), destination=b"document", page=True, names_itself=False)
    body = rewriter.edit_response(200, [(b"Content-Type", b"text/html")])
    assert body is not None
    found = body.feed(page) + body.finish()
    added = b'<meta charset="' + charset + b'"><script>(function' if charset else b"<script>(function"
    begin = page.index(b"<script>")
    assert found[begin:].startswith(added)
