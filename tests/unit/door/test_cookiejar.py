"""Cookies of host names that are one site for a browser: the door finds out to which host name a cookie belongs."""

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


def test_cookies_set_by_the_host_are_forwarded() -> None:
    own = jar()
    assert own.record_set_cookie(b"sid=1; Path=/; HttpOnly") == b"sid=1; Path=/; HttpOnly"
    assert own.admit(b"sid=1").passed == b"sid=1"
    assert own.admit(b"sid=1; sid=evil") == own.admit(b"sid=evil; sid=1")
    assert own.admit(b"sid=evil; sid=1").passed == b"sid=1"
    assert own.admit(b"sid=evil; sid=1").unknown == (b"sid",)


def test_domain_is_removed() -> None:
    own = jar()
    for domain in (b"Domain=svc.localhost", b"domain=.default.svc.localhost", b" DOMAIN = x "):
        assert own.record_set_cookie(b"a=b; Path=/; %b; Secure" % domain) == b"a=b; Path=/; Secure"
    assert own.record_set_cookie(b"a=domain=x") == b"a=domain=x"


def test_cookies_that_survive_a_challenge_belong_to_the_host() -> None:
    own = jar()
    field = b"theme=dark; sid=1"
    admitted = own.admit(field)
    assert admitted.passed == b"" and admitted.unknown == (b"theme", b"sid")
    gone = own.challenge(field, admitted.unknown, b"/app/page")
    assert b"theme=; Domain=svc.localhost; Path=/; Max-Age=0" in gone
    assert b"sid=; Domain=default.svc.localhost; Path=/app/; Max-Age=0" in gone
    assert b"sid=; Domain=svc.localhost; Path=/app/page; Max-Age=0" in gone
    assert not any(b"Domain=" + HOST in one or b"Domain=localhost" in one for one in gone)
    # A request without the marker may have been sent before the browser had the answer, so it proves nothing.
    assert own.admit(field).passed == b""
    assert own.admit(b"theme=dark; hatchway-own=guessed").passed == b""
    marker = _marker(gone)
    assert own.admit(b"theme=dark; " + marker).passed == b"theme=dark"
    assert own.admit(field) == AdmittedCookies(b"theme=dark", (b"sid",))
    # With another value, the cookie counts as a new cookie. A marker is valid only once.
    assert own.admit(b"theme=light; sid=1; " + marker) == AdmittedCookies(b"", (b"theme", b"sid"))


def _marker(gone: list[bytes]) -> bytes:
    return gone[-1].partition(b";")[0]


def test_cookies_that_only_the_host_can_set_are_forwarded() -> None:
    assert jar().admit(b"__Host-sid=1").passed == b"__Host-sid=1"


def test_challenges_without_a_marker_in_return_end() -> None:
    own = jar()
    answers = [own.challenge(b"a=1", (b"a",), b"/") for _ in range(20)]
    assert answers[0] and not answers[-1]


def test_secure_names_are_deleted_with_the_attribute_secure() -> None:
    own = jar()
    gone = own.challenge(b"__Secure-a=1", (b"__Secure-a",), b"/")
    assert gone and all(one.endswith(b"; Secure") for one in gone[:-1])


def test_deep_paths_and_many_cookies_are_not_challenged() -> None:
    own = jar()
    assert own.challenge(b"a=1", (b"a",), b"/x" * 40) == []
    assert own.admit(b"a=1").unknown == (b"a",)
    names = tuple(b"c%d" % number for number in range(100))
    assert own.challenge(b"; ".join(name + b"=1" for name in names), names, b"/") == []


def test_the_number_of_recorded_cookies_is_limited() -> None:
    own = jar()
    own.record_set_cookie(b"first=1")
    for number in range(1000):
        own.record_set_cookie(b"c%d=1" % number)
    assert own.admit(b"first=1").passed == b""
    assert own.admit(b"c999=1").passed == b"c999=1"


_LABEL = st.text("abcdefghijklmnop", min_size=1, max_size=8)


@given(path=st.lists(_LABEL, max_size=5), attack=st.lists(_LABEL, max_size=5), slash=st.booleans())
def test_no_cookie_of_a_parent_domain_survives_a_challenge(path: list[str], attack: list[str], slash: bool) -> None:
    """The standard library's cookie store plays the browser that is attacked."""
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
