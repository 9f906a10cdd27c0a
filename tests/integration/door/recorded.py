"""The answers of `kubectl proxy`, recorded from kubectl 1.37 with raw sockets; tests compare both proxies with them.

The attribute `kubectl` of a `Case` is the answer in the format of `outcome()` below:

- `200 → GET /api`: the API server received this request line, and answered 200;
- `307 /x/z`: the proxy itself redirects;
- `403 Forbidden`: the proxy itself answers with this text.

If the door differs on purpose, `hatchway` is its answer, and `why` is the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.door.proxies import Ask, Got
from tests.integration.door.recorder import Seen


@dataclass(frozen=True)
class Case:
    ask: Ask
    kubectl: str
    hatchway: str = ""
    why: str = ""


_NO_HOST = (
    '400 {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", '
    '"message": "exactly one Host is required", "reason": "BadRequest", "code": 400}'
)


@dataclass(frozen=True)
class Group:
    """Requests to proxies with the same flags. server_path: the path of the server's URL in the kubeconfig."""

    name: str
    flags: tuple[str, ...]
    cases: list[Case]
    server_path: str = ""
    warning: str = ""


def outcome(got: Got, seen: Seen | None) -> str:
    """Return a response as one line, in the format above."""
    if seen is not None:
        return f"{got.status} → {seen.line.removesuffix(' HTTP/1.1')}"
    if 300 <= got.status < 400 and got.header("location") is not None:
        return f"{got.status} {got.header('location')}"
    text = got.body.decode("utf-8", "replace").strip()
    return f"{got.status} {text.splitlines()[0] if text else ''}".strip()


FORBIDDEN = "403 Forbidden"
NOT_FOUND = "404 404 page not found"
POD = "/api/v1/namespaces/default/pods/web"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def paths(*pairs: tuple[str, str]) -> list[Case]:
    return [Case(Ask(path), answer) for path, answer in pairs]


PLAIN = Group(
    "plain",
    (),
    [
        *paths(
            ("/api", "200 → GET /api"),
            ("/api/", "200 → GET /api/"),
            ("/", "200 → GET /"),
            ("/version?verbose=%20x&&y", "200 → GET /version?verbose=%20x&&y"),
            ("/x%2Fy/%41", "200 → GET /x%2Fy/%41"),
            ("/a/%2e%2e/b", "200 → GET /a/%2e%2e/b"),
            ("/x?;a=1;b", "200 → GET /x?;a=1;b"),
            ("/x?%zz", "200 → GET /x?%zz"),
            ("/redirect", "302 → GET /redirect"),
            ("/cookies", "200 → GET /cookies"),
            ("/status/404", "404 → GET /status/404"),
            ("/status/503", "503 → GET /status/503"),
            ("http://localhost:8001/absolute", "200 → GET /absolute"),
            (f"{POD}/proxy", f"200 → GET {POD}/proxy"),
            (f"{POD}/proxy/", f"200 → GET {POD}/proxy/"),
            # Go's ServeMux cleans a path before its handlers get the request.
            ("/x//y/../z", "307 /x/z"),
            ("//x", "307 /x"),
            ("/x/.", "307 /x"),
            ("/a/./b?q=1", "307 /a/b?q=1"),
            (f"{POD}/proxy/a//b", f"307 {POD}/proxy/a/b"),
            ("/%zz", "400 400 Bad Request"),
            ("/%", "400 400 Bad Request"),
        ),
        Case(Ask("/x//y", "POST", headers=("Content-Length: 0",)), "307 /x/y"),
        *[
            Case(Ask("/m", method, headers=("Content-Length: 3",), body=b"abc"), f"200 → {method} /m")
            for method in ("POST", "PUT", "PATCH", "DELETE")
        ],
        *[Case(Ask("/m", method), f"200 → {method} /m") for method in ("OPTIONS", "HEAD", "PROPFIND", "MKCOL")],
        Case(
            Ask("/c", "POST", headers=("Transfer-Encoding: chunked",), body=b"3\r\nabc\r\n0\r\n\r\n"), "200 → POST /c"
        ),
        Case(Ask("/e", "POST", headers=("Expect: 100-continue", "Content-Length: 3"), body=b"abc"), "200 → POST /e"),
        Case(Ask("/two", headers=("Host: localhost",)), "400 400 Bad Request", _NO_HOST, "a Status says what is wrong"),
        Case(
            Ask("/none", host=None),
            "400 400 Bad Request: missing required Host header",
            _NO_HOST,
            "a Status says what is wrong",
        ),
    ],
)

