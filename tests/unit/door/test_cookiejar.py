"""Cookies of host names that are one site for a browser: which host name a cookie belongs to."""

from __future__ import annotations

from http.cookiejar import CookieJar as Browser
from http.cookiejar import DefaultCookiePolicy
from urllib.request import Request

from hypothesis import given
from hypothesis import strategies as st

from hatchway.door.cookiejar import AdmittedCookies, CookieJar

HOST = b"web.default.svc.localhost"


def jar() -> CookieJar:
    return CookieJar(HOST, b"localhost")


def test_what_its_own_fields_have_set_passes() -> None:
    own = jar()
    assert own.record_set_cookie(b"sid=1; Path=/; HttpOnly") == b"sid=1; Path=/; HttpOnly"
    assert own.admit(b"sid=1").passed == b"sid=1"
    assert own.admit(b"sid=1; sid=evil") == own.admit(b"sid=evil; sid=1")
    assert own.admit(b"sid=evil; sid=1").passed == b"sid=1"
    assert own.admit(b"sid=evil; sid=1").unknown == (b"sid",)


def test_a_domain_is_taken_out() -> None:
    own = jar()
    for domain in (b"Domain=svc.localhost", b"domain=.default.svc.localhost", b" DOMAIN = x "):
        assert own.record_set_cookie(b"a=b; Path=/; %b; Secure" % domain) == b"a=b; Path=/; Secure"
    assert own.record_set_cookie(b"a=domain=x") == b"a=domain=x"


def test_what_outlives_the_challenge_is_its_own() -> None:
    own = jar()
    field = b"theme=dark; sid=1"
    admitted = own.admit(field)
    assert admitted.passed == b"" and admitted.unknown == (b"theme", b"sid")
    gone = own.challenge(field, admitted.unknown, b"/app/page")
    assert b"theme=; Domain=svc.localhost; Path=/; Max-Age=0" in gone
    assert b"sid=; Domain=default.svc.localhost; Path=/app/; Max-Age=0" in gone
    assert b"sid=; Domain=svc.localhost; Path=/app/page; Max-Age=0" in gone
    assert not any(b"Domain=" + HOST in one or b"Domain=localhost" in one for one in gone)
    # Requests that the browser sent before it had the answer prove nothing.
    assert own.admit(field).passed == b""
    assert own.admit(b"theme=dark; hatchway-own=guessed").passed == b""
    marker = _marker(gone)
    assert own.admit(b"theme=dark; " + marker).passed == b"theme=dark"
    assert own.admit(field) == AdmittedCookies(b"theme=dark", (b"sid",))
    # A cookie with another value is another cookie, and a marker counts only once.
    assert own.admit(b"theme=light; sid=1; " + marker) == AdmittedCookies(b"", (b"theme", b"sid"))


def _marker(gone: list[bytes]) -> bytes:
    return gone[-1].partition(b";")[0]


def test_names_that_only_the_host_itself_can_set_pass() -> None:
    assert jar().admit(b"__Host-sid=1").passed == b"__Host-sid=1"


def test_a_browser_without_markers_is_not_sent_in_circles() -> None:
    own = jar()
    answers = [own.challenge(b"a=1", (b"a",), b"/") for _ in range(20)]
    assert answers[0] and not answers[-1]


def test_prefixed_names_are_deleted_as_browsers_want_it() -> None:
    own = jar()
    gone = own.challenge(b"__Secure-a=1", (b"__Secure-a",), b"/")
    assert gone and all(one.endswith(b"; Secure") for one in gone[:-1])


def test_deep_paths_and_many_cookies_are_not_challenged() -> None:
    own = jar()
    assert own.challenge(b"a=1", (b"a",), b"/x" * 40) == []
    assert own.admit(b"a=1").unknown == (b"a",)
    names = tuple(b"c%d" % number for number in range(100))
    assert own.challenge(b"; ".join(name + b"=1" for name in names), names, b"/") == []


def test_what_is_remembered_is_bounded() -> None:
    own = jar()
    own.record_set_cookie(b"first=1")
    for number in range(1000):
        own.record_set_cookie(b"c%d=1" % number)
    assert own.admit(b"first=1").passed == b""
    assert own.admit(b"c999=1").passed == b"c999=1"


_LABEL = st.text("abcdefghijklmnop", min_size=1, max_size=8)


@given(path=st.lists(_LABEL, max_size=5), attack=st.lists(_LABEL, max_size=5), slash=st.booleans())
def test_no_cookie_of_a_parent_domain_outlives_a_challenge(path: list[str], attack: list[str], slash: bool) -> None:
    """The attack uses the cookie store of the standard library as a browser's."""
    own = jar()
    requested = "/" + "/".join(path)
    under = "/" + "/".join(attack) + ("/" if slash and attack else "")
    browser = Browser(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainLiberal))
    foreign = Request(f"http://evil.default.svc.localhost{under}")
    browser.extract_cookies(_Answer([f"sid=evil; Domain=svc.localhost; Path={under}"]), foreign)  # type: ignore[arg-type]

    def sent() -> bytes:
        asked = Request(f"http://{HOST.decode()}{requested}")
        browser.add_cookie_header(asked)
        return (asked.get_header("Cookie") or "").encode()

    before = sent()
    if not before:
        return
    admitted = own.admit(before)
    assert admitted.passed == b""
    gone = own.challenge(before, admitted.unknown, requested.encode())
    answer = _Answer([one.decode() for one in gone[:-1]])
    browser.extract_cookies(answer, Request(f"http://{HOST.decode()}{requested}"))  # type: ignore[arg-type]
    assert sent() == b""


class _Answer:
    def __init__(self, cookies: list[str]) -> None:
        self._cookies = cookies

    def info(self) -> _Answer:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._cookies if name.lower() == "set-cookie" else default
