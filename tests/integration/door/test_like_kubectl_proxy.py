"""The same requests through `kubectl proxy` and `hatchway proxy`, with every flag: the same answers.

Both forward to an API server that records the requests that it gets. So the forwarded requests are compared, too.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import BIN, find_kubectl
from tests.door import need_door
from tests.freeports import free_port
from tests.integration.door.proxies import Ask, Got, fails, running
from tests.integration.door.recorded import FORBIDDEN, GROUPS, UPGRADE, Case, Group, outcome
from tests.integration.door.recorder import Recorder, Seen, recorder

# The compared fields of responses. `Date`, `Server` and the framing may differ.
_ANSWER_HEADERS = [
    "content-type",
    "location",
    "set-cookie",
    "x-content-type-options",
    "content-range",
    "accept-ranges",
    "last-modified",
    "upgrade",
]
# The compared fields of requests to the API server.
_REQUEST_HEADERS = [
    "host",
    "authorization",
    "impersonate-user",
    "cookie",
    "origin",
    "referer",
    "forwarded",
    "x-forwarded-for",
    "te",
    "foo",
    "keep-alive",
    "proxy-authorization",
    "expect",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with recorder(tmp_path_factory.mktemp("recorder")) as running_recorder:
        yield running_recorder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make the directory in which the proxies are started, with static files, and a secret beside them."""
    files = tmp_path / "files"
    for folder in ("folder", "index"):
        (files / folder).mkdir(parents=True)
    for name, text in {
        "a.txt": "hello a",
        "page.html": "<p>page",
        "sp ace&<.txt": "odd",
        "folder/b.html": "<p>b",
        "index/index.html": "<p>index",
        "../secret": "not to be served",
    }.items():
        (files / name).write_text(text)
        os.utime(files / name, (1_700_000_000, 1_700_000_000))
    (files / "link").symlink_to("a.txt")
    # The responses for a directory contain its modification time.
    for changed in (files / "folder", files / "index", files):
        os.utime(changed, (1_700_000_000, 1_700_000_000))
    return tmp_path


def run(program: str, api: Recorder, group: Group, place: Path) -> list[tuple[Got, Seen | None]]:
    """Send a group's requests; return each response with the request that reached the API server, or None."""
    found = []
    kubeconfig = api.kubeconfig(place, path=group.server_path)
    with running(program, kubeconfig, *group.flags, cwd=place) as proxy:
        for case in group.cases:
            api.seen.clear()
            got = proxy.ask(case.ask)
            found.append((got, api.seen[0] if api.seen else None))
        assert group.warning in proxy.errors()
    return found


def wrong(cases: list[Case], found: list[tuple[Got, Seen | None]], program: str) -> list[str]:
    """Return a line for each case whose outcome differs from the recording."""
    problems = []
    for case, (got, seen) in zip(cases, found, strict=True):
        expected = case.hatchway if program == "hatchway" and case.hatchway else case.kubectl
        if outcome(got, seen) != expected:
            problems.append(f"{case.ask}: {outcome(got, seen)!r}, wanted {expected!r}")
    return problems


def compared(got: Got, seen: Seen | None) -> dict[str, object]:
    """Return the parts of an exchange that must be equal for both proxies."""
    facts: dict[str, object] = {f"answer's {name}": got.header(name) for name in _ANSWER_HEADERS}
    facts |= {"status": got.status, "body": got.body}
    if seen is not None:
        facts |= {f"request's {name}": seen.header(name) for name in _REQUEST_HEADERS}
        facts |= {"request line": seen.line, "request body": seen.body}
    return facts


@pytest.fixture(scope="module")
def kubectls() -> dict[str, list[tuple[Got, Seen | None]]]:
    """Return the cache of kubectl's answers, which two tests share: name of the group -> answers."""
    return {}


