from __future__ import annotations

import base64
import gzip
import hashlib
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.rewrite.csp import rewrite_policy
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.prefix import Fields, PrefixRewriter
from hatchway.rewrite.stray import proxy_prefix, stray_target
from hatchway.rewrite.unprefix import Unprefixer
from hatchway.rewrite.urlrules import KubernetesRule, PrefixRule, UnprefixRule
from tests.unit.rewrite.pieces import ENDPOINT, HOST, PREFIX, rule, whole

PAGE = (
    b"<!DOCTYPE html><html><head><title>t</title></head><body><a "
    b"href=/x>x</a><script>import('/m.js')</script></body></html>"
)


def rewriter(mode: str = "full", **request: str) -> PrefixRewriter:
    assert mode in ("full", "kubernetes")
    made = PrefixRewriter(PREFIX, HOST, ENDPOINT, "full" if mode == "full" else "kubernetes")
    made.see_request([(name.replace("_", "-").encode(), value.encode()) for name, value in request.items()])
    return made


def edited(fields: Fields, body: bytes = b"", status: int = 200, **request: str) -> tuple[dict[str, str], bytes]:
    headers = list(fields)
    transform = rewriter(**request).edit_response(status, headers)
    if transform is not None:
        body = transform.feed(body) + transform.finish()
    return {name.decode().lower(): value.decode() for name, value in headers}, body


def html(*fields: tuple[bytes, bytes]) -> Fields:
    return [(b"Content-Type", b"text/html; charset=utf-8"), *fields]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Location", "/x?a#b", "P/x?a#b"),
        ("Location", "http://H/x", "P/x"),
        ("Location", "https://H/x", "P/x"),
        ("Location", "http://10.244.1.3:8080", "P/"),
        ("Location", "//H/x", "P/x"),
        ("Location", "http://example.com/x", "http://example.com/x"),
        ("Location", "x/y", "x/y"),
        ("Location", "P/x", "P/x"),
        ("Location", "P2/x", "PP2/x"),
        ("Location", "/../../x", "P/x"),
        ("Location", "ws://H/x", "ws://HP/x"),
        ("Content-Location", "/x", "P/x"),
        ("Refresh", "5; url=/x", "5; url=P/x"),
        ("Refresh", "0;URL='/x'", "0;URL='P/x'"),
        ("Refresh", "5", "5"),
        ("Link", '</a.js>; rel=preload, <https://e.com/b>; rel="x"', '<P/a.js>; rel=preload, <https://e.com/b>; '
                                                                     'rel="x"'),
        ("Service-Worker-Allowed", "/", "P/"),
        ("Service-Worker-Allowed", "../../..", "P/"),
        ("Service-Worker-Allowed", "/%2e%2e/", "P/"),
        ("SourceMap", "/x.map", "P/x.map"),
        ("HX-Redirect", "/x", "P/x"),
        ("Reporting-Endpoints", 'default="/r", b="https://e.com/r"', 'default="P/r", b="https://e.com/r"'),
        ("Set-Cookie", "a=1; Path=/; HttpOnly", "a=1; Path=P; HttpOnly"),
        ("Set-Cookie", "__Host-a=1; Path=/; Secure", "__Hatchway-Host-a=1; Path=P; Secure"),
        ("Referrer-Policy", "no-referrer", "same-origin"),
        ("Referrer-Policy", "strict-origin-when-cross-origin", "strict-origin-when-cross-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin", "same-origin"),
        ("X-Other", "/x", "/x"),
    ],
)  # fmt: skip
def test_fields(name: str, value: str, expected: str) -> None:
    def real(text: str) -> str:
        return text.replace("P", "\0").replace("H", "\1") if name == "X" else text

    def fill(text: str) -> bytes:
        text = re.sub(r"P(?=[/2;P]|$)", PREFIX.decode(), text)
        return re.sub(r"(?<=//)H", HOST.decode(), text).encode()

    headers: Fields = [(name.encode(), fill(real(value)))]
    assert rewriter().edit_response(302, headers) is None
    assert headers == [(name.encode(), fill(expected))]
    rewriter().edit_response(302, headers)
    assert headers == [(name.encode(), fill(expected))]  # a second rewriting changes nothing


def test_clear_site_data_is_dropped() -> None:
    assert "clear-site-data" not in edited([(b"Clear-Site-Data", b'"cookies"')])[0]


