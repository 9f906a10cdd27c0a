"""The fast start of `hatchway exec`: the command lines that use it, and its few imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatchway.kube.workload import DEFAULT_CONTAINER as DEFAULT
from hatchway.remote import quickconfig, quickexec, quickpod

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_no_slow_modules_are_imported() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "import hatchway.cli, hatchway.printable; from hatchway.remote import quickexec, quickconfig; import _ssl, _socket\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"hatchway"}
    assert not loaded & {"asyncio", "click", "ssl", "re", "json", "dataclasses", "typing", "yaml", "socket", "enum"}


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("web-0 -- true", ({}, "web-0", ["true"])),
        ("pod/web-0 -- ls -l -- x", ({}, "web-0", ["ls", "-l", "--", "x"])),
        ("-n shop web-0 -c main -- true", ({"namespace": "shop", "container": "main"}, "web-0", ["true"])),
        ("--namespace=shop web-0 --context c -- true", ({"namespace": "shop", "context": "c"}, "web-0", ["true"])),
    ],
)
def test_command_lines_with_the_fast_start(line: str, parsed: object) -> None:
    assert quickexec._parse(line.split()) == parsed


@pytest.mark.parametrize(
    "line",
    ["", "web-0", "web-0 --", "-- true", "-it web-0 -- sh", "-i web-0 -- cat", "svc/web -- true", "web-0 true",
     "--as bob web-0 -- true", "web-0 extra -- true", "--help", "-n", "web-0 -n -- true", "WEB -- true",
     "../x -- true", ".. -- true", ". -- true", "-x -- true", "-n=shop web-0 -- true"],
)  # fmt: skip
def test_command_lines_without_the_fast_start(line: str) -> None:
    parsed = quickexec._parse(line.split())
    assert parsed is None or parsed[0].get("namespace") == "--"


def document(**more: object) -> dict[str, object]:
    cluster: dict[str, object] = {"server": "https://10.0.0.1:6443", "certificate-authority": "ca.pem"}
    user: dict[str, object] = {"token": "sesame"}
    context: dict[str, object] = {"cluster": "c", "user": "u", "namespace": "shop"}
    parts = {"cluster": cluster, "user": user, "context": context}
    for key, value in more.items():
        part, _, name = key.partition("_")
        parts[part][name.replace("_", "-")] = value
    return {
        "current-context": "x",
        "contexts": [{"name": "x", "context": context}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    for name in quickconfig._PROXIES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ca.pem").write_text(PEM)

    def load(found: object) -> quickconfig.QuickContext | None:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(found))
        return quickconfig.load(str(path), "")

    return load


def test_a_plain_context(load: object) -> None:
    found = load(document())  # type: ignore[operator]
    assert (found.host, found.port, found.token, found.namespace) == ("10.0.0.1", 6443, "sesame", "shop")
    assert found.authority == PEM.encode()


@pytest.mark.parametrize(
    "more",
    [
        {"cluster_proxy_url": "http://proxy:3128"},
        {"cluster_insecure_skip_tls_verify": True},
        {"cluster_tls_server_name": "other"},
        {"cluster_certificate_authority": "missing.pem"},
        {"cluster_server": "http://10.0.0.1"},
        {"cluster_server": "https://user@10.0.0.1"},
        {"user_exec": {"command": "login"}},
        {"user_username": "bob"},
        {"user_as": "bob"},
        {"user_client_key_data": "AAAA"},
        {"user_tokenFile": "t"},
        {"context_cluster": "other"},
    ],
)
def test_other_contexts_are_left_to_the_full_implementation(load: object, more: dict[str, object]) -> None:
    assert load(document(**more)) is None  # type: ignore[operator]


def test_a_proxy_prevents_the_fast_start(load: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert load(document()) is None  # type: ignore[operator]


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65535, 65536])
def test_frames_are_parsed_when_they_are_complete(size: int) -> None:
    payload = b"\x01" + bytes(size)
    length = len(payload)
    if length < 126:
        head = bytes((0x82, length))
    elif length < 65536:
        head = bytes((0x82, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x82, 127)) + length.to_bytes(8, "big")
    data = head + payload
    assert quickexec._frame(data[:-1])[0] is None
    assert quickexec._frame(data + b"next") == ((True, 2, payload), b"next")


@pytest.mark.parametrize("data", [b"\x82\x81abcd", b"\xc2\x01a", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_frames_that_a_server_must_not_send(data: bytes) -> None:
    with pytest.raises(quickexec._Broken):
        quickexec._frame(data)


def _reader(data: bytes, size: int) -> Callable[[], bytes]:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return lambda: pieces.pop(0) if pieces else b""


@given(st.binary(max_size=200), st.integers(1, 50), st.lists(st.integers(1, 60), max_size=8))
def test_bodies_with_a_length_and_in_chunks_are_read(body: bytes, size: int, lengths: list[int]) -> None:
    fields = {"content-length": str(len(body))}
    assert quickpod.read_body(_reader(body, size), fields, b"") == body
    chunks, rest = b"", body
    for length in lengths:
        if rest:
            piece, rest = rest[:length], rest[length:]
            chunks += b"%x;x=y\r\n%b\r\n" % (len(piece), piece)
    if rest:
        chunks += b"%X\r\n%b\r\n" % (len(rest), rest)
    chunked = {"transfer-encoding": "chunked"}
    assert quickpod.read_body(_reader(chunks + b"0\r\n\r\n", size), chunked, b"") == body
    with pytest.raises(quickpod.Incomplete):
        quickpod.read_body(_reader(chunks, size), chunked, b"")


@pytest.mark.parametrize(
    "length",
    [
        {},
        {"content-length": "x"},
        {"content-length": "\u00b2"},
        {"content-length": "99999999999"},
        {"content-length": "3"},
    ],
)
def test_bodies_without_a_known_end_are_not_read(length: dict[str, str]) -> None:
    with pytest.raises(quickpod.Incomplete):
        quickpod.read_body(_reader(b"four", 4), length, b"")


def test_an_endless_line_of_a_chunk_is_an_error() -> None:
    with pytest.raises(quickpod.Incomplete):
        quickpod.read_body(lambda: b"0" * 1000, {"transfer-encoding": "chunked"}, b"")


@pytest.mark.parametrize(
    ("pod", "chosen"),
    [
        ({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}, "a"),
        ({"metadata": {"annotations": {DEFAULT: "b"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}, "b"),
        ({"metadata": {"annotations": {DEFAULT: "x"}}, "spec": {"containers": [{"name": "a"}]}}, "a"),
        ({"metadata": {}, "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Failed"}}, None),
        ({"metadata": {}, "spec": {"containers": []}}, None),
        ([], None),
    ],
)
def test_the_chosen_container(pod: object, chosen: str | None) -> None:
    assert quickpod.default_container(json.dumps(pod).encode()) == chosen
    assert quickpod.default_container(json.dumps(pod).encode()[:-1]) is None