HEADERS = Group(
    "headers",
    (),
    [
        Case(Ask("/own", headers=("Authorization: Bearer mine",)), "200 → GET /own"),
        Case(Ask("/basic", headers=("Authorization: Basic bWU6bWU=",)), "200 → GET /basic"),
        Case(Ask("/empty", headers=("Authorization: ",)), "200 → GET /empty"),
        Case(Ask("/impersonate", headers=("Impersonate-User: bob",)), "200 → GET /impersonate"),
        Case(Ask("/cookie", headers=("Cookie: a=b; c=d",)), "200 → GET /cookie"),
        Case(Ask("/agent", headers=("User-Agent: mine/1", "Accept-Encoding: br")), "200 → GET /agent"),
        Case(
            Ask(
                "/forwarded",
                headers=(
                    "X-Forwarded-For: 1.2.3.4",
                    "Forwarded: for=1.2.3.4",
                    "X-Forwarded-Host: outer.example",
                    "X-Forwarded-Proto: https",
                ),
            ),
            "200 → GET /forwarded",
        ),
        Case(
            Ask("/hops", headers=("Connection: close, foo", "Foo: 1", "Keep-Alive: x", "Proxy-Authorization: y")),
            "200 → GET /hops",
        ),
        Case(Ask("/te", headers=("Connection: close, TE", "TE: trailers")), "200 → GET /te"),
    ],
)

HOSTS = Group(
    "hosts",
    (),
    [
        *[
            Case(Ask("/h", host=host), "200 → GET /h")
            for host in ("localhost", "localhost:1", "localhost:", "127.0.0.1", "127.0.0.1:8001", "[::1]")
        ],
        *[
            Case(Ask("/h", host=host), FORBIDDEN)
            for host in ("evil.example", "evil.example:8001", "localhost.evil.example", "10.0.0.1", "::1", "")
        ],
        Case(
            Ask("/h", host="[::1]:8001"),
            FORBIDDEN,
            "200 → GET /h",
            "a known bug: kubectl removes the brackets together with the port, so that its own default does not match",
        ),
        Case(Ask("http://evil.example/h", host="localhost"), FORBIDDEN),
    ],
)

REJECTED = Group(
    "default reject-paths",
    (),
    [
        *paths(
            (f"{POD}/exec", FORBIDDEN),
            (f"{POD}/exec?command=sh", FORBIDDEN),
            (f"{POD}/attach", FORBIDDEN),
            (f"{POD}/%65xec", FORBIDDEN),
            (f"{POD}/execute", FORBIDDEN),
            (f"{POD}/portforward", f"200 → GET {POD}/portforward"),
            (
                "/api/v1/namespaces/default/services/pods/exec",
                "200 → GET /api/v1/namespaces/default/services/pods/exec",
            ),
        ),
        Case(Ask(f"{POD}/exec", headers=("Connection: Upgrade", "Upgrade: SPDY/3.1")), FORBIDDEN),
    ],
)