def test_a_page() -> None:
    headers, body = edited(
        html((b"Content-Length", b"99"), (b"ETag", b'"x"'), (b"Accept-Ranges", b"bytes")),
        PAGE,
        Sec_Fetch_Dest="document",
    )  # fmt: skip
    assert headers["etag"] == '"x"' and "content-length" not in headers and "accept-ranges" not in headers
    script = rewriter().element()
    assert body == PAGE.replace(b"<head>", b"<head>" + script).replace(b"=/x", b"=" + PREFIX + b"/x").replace(
        b"'/m.js'", b"'" + PREFIX + b"/m.js'"
    )
    assert PREFIX in script and HOST in script and b"__PREFIX__" not in script and b"__HOSTS__" not in script
    assert script.count(b"</script") == 1 and b"<!--" not in script


def test_pages_with_a_content_coding() -> None:
    headers, body = edited(html((b"Content-Encoding", b"gzip")), gzip.compress(PAGE))
    assert headers["content-encoding"] == "gzip"
    assert PREFIX + b"/x" in gzip.decompress(body)
    _, body = edited(html((b"Content-Encoding", b"br")), b"\x00 coded")
    assert body == b"\x00 coded"
    headers_list = html((b"Content-Encoding", b"gzip"))
    transform = rewriter().edit_response(200, headers_list, decode=True)
    assert transform is not None
    assert PREFIX + b"/x" in transform.feed(gzip.compress(PAGE)) + transform.finish()
    assert [name for name, _ in headers_list if name == b"Content-Encoding"] == []


@pytest.mark.parametrize("status", [204, 206, 304])
def test_partial_and_empty_responses_are_not_changed(status: int) -> None:
    assert rewriter().edit_response(status, html()) is None


@pytest.mark.parametrize("kind", ["empty", "image", "style"])
def test_no_script_in_responses_that_are_not_documents(kind: str) -> None:
    _, body = edited(html(), PAGE, Sec_Fetch_Dest=kind)
    assert rewriter().element() not in body
    assert PREFIX + b"/x" in body


def test_tools_get_absolute_locations() -> None:
    location: Fields = [(b"Location", b"http://" + HOST + b"/x")]
    assert edited(location, Accept="*/*")[0]["location"] == f"http://{HOST.decode()}{PREFIX.decode()}/x"
    assert edited(location, Accept="text/html")[0]["location"] == f"{PREFIX.decode()}/x"


def test_tools_get_no_script() -> None:
    assert rewriter().element() not in edited(html(), PAGE, Accept="*/*")[1]
    assert rewriter().element() in edited(html(), PAGE, Accept="text/html,application/xhtml+xml")[1]


def test_xhtml_stays_well_formed() -> None:
    page = (
        b'<?xml version="1.0"?>\n<!DOCTYPE html [ <!ENTITY nbsp "&#xA0;"> ]>\n'
        b'<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="/a.js"/></head>'
        b'<body><a href="/x?a&amp;b">x&nbsp;</a><script><![CDATA[ if (1 < 2) x = location.pathname '
        b"]]></script></body></html>"
    )
    kind: Fields = [(b"Content-Type", b"application/xhtml+xml; charset=utf-8")]
    headers, body = edited(kind, page, Sec_Fetch_Dest="document")
    assert headers["content-type"] == kind[0][1].decode()
    own, script, inline = ElementTree.fromstring(body).iter("{http://www.w3.org/1999/xhtml}script")
    assert own.text == rewriter().script().decode()
    assert script.get("src") == f"{PREFIX.decode()}/a.js" and not script.text
    assert inline.text is not None and "(location).pathname" in inline.text and "__hatchway" in inline.text
    assert b'href="%b/x?a&amp;b"' % PREFIX in body


def test_styles_and_scripts() -> None:
    assert edited([(b"Content-Type", b"text/css")], b"a{b:url(/x)}")[1] == b"a{b:url(%b/x)}" % PREFIX
    found = edited([(b"Content-Type", b"application/javascript")], b"import '/x'")[1]
    assert found == b"import '%b/x'" % PREFIX
    assert edited([(b"Content-Type", b"application/json")], b'"/x"')[1] == b'"/x"'


@pytest.mark.parametrize("kind", ["worker", "sharedworker", "serviceworker"])
def test_workers_begin_with_the_script(kind: str) -> None:
    fields: Fields = [(b"Content-Type", b"text/javascript")]
    headers, body = edited(fields, b"x", Sec_Fetch_Dest=kind)
    assert body == rewriter().script() + b"\nx"
    assert headers["vary"] == "Sec-Fetch-Dest, Service-Worker"
    assert "service-worker-allowed" not in headers
    headers, body = edited(fields, b"x", Service_Worker="script")
    assert body == rewriter().script() + b"\nx"
    assert headers["service-worker-allowed"] == PREFIX.decode() + "/"


