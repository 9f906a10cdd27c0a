"""No answer of an application blocks the process that rewrites it: rewriting takes linear time for any input.

The rewriters run on the event loop. Each rewriter gets many beginnings of constructs that do not end. Four times as
many beginnings may take about four times as long. On average, a byte may not take much longer than a byte of an
ordinary script.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import pytest

from hatchway.rewrite.cookies import restore_cookies, rewrite_set_cookie
from hatchway.rewrite.csp import InlinePermissions, rewrite_policy
from hatchway.rewrite.css import CssRewriter, rewrite_srcset, rewrite_style
from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.multistatus import MultistatusRewriter
from hatchway.rewrite.ownaddress import OwnAddressPage, OwnAddressText
from hatchway.rewrite.page import ImportMapRewriter, PageRewriter, full_referrer_policy
from hatchway.rewrite.sniff import Sniffed
from hatchway.rewrite.stray import stray_target
from hatchway.rewrite.urlrules import KubernetesRule, UnprefixRule

from .pieces import ENDPOINT, HOST, PREFIX, rule, whole

SMALL = 8 * 1024
LARGE = 4 * SMALL
PIECES = (64 * 1024, 1000)
# The shortest time that can be measured well enough, in seconds.
SHORT = 0.05
ATTEMPTS = 3

COMMON = [*b"` \" ' \\ ( { [ < & &# / // /* . , ; : = a 0 - ) > <! a,".split(), *b" |\n|\t |\r|, |\x00".split(b"|")]
SCRIPT_UNITS = [
    *b"a=/[ )/a/ )/[ }/[ =/\\/ if(a)/[ location. location?. ...location, location, [location, (location, "
    b"{location,".split(),
    *b"=/[location, ${ `${ \"\\ import( import\" from eval( eval(location, .href pathname,{ window[ window[a ".split(),
    *b"x[\"location\"] x.location= {location:{ .a/**/.location location/* a/ /[( ) ++ {pathname}= (0,eval)(".split(),
    b"//\xe2\n", b"href//\xe2\n", b"import.meta ", b"={a}\n\n\n\n,location", b"location\n",
    b"() location", b"var a={}\n",
]  # fmt: skip
SCRIPT_BEGINNINGS = (b"", b"var a={", b"x=`${", b"=/[")
SCRIPT_ENDS = (b"", b")")
STYLE_UNITS = [
    *b'url( url(" url(a) url(\\ @import @import" u\\72l( "" "\\ image-set( url(/a /* */ @'.split(),
    b"@import\t",
    b"url( ",
]
PAGE_UNITS = [
    *b'<a <a/ <a" </ <!-- <!--x-- <script <script> <style> <title> <svg> <![CDATA[ <? <a= =" &#0 &amp &a &#x'.split(),
    b"<a href=", b'<a href="', b"<a b=c ", b"<script><!--<script>", b"a=b ", b'<p style="url(',
    b"<a \x00=", b"<img src=/a>",
    b"<meta http-equiv=content-security-policy content=\"script-src 'sha256-a'\"><script>a</script>",
    b"<meta http-equiv=refresh content='1;url= ", b'<a onclick="', b"<script type=importmap>{</script>",
]  # fmt: skip
PAGE_BEGINNINGS = (b"", b"<a ", b'<a href="', b"<script>")
ATTRIBUTES = (
    b'<meta http-equiv=refresh content="', b'<img srcset="', b'<p style="', b'<a ping="', b'<a href="', b'<a onclick="',
    b'<meta http-equiv=content-security-policy content="', b'<meta name=referrer content="',
)  # fmt: skip
VALUE_UNITS = [
    *b"url( x,( 1;url .. ../ /./ /../ %2e/ ;path= ;domain= path= report-uri 'nonce- 'sha256- default-src; ;".split(),
    b"x (", b"x, (", b"a, ", b"; path ", b"&#9", b"&#9;", b"1 ", b"http://", b"__Hatchway-Host-",
]  # fmt: skip
MULTISTATUS_UNITS = [*b"<D:href> <href <href> <D: <a.b </D:href> <href>/a".split(), b"<D:href ", b"<href> "]

Run = Callable[[bytes, int], object]


def fed(make: Callable[[], BodyTransform]) -> Run:
    """Return a function that feeds a text to a new transform, in pieces of a size."""

    def run(text: bytes, size: int) -> None:
        transform = make()
        for at in range(0, len(text), size):
            transform.feed(text[at : at + size])
        transform.finish()

    return run


def called(function: Callable[[bytes], object]) -> Run:
    return lambda text, size: function(text)


def page() -> PageRewriter:
    return PageRewriter(rule(), b"", whole=True)


def own_text() -> OwnAddressText:
    return OwnAddressText([b"0.0.0.0:8080"], b"outer:80")


def own_page() -> OwnAddressPage:
    return OwnAddressPage(rule(), own_text(), policy=InlinePermissions())


def all_at_once(text: bytes) -> None:
    """Call every function that rewrites a single value."""
    rewrite_srcset(text, rule())
    rewrite_style(text, rule())
    rewrite_set_cookie(text, prefix=PREFIX)
    restore_cookies(text)
    full_referrer_policy(text)
    policy = InlinePermissions()
    policy.read(text)
    rewrite_policy(text, b"'sha256-a'", rule(), policy)
    for one in (rule(), UnprefixRule(PREFIX, [HOST]), KubernetesRule(PREFIX, HOST, ENDPOINT)):
        one(text)
        one(b"/" + text)
    stray_target(b"/a", [(b"Host", HOST), (b"Referer", b"http://" + text)])


Case = tuple[Run, list[bytes], tuple[bytes, ...], tuple[bytes, ...]]

CASES: dict[str, Case] = {
    "script": (fed(lambda: JavaScriptRewriter(rule())), COMMON + SCRIPT_UNITS, SCRIPT_BEGINNINGS, SCRIPT_ENDS),
    "style": (fed(lambda: CssRewriter(rule())), COMMON + STYLE_UNITS, (b"", b"url(", b"@import "), (b"",)),
    "page": (fed(page), COMMON + PAGE_UNITS, PAGE_BEGINNINGS, (b"",)),
    "attributes": (fed(page), COMMON + VALUE_UNITS, ATTRIBUTES, (b'">',)),
    "html": (fed(lambda: HtmlRewriter(rule())), COMMON + PAGE_UNITS, PAGE_BEGINNINGS, (b"",)),
    "own page": (fed(own_page), COMMON + PAGE_UNITS, (b"", ATTRIBUTES[0]), (b"",)),
    "own text": (fed(own_text), [*COMMON, b"http://0.0.0.0:8080", b"/\\/0.0.0.0:8080", b"http:"], (b"",), (b"",)),
    "sniffed": (fed(lambda: Sniffed(page())), COMMON, (b"", b"<html>"), (b"",)),
    "import map": (
        fed(lambda: ImportMapRewriter(rule())),
        [*COMMON, b'{"a":', b'"/a":1,', b"9"],
        (b"", b'{"a":'),
        (b"",),
    ),
    "multistatus": (fed(lambda: MultistatusRewriter(rule())), COMMON + MULTISTATUS_UNITS, (b"", b"<D:href"), (b"",)),
    "values": (called(all_at_once), COMMON + VALUE_UNITS, (b"", b"script-src "), (b"", b")")),
}


def seconds(run: Run, text: bytes, size: int) -> float:
    begin = time.thread_time()
    run(text, size)
    return time.thread_time() - begin


@lru_cache
def ordinary() -> float:
    """Return the seconds for `LARGE` bytes of an ordinary script that reads its address often."""
    statement = b'if(a.b("x/1")&&location.pathname.indexOf("/a")>=0)return b.c["d"]+a/2+window.location.href+`x${a}`;\n'
    text = statement * (LARGE // len(statement))
    return min(seconds(CASES["script"][0], text, PIECES[0]) for _ in range(5))


def is_slow(run: Run, unit: bytes, around: tuple[bytes, bytes], size: int) -> bool:
    def text(length: int) -> bytes:
        return around[0] + unit * (length // len(unit)) + around[1]

    for _ in range(ATTEMPTS):
        large = seconds(run, text(LARGE), size)
        if large < SHORT:
            return False
        if large < 10 * seconds(run, text(SMALL), size) and large < 50 * ordinary():
            return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_any_input_takes_linear_time(name: str) -> None:
    run, units, beginnings, ends = CASES[name]
    slow = []
    for turn, unit in enumerate(units):
        # To save time, each unit gets only one of the beginnings, in turn. If all units need a beginning, each
        # beginning is tried.
        for at, beginning in enumerate(beginnings):
            if beginning and b"" in beginnings and at != 1 + turn % (len(beginnings) - 1):
                continue
            around = (beginning, ends[(turn + at) % len(ends)])
            for size in PIECES if not beginning else (PIECES[(turn + at) % 2],):
                if is_slow(run, unit, around, size):
                    slow.append((unit, around, size))
    assert slow == []


@pytest.mark.parametrize(
    "text",
    [
        b"eval(" * 150 + b"x" + b")" * 150,
        b".a/**/.location.href;x",
        b"?.a/**/.location;",
        b"(" * 100_000 + b"/a/",
    ],
)
def test_scripts_that_the_lexer_once_could_not_read(text: bytes) -> None:
    assert whole(lambda: JavaScriptRewriter(rule()), text)


def test_after_too_much_work_the_rest_of_a_script_is_not_changed() -> None:
    made = whole(lambda: JavaScriptRewriter(rule()), b"f(location);" + b"...location," * 10_000 + b"f(location);")
    assert made.startswith(b"f((globalThis.__hatchway||(_=>_))(location));")
    assert made.endswith(b"...location,f(location);")


def test_the_unchanged_rest_of_a_script_does_not_depend_on_the_pieces() -> None:
    text = b"a(...location," * 2_000 + b"f(location);" * 2_000
    transform = JavaScriptRewriter(rule())
    pieces = b"".join(transform.feed(text[at : at + 777]) for at in range(0, len(text), 777)) + transform.finish()
    assert pieces == whole(lambda: JavaScriptRewriter(rule()), text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"imports":{"a":"\\ud800"}}',
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_an_invalid_import_map_is_not_changed(text: bytes) -> None:
    assert whole(lambda: ImportMapRewriter(rule()), text) == text


@pytest.mark.parametrize("beginning", ATTRIBUTES)
def test_references_that_python_does_not_resolve_are_kept(beginning: bytes) -> None:
    assert b"9" * 5000 in whole(page, beginning + b"&#" + b"9" * 5000 + b';">')