def run_kubectl(
    api: Recorder, group: Group, place: Path, known: dict[str, list[tuple[Got, Seen | None]]]
) -> list[tuple[Got, Seen | None]]:
    """Return kubectl's answers to a group of requests; kubectl is started only for the first test that needs them."""
    if group.name not in known:
        known[group.name] = run("kubectl", api, group, place)
    return known[group.name]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_kubectl_answers_as_recorded(
    api: Recorder, place: Path, group: Group, kubectls: dict[str, list[tuple[Got, Seen | None]]]
) -> None:
    assert wrong(group.cases, run_kubectl(api, group, place, kubectls), "kubectl") == []


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_hatchway_answers_the_same(
    api: Recorder, place: Path, group: Group, kubectls: dict[str, list[tuple[Got, Seen | None]]]
) -> None:
    need_door()
    ours = run("hatchway", api, group, place)
    assert wrong(group.cases, ours, "hatchway") == []
    theirs = run_kubectl(api, group, place, kubectls)
    problems = []
    for case, mine, other in zip(group.cases, ours, theirs, strict=True):
        if not case.hatchway:
            left, right = compared(*mine), compared(*other)
            problems += [
                f"{case.ask}: {fact}: {left.get(fact)!r}, kubectl: {right[fact]!r}"
                for fact in right
                if left.get(fact) != right[fact]
            ]
    assert problems == []


PROGRAMS = ["kubectl", "hatchway"]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    if request.param == "hatchway":
        need_door()
    return str(request.param)


def test_an_upgraded_connection_carries_bytes(api: Recorder, place: Path, program: str) -> None:
    with running(program, api.kubeconfig(place), cwd=place) as proxy, proxy.connect() as connection:
        connection.sendall(Ask("/ws", headers=UPGRADE).wire())
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        for message in (b"\x81\x85abcdhello", bytes(range(256)) * 1000):
            connection.sendall(message)
            got = b""
            while len(got) < len(message):
                got += connection.recv(65536)
            assert got == message


def test_an_upgrade_that_the_server_ignores(api: Recorder, place: Path, program: str) -> None:
    """The answer of kubectl is a 500; the server's own response is as good for a client."""
    with running(program, api.kubeconfig(place), cwd=place) as proxy:
        assert proxy.ask(Ask("/refused", headers=UPGRADE)).status != 101


def test_credentials_are_not_sent_without_tls(place: Path, program: str) -> None:
    """The door does the same as client-go (clientcmd: "only try to read the auth information if secure")."""
    seen = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        kubeconfig = Recorder(address, Path(), []).kubeconfig(place, scheme="http")
        with running(program, kubeconfig, cwd=place) as proxy, proxy.connect() as client:
            client.sendall(Ask("/api").wire())
            listener.settimeout(20)
            upstream, _ = listener.accept()
            with upstream:
                while b"\r\n\r\n" not in seen:
                    seen += upstream.recv(65536)
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert b"sesame" not in seen