def hash_source() -> str:
    digest = hashlib.sha256(rewriter().script()).digest()
    return "'sha256-" + base64.b64encode(digest).decode() + "'"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("script-src 'self'", "script-src 'self' HASH"),
        ("default-src 'self'; img-src *", "default-src 'self'; script-src 'self' HASH; img-src *"),
        ("default-src 'none'", "default-src 'none'; script-src HASH"),
        ("script-src 'nonce-abc' 'strict-dynamic'", "script-src 'nonce-abc' 'strict-dynamic'"),
        ("script-src 'self' 'unsafe-inline'", "script-src 'self' 'unsafe-inline'"),
        ("script-src 'unsafe-inline' 'sha256-AAAA'", "script-src 'unsafe-inline' 'sha256-AAAA' NONCE HASH"),
        ("default-src 'sha256-AAAA'", "default-src 'sha256-AAAA' NONCE; script-src 'sha256-AAAA' NONCE HASH"),
        ("style-src 'sha384-AAAA'", "style-src 'sha384-AAAA' NONCE"),
        ("trusted-types a; require-sri-for script", "trusted-types a hatchway"),
        ("script-src 'self'; script-src-elem 'self'", "script-src 'self' HASH; script-src-elem 'self' HASH"),
        ("img-src *; report-uri /csp /b", "img-src *; report-uri P/csp P/b"),
        ("script-src 'self', script-src *", "script-src 'self' HASH, script-src * HASH"),
        ("frame-ancestors 'none'", "frame-ancestors 'none'"),
    ],
)
def test_policies(policy: str, expected: str) -> None:
    headers, body = edited(
        html((b"Content-Security-Policy", policy.encode()), (b"ETag", b'"1"')), PAGE, Sec_Fetch_Dest="document"
    )
    wanted = expected.replace("P/", PREFIX.decode() + "/").replace("HASH", hash_source())
    found = headers["content-security-policy"]
    nonce = re.search(r"'nonce-(?!abc)[\w-]+'", found)
    assert found.split() == (wanted.replace("NONCE", nonce[0]) if nonce else wanted).split()
    # There is no ETag, because a cached body does not have the nonce of later header fields.
    assert ("etag" in headers) is (nonce is None)
    assert rewriter().element(b"abc" if "nonce" in policy else None) in body
    # A script whose hash is in the policy is not changed.
    assert (b"import('/m.js')" in body) is ("sha256" in policy)


def test_a_304_has_no_policy() -> None:
    headers, _ = edited(html((b"Content-Security-Policy", b"script-src 'self'")), b"", status=304)
    assert "content-security-policy" not in headers


def test_a_policy_is_extended_only_once() -> None:
    once = rewrite_policy(b"script-src 'self'", b"'sha256-A'", rule())
    assert once.count(b"sha256") == 1