FILTERS = [
    Group(
        "accept-paths",
        ("--accept-paths=^/api/v1/ok$,^/x",),
        paths(
            ("/api/v1/ok", "200 → GET /api/v1/ok"),
            ("/api/v1/ok?a=1", "200 → GET /api/v1/ok?a=1"),
            ("/api/v1/okay", FORBIDDEN),
            ("/xyz", "200 → GET /xyz"),
            ("/y/x", FORBIDDEN),
        ),
    ),
    Group("accept no path", ("--accept-paths=",), paths(("/api", FORBIDDEN))),
    Group(
        "reject-paths",
        ("--reject-paths=^/secret",),
        paths(("/secret", FORBIDDEN), ("/%73ecret", FORBIDDEN), (f"{POD}/exec", f"200 → GET {POD}/exec")),
    ),
    Group(
        "reject no path",
        ("--reject-paths=",),
        paths((f"{POD}/exec", f"200 → GET {POD}/exec")),
        warning="Request filter has been relaxed",
    ),
    Group(
        "accept-hosts",
        ("--accept-hosts=^foo$,bar",),
        [
            Case(Ask("/h", host="foo:9"), "200 → GET /h"),
            Case(Ask("/h", host="xbarx"), "200 → GET /h"),
            Case(Ask("/h", host="localhost"), FORBIDDEN),
            Case(Ask("/h", host="xfoo"), FORBIDDEN),
        ],
    ),
    Group("accept no host", ("--accept-hosts=",), paths(("/h", FORBIDDEN))),
    Group("accept every host", ("--accept-hosts=.*",), [Case(Ask("/h", host="evil.example"), "200 → GET /h")]),
    Group(
        "reject-methods",
        ("--reject-methods=POST,^P.T$",),
        [
            Case(Ask("/m", "POST", headers=("Content-Length: 0",)), FORBIDDEN),
            Case(Ask("/m", "PUT", headers=("Content-Length: 0",)), FORBIDDEN),
            Case(Ask("/m", "PATCH", headers=("Content-Length: 0",)), "200 → PATCH /m"),
            Case(Ask("/m"), "200 → GET /m"),
        ],
    ),
    Group(
        "disable-filter",
        ("--disable-filter", "--reject-methods=POST", "--accept-paths=^/x$"),
        [
            Case(Ask("/h", "POST", host="evil.example", headers=("Content-Length: 0",)), "200 → POST /h"),
            Case(Ask(f"{POD}/exec"), f"200 → GET {POD}/exec"),
            Case(Ask("/a//b"), "307 /a/b"),
        ],
        warning="Request filter disabled, your proxy is vulnerable to XSRF attacks",
    ),
]

API_PREFIX = [
    Group(
        f"api-prefix {prefix}",
        (f"--api-prefix={prefix}",),
        paths(
            ("/custom", "307 /custom/"),
            ("/custom/", "200 → GET /"),
            ("/custom/api/v1/pods?x=1", "200 → GET /api/v1/pods?x=1"),
            (f"/custom{POD}/exec", FORBIDDEN),
            ("/customs", NOT_FOUND),
            ("/api", NOT_FOUND),
            ("/", NOT_FOUND),
        ),
    )
    for prefix in ("/custom", "/custom/")
] + [
    Group(
        "api-prefix /api is not cut off",
        ("--api-prefix=/api/",),
        paths(("/api", "307 /api/"), ("/api/v1/pods", "200 → GET /api/v1/pods"), ("/apis", NOT_FOUND)),
    ),
    Group("empty api-prefix", ("--api-prefix=",), paths(("/", "200 → GET /"), ("/api", "200 → GET /api"))),
    Group(
        "api-prefix without a slash",
        ("--api-prefix=custom",),
        [Case(Ask("/custom/api"), NOT_FOUND, "200 → GET /api", "nothing is ever found there otherwise")],
    ),
    Group(
        "filters see the path without the prefix",
        ("--api-prefix=/custom/", "--accept-paths=^/api", "--reject-paths=^/api/v1/no"),
        paths(
            ("/custom/api/v1/yes", "200 → GET /api/v1/yes"),
            ("/custom/api/v1/no", FORBIDDEN),
            ("/custom/other", FORBIDDEN),
        ),
    ),
]