def test_an_api_server_that_is_away(api: Recorder, place: Path, program: str) -> None:
    """From kubectl the answer is a 500 with a text, from the door a `Status` that names the cluster as the cause."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"127.0.0.1:{taken.getsockname()[1]}"
    with running(program, api.kubeconfig(place, address=closed), cwd=place) as proxy:
        got = proxy.ask(Ask("/api"))
    if program == "kubectl":
        assert (got.status, got.body.decode()) == (500, f"dial tcp {closed}: connect: connection refused\n")
    else:
        assert got.status in (500, 502, 503)
        assert b"refused" in got.body


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        ((), r"127\.0\.0\.1:\d+"),
        (("--port", "0"), r"127\.0\.0\.1:\d+"),
        (("-p", "0", "--address", "localhost"), r"127\.0\.0\.1:\d+"),
        (("-p0", "--address=0.0.0.0"), r"(\[::\]|0\.0\.0\.0):\d+"),
        (("--address=[::1]",), r"\[::1\]:\d+"),
        (("--keepalive=30s",), r"127\.0\.0\.1:\d+"),
        (("--keepalive=1m30s",), r"127\.0\.0\.1:\d+"),
    ],
)
def test_the_first_line(api: Recorder, place: Path, program: str, flags: tuple[str, ...], first: str) -> None:
    with running(program, api.kubeconfig(place), *flags, cwd=place) as proxy:
        assert re.fullmatch(first, proxy.where)
        assert outcome(proxy.ask(Ask("/api")), api.seen[-1]) == "200 → GET /api"


def test_the_port_is_the_one_that_was_asked_for(api: Recorder, place: Path, program: str) -> None:
    port = free_port()
    with running(program, api.kubeconfig(place), f"--port={port}", cwd=place) as proxy:
        assert proxy.where == f"127.0.0.1:{port}"
        failed = fails(program, api.kubeconfig(place), f"--port={port}", cwd=place)
        assert failed.returncode != 0
        assert str(port) in failed.stderr
        assert "already in use" in failed.stderr


def test_a_unix_socket(api: Recorder, place: Path, program: str) -> None:
    kubeconfig = api.kubeconfig(place)
    # A socket file that an ended program has left is replaced.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place / "door.sock"))
    for flag in ("--unix-socket=door.sock", "-udoor.sock"):
        with running(program, kubeconfig, flag, cwd=place) as proxy:
            assert proxy.where == "door.sock"
            mode = (place / "door.sock").stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o700
            api.seen.clear()
            assert outcome(proxy.ask(Ask("/api")), api.seen[0]) == "200 → GET /api"
            assert api.seen[0].header("x-forwarded-for") is None
            assert outcome(proxy.ask(Ask("/api", host="evil.example")), None) == FORBIDDEN


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--unix-socket=s", "--port=0"), "cannot set --unix-socket and --port at the same time"),
        (("--unix-socket=/nonexistent/s",), "/nonexistent/s"),
        (("--unix-socket=secret",), "in use"),
        (("--port=70000",), "70000"),
        (("--port=abc",), "abc"),
        (("--port=0", "--address=no-such.invalid"), "no-such.invalid"),
        (("--port=0", "--address=192.0.2.7"), "192.0.2.7"),
        (("--keepalive=abc",), "abc"),
        (("--accept-paths=[",), "["),
        (("--reject-paths=+",), "+"),
        (("--accept-hosts=*",), "*"),
        (("--reject-methods=(",), "("),
        (("--context=nope",), "nope"),
        (("--port=0", "--unknown"), "--unknown"),
    ],
)
def test_invalid_flags_end_the_command(
    api: Recorder, place: Path, program: str, flags: tuple[str, ...], message: str
) -> None:
    failed = fails(program, api.kubeconfig(place), *flags, cwd=place)
    assert failed.returncode != 0
    assert message in failed.stderr
    assert (place / "secret").read_text() == "not to be served"


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        (
            "nonsense.invalid",
            '--address: "nonsense.invalid" is neither an IP address nor a name that',
            "127.0.0.1, ::1",
        ),
        ("127.0.0.1:8001", '--address: "127.0.0.1:8001" is neither', "the port is --port's"),
        ("192.0.2.7", "cannot listen on 192.0.2.7:0: cannot assign requested address", "an address of this machine"),
    ],
)
def test_an_address_that_cannot_be_listened_on(
    api: Recorder, place: Path, address: str, message: str, hint: str
) -> None:
    failed = fails("hatchway", api.kubeconfig(place), "--port=0", f"--address={address}", cwd=place)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert message in failed.stderr and hint in failed.stderr


@pytest.mark.parametrize(
    ("socket", "message", "hint"),
    [
        ("missing/socket", "no such file or directory", "create the directory first"),
        ("file", "address already in use", "the file is no socket"),
        ("file/socket", "not a directory", "choose another path with --unix-socket"),
        ("x" * 120, "af_unix path too long", "choose another path with --unix-socket"),
    ],
)
def test_a_unix_socket_that_cannot_be_listened_on(
    api: Recorder, place: Path, socket: str, message: str, hint: str
) -> None:
    (place / "file").write_text("")
    failed = fails("hatchway", api.kubeconfig(place), f"--unix-socket={place / socket}", cwd=place)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-2].endswith(message)
    assert hint in failed.stderr.splitlines()[-1]


def test_no_context_is_current(api: Recorder, place: Path) -> None:
    kubeconfig = api.kubeconfig(place)
    document = yaml.safe_load(kubeconfig.read_text())
    name = document.pop("current-context")
    kubeconfig.write_text(yaml.safe_dump(document))
    failed = fails("hatchway", kubeconfig, "--port=0", cwd=place)
    assert failed.returncode == 1
    assert "no context is current in the kubeconfig" in failed.stderr
    assert f"--context takes {name}; `kubectl config use-context {name}` makes it current" in failed.stderr
    with running("hatchway", kubeconfig, f"--context={name}", cwd=place) as proxy:
        assert outcome(proxy.ask(Ask("/api")), api.seen[-1]) == "200 → GET /api"


def test_the_listing(api: Recorder, place: Path, program: str) -> None:
    with running(program, api.kubeconfig(place), "--www=files", cwd=place) as proxy:
        got = proxy.ask(Ask("/static/"))
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', got.body.decode())
    assert links == [
        ("a.txt", "a.txt"),
        ("folder/", "folder/"),
        ("index/", "index/"),
        ("link", "link"),
        ("page.html", "page.html"),
        ("sp%20ace&%3C.txt", "sp ace&amp;&lt;.txt"),
    ]


def test_files_outside_of_the_directory_are_not_served(api: Recorder, place: Path) -> None:
    """Links that lead out of the directory, which kubectl follows, could make all files of this machine readable."""
    (place / "secret").write_text("secret")
    (place / "files/out.txt").symlink_to("../secret")
    (place / "files/out").symlink_to("..")
    (place / "files/empty").mkdir()
    (place / "files/empty/index.html").symlink_to("../../secret")
    (place / "files/circle").symlink_to("circle")
    paths = ("/static/out.txt", "/static/out/", "/static/out/secret", "/static/%00", "/static/link")
    paths += ("/static/circle", "/static/circle/", "/static/" + "x" * 5000, "/static/a.txt/")
    with running("hatchway", api.kubeconfig(place), "--www=files", cwd=place) as proxy:
        found = [proxy.ask(Ask(path)).status for path in paths]
        index = proxy.ask(Ask("/static/empty/"))
    assert found == [404, 404, 404, 400, 200, 404, 404, 404, 301]
    assert b"secret" not in index.body


@pytest.mark.parametrize("slashes", ["{}", "/{}", "{}/", "/{}/"])
def test_prefixes_with_and_without_slashes(api: Recorder, place: Path, program: str, slashes: str) -> None:
    flags = ("--www=files", f"-P={slashes.format('some/files')}", f"--api-prefix={slashes.format('some')}")
    with running(program, api.kubeconfig(place), *flags, cwd=place) as proxy:
        found = [proxy.ask(Ask(path)).status for path in ("/some/files/a.txt", "/some/api", "/api")]
    # In kubectl, a prefix without a slash at its beginning is the name of a host.
    assert found == ([404, 404, 404] if program == "kubectl" and slashes[0] != "/" else [200, 200, 404])


def test_keep_alive_of_a_client(api: Recorder, place: Path, program: str) -> None:
    """Several requests on one connection, some of them refused."""
    with running(program, api.kubeconfig(place), cwd=place) as proxy, proxy.connect() as connection:
        for host, status in (("localhost", b"200"), ("evil.example", b"403"), ("localhost", b"200")):
            connection.sendall(f"GET /api HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert _one_answer(connection).split()[1] == status


def _one_answer(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(length[1]) if length else 0
    while left:
        left -= len(connection.recv(left))
    return head


def test_the_defaults_are_kubectls() -> None:
    """Each option of kubectl exists, with the same default."""
    need_door()
    theirs = subprocess.run([find_kubectl(), "proxy", "--help"], capture_output=True, text=True, check=True).stdout
    options = dict(re.findall(r"^    (?:-\w, )?--([a-z-]+)=(.*):$", theirs, re.M))
    assert len(options) == 13, options
    ours = subprocess.run(
        [BIN / "hatchway", "proxy", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
    ).stdout
    for name in options:
        assert f"--{name}" in ours
    for name, default in options.items():
        plain = default.strip("'")
        if plain not in ("", "false", "0s"):
            assert plain in ours, name