def test_requests() -> None:
    made = rewriter()
    found = dict(
        made.edit_request(
            [
                (b"Referer", b"https://" + HOST + PREFIX + b"/a?b"),
                (b"Origin", b"https://" + HOST),
                (b"Destination", b"https://" + HOST + PREFIX + b"/dav/x"),
                (b"If", b"<http://" + HOST + PREFIX + b"/dav/x> (<opaquelocktoken:1>)"),
                (b"Cookie", b"a=1; __Hatchway-Host-b=2; x__Hatchway-Host-c=3"),
                (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
                (b"X-Other", PREFIX + b"/a"),
            ]
        )
    )
    assert found == {
        b"Referer": b"https://" + HOST + b"/a?b",
        b"Origin": b"https://" + HOST,
        b"Destination": b"https://" + HOST + b"/dav/x",
        b"If": b"<http://" + HOST + b"/dav/x> (<opaquelocktoken:1>)",
        b"Cookie": b"a=1; __Host-b=2; x__Hatchway-Host-c=3",
        b"Accept-Encoding": b"gzip, deflate",
        b"X-Other": PREFIX + b"/a",
    }
    assert made.edit_request([(b"Accept-Encoding", b"br")]) == [(b"Accept-Encoding", b"identity")]


def test_kubernetes_mode_rewrites_only_html() -> None:
    made = rewriter("kubernetes")
    fields: Fields = html((b"Set-Cookie", b"a=1; Path=/"), (b"Link", b"</x>"), (b"Content-Security-Policy", b"x"))
    headers = list(fields)
    transform = made.edit_response(200, headers)
    assert headers == fields
    assert transform is not None
    assert transform.feed(PAGE) + transform.finish() == PAGE.replace(b"=/x", b"=" + PREFIX + b"/x")
    headers = html((b"Location", b"http://" + HOST + b"/x"))
    assert made.edit_response(302, headers) is None
    assert headers[1] == (b"Location", b"http://" + HOST + PREFIX + b"/x")
    sent: Fields = [(b"Accept-Encoding", b"br"), (b"Referer", b"https://" + HOST + PREFIX + b"/")]
    assert made.edit_request(sent) == sent


def test_multistatus() -> None:
    body = (
        b"<D:multistatus xmlns:D='DAV:'><D:response><D:href>/dav/x</D:href></D:response><href>x</href></D:multistatus>"
    )
    fields: Fields = [(b"Content-Type", b"application/xml")]
    assert edited(fields, body, 207)[1] == body.replace(b"/dav/x", PREFIX + b"/dav/x")
    assert edited(fields, body, 200)[1] == body
    transform = rewriter().edit_response(207, list(fields))
    assert transform is not None
    pieces = b"".join(transform.feed(body[at : at + 1]) for at in range(len(body))) + transform.finish()
    assert pieces == body.replace(b"/dav/x", PREFIX + b"/dav/x")


# Removal of the prefix.

PATHS = st.text("abc/.?#=%&;é ", max_size=20).map(lambda text: b"/" + text.encode())


@given(PATHS)
def test_adding_and_removing_the_prefix_are_inverse_and_idempotent(path: bytes) -> None:
    add, remove = PrefixRule(PREFIX, (HOST,)), UnprefixRule(PREFIX, (HOST,))
    once = add(path)
    assert add(once) == once
    if once != path and b"/." not in path and path[:2] != b"//":
        assert remove(once) == path
    assert remove(remove(once)) == remove(once)


@given(
    st.lists(
        st.sampled_from(
            [
                b"<a href='/x/y?z'>",
                b"<img src=/a>",
                b"text",
                b'<script src="/b"></script>',
                b"<p title='/x'>",
                b"<a href=c>",
                b"<form action='//example.com/'>",
            ]
        ),
        max_size=10,
    )
)
def test_unprefix_reverses_the_rewriting_of_an_api_server(parts: list[bytes]) -> None:
    page = b"".join(parts)
    prefixed = whole(lambda: HtmlRewriter(KubernetesRule(PREFIX, HOST, ENDPOINT)), page)
    headers = html((b"Content-Length", b"9"))
    transform = Unprefixer(PREFIX, (HOST,)).edit_response(200, headers)
    assert transform is not None
    assert transform.feed(prefixed) + transform.finish() == page
    assert headers == html()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PREFIX + b"/x?y", b"/x?y"),
        (PREFIX, b"/"),
        (PREFIX + b"?a", b"/?a"),
        (b"https://" + HOST + PREFIX + b"/x", b"https://" + HOST + b"/x"),
        (b"https://example.com" + PREFIX + b"/x", b"https://example.com" + PREFIX + b"/x"),
        (PREFIX + b"2/x", PREFIX + b"2/x"),
        (PREFIX + b"//evil.example/", b"/.//evil.example/"),
        (b"/x", b"/x"),
        (b"x", b"x"),
    ],
)
def test_unprefix_location(value: bytes, expected: bytes) -> None:
    headers: Fields = [(b"Location", value), (b"Content-Type", b"text/html")]
    assert Unprefixer(PREFIX, (HOST,)).edit_response(302, headers) is None
    assert headers[0] == (b"Location", expected)


def test_unprefix_does_not_change_what_an_api_server_does_not_change() -> None:
    for fields in (html((b"Content-Encoding", b"br")), [(b"Content-Type", b"text/css")]):
        headers = list(fields)
        assert Unprefixer(PREFIX).edit_response(200, headers) is None
        assert headers == fields


# Requests without the prefix.


def test_requests_without_the_prefix_are_completed_by_referer() -> None:
    referer = (b"Referer", b"http://" + HOST + PREFIX + b"/deep/page?x")
    host = (b"Host", HOST)
    assert stray_target(b"/a.png?b", [host, referer]) == PREFIX + b"/a.png?b"
    assert stray_target(b"/api/v1/pods", [host, referer]) == PREFIX + b"/api/v1/pods"
    assert stray_target(PREFIX + b"/a", [host, referer]) is None
    assert stray_target(b"/a", [host]) is None
    assert stray_target(b"/a", [(b"Host", b"other"), referer]) is None
    assert stray_target(b"/a", [host, (b"Referer", b"http://" + HOST + b"/x")]) is None
    assert stray_target(b"//evil.example/x", [host, referer]) is None
    assert stray_target(b"*", [host, referer]) is None


def test_proxy_prefix() -> None:
    assert proxy_prefix(PREFIX + b"/x") == PREFIX
    assert proxy_prefix(b"/api/v1/nodes/n/proxy") == b"/api/v1/nodes/n/proxy"
    assert proxy_prefix(b"/api/v1/namespaces/a/services/b/proxyx") is None
    assert proxy_prefix(b"/api/v1/namespaces/a/secrets/b/proxy/") is None