SERVER_PATH = [
    Group(
        "a server path is left out",
        (),
        paths(("/api", "200 → GET /api"), ("/", "200 → GET /")),
        server_path="/sub/path",
        warning="Your kube context contains a server path /sub/path, use --append-server-path",
    ),
    Group(
        "append-server-path",
        ("--append-server-path",),
        paths(
            ("/api", "200 → GET /sub/path/api"),
            ("/", "200 → GET /sub/path/"),
            ("/sub/path/api", "200 → GET /sub/path/sub/path/api"),
            (f"{POD}/exec", FORBIDDEN),
        ),
        server_path="/sub/path",
    ),
    Group(
        "append-server-path and api-prefix",
        ("--append-server-path", "--api-prefix=/custom"),
        paths(("/custom/api", "200 → GET /sub/path/api")),
        server_path="/sub/path",
    ),
    Group("append no server path", ("--append-server-path",), paths(("/api", "200 → GET /api"))),
]

LISTING = "200 <!doctype html>"
FILES = [
    Group(
        "www",
        ("--www=files",),
        [
            *paths(
                ("/static", "307 /static/"),
                ("/static/", LISTING),
                ("/static/a.txt", "200 hello a"),
                ("/static/page.html", "200 <p>page"),
                ("/static/folder", "301 folder/"),
                ("/static/folder?x=1", "301 folder/?x=1"),
                ("/static/folder/", LISTING),
                ("/static/index", "301 index/"),
                ("/static/index/", "200 <p>index"),
                ("/static/index/index.html", "301 ./"),
                ("/static/missing", NOT_FOUND),
                ("/static/sp%20ace&%3C.txt", "200 odd"),
                ("/static/link", "200 hello a"),
                ("/static/../secret", "307 /secret"),
                ("/static/%2e%2e/secret", NOT_FOUND),
                ("/static/folder/..%2f..%2fsecret", NOT_FOUND),
                ("/api", "200 → GET /api"),
            ),
            Case(Ask("/static/a.txt", "HEAD"), "200"),
            Case(Ask("/static/a.txt", "POST", headers=("Content-Length: 0",)), "200 hello a"),
            Case(Ask("/static/a.txt", headers=("Range: bytes=1-2",)), "206 el"),
            Case(Ask("/static/a.txt", headers=("Range: bytes=-3",)), "206 o a"),
            Case(Ask("/static/a.txt", headers=("If-Modified-Since: Fri, 27 Nov 2099 00:00:00 GMT",)), "304"),
            Case(
                Ask("/static/a.txt", host="evil.example"),
                "200 hello a",
                FORBIDDEN,
                "kubectl filters only the API: a rebinding page could read the files",
            ),
        ],
    ),
    *[
        Group(
            f"www-prefix {prefix}",
            ("--www=files", f"--www-prefix={prefix}"),
            paths(
                ("/my", "307 /my/"),
                ("/my/a.txt", "200 hello a"),
                ("/mya.txt", "200 → GET /mya.txt"),
                ("/static/a.txt", "200 → GET /static/a.txt"),
            ),
        )
        for prefix in ("/my", "/my/")
    ],
    Group(
        "files at the root",
        ("--www=files", "--www-prefix=/", "--api-prefix=/k8s"),
        paths(("/a.txt", "200 hello a"), ("/", LISTING), ("/k8s/api", "200 → GET /api")),
    ),
    Group(
        "www that is not there",
        ("--www=missing",),
        paths(("/static/", NOT_FOUND), ("/static/a", NOT_FOUND), ("/api", "200 → GET /api")),
        warning="Failed to stat static file directory missing",
    ),
    Group("www-prefix alone", ("--www-prefix=/x/",), paths(("/x/", "200 → GET /x/"))),
]

UPGRADES = Group(
    "upgrades",
    (),
    [
        Case(Ask("/ws?q=1", headers=UPGRADE), "101 → GET /ws?q=1"),
        Case(Ask("/refused/status/403", headers=UPGRADE), "403 → GET /refused/status/403"),
        Case(Ask("/refused/status/503", headers=UPGRADE), "503 → GET /refused/status/503"),
        Case(Ask("/only-upgrade", headers=("Upgrade: websocket",)), "200 → GET /only-upgrade"),
    ],
)

GROUPS = [PLAIN, HEADERS, HOSTS, REJECTED, *FILTERS, *API_PREFIX, *SERVER_PATH, *FILES, UPGRADES]
