"""Messages and names from a hostile API server and its pods: they are shown, but cannot imitate Hatchway's lines."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.integration.remote.conftest import Run
from tests.podserver import PodServer, make_pod

HOSTILE = "bad \x1b]0;pwned\x07\nhatchway: all well\r" + "x" * 16_384
SHOWN = b"bad ?]0;pwned??hatchway: all well?xxx"
POD = "/api/v1/namespaces/default/pods/one"


def lines(text: bytes) -> list[bytes]:
    """Return the lines of an output, which must have no control characters except line feeds."""
    assert not set(text) & (set(range(32)) - {10})
    assert len(text) < 8192
    return text.splitlines()


@pytest.mark.parametrize("quick", [True, False])
def test_a_refusal(hatchway: Run, server: PodServer, quick: bool) -> None:
    server.refused[f"{POD}/exec"] = HOSTILE
    done = hatchway("exec", "one", "--", "true", quick=quick)
    assert done.returncode == 1
    first, *hint = lines(done.stderr)
    assert first.startswith(b"hatchway: you may not run commands in pod one") and SHOWN in first
    # The hint has the rule that allows the request, but no text of the server.
    assert hint[:2] == [
        b"  an administrator of the cluster can allow it with:",
        b"apiVersion: rbac.authorization.k8s.io/v1",
    ]
    assert SHOWN not in b"\n".join(hint)


@pytest.mark.parametrize("quick", [True, False])
def test_the_name_of_a_command_in_an_error_of_the_runtime(hatchway: Run, quick: bool) -> None:
    done = hatchway("exec", "one", "--", "no\x1b]0;pwned\x07\nhatchway: all well", quick=quick)
    assert done.returncode == 1
    (line,) = lines(done.stderr)
    assert b"no?]0;pwned??hatchway: all well" in line


@pytest.mark.parametrize("arguments", [("logs", "one"), ("forward", "pod/one:80"), ("cp", "one:/x", "."), ("ls",)])
def test_other_commands(hatchway: Run, server: PodServer, arguments: tuple[str, ...]) -> None:
    for path in (POD, f"{POD}/log", f"{POD}/exec", "/api/v1/services", "/api/v1/namespaces/default/services"):
        server.refused[path] = HOSTILE
    done = hatchway(*arguments)
    first, *_ = lines(done.stderr)
    assert done.returncode == 1
    assert first.startswith((b"hatchway: ", b"note: "))


def test_the_names_before_lines_of_logs(hatchway: Run, server: PodServer) -> None:
    pod = make_pod("web", "a", "b\x1b]0;pwned\x07\nhatchway: all well")
    server.add(pod)
    for name in ("one", "two"):
        del server.objects[f"/api/v1/namespaces/default/pods/{name}"]
    server.objects["/api/v1/namespaces/default/pods/web/log"] = {"a": "line"}
    done = hatchway("logs", "web", "--all-containers")
    assert done.returncode == 0, done.stderr
    assert sorted(lines(done.stdout)) == [
        b'[web/a] {"a": "line"}',
        b'[web/b?]0;pwned??hatchway: all well] {"a": "line"}',
    ]


def test_a_hint_with_names_of_containers(hatchway: Run, server: PodServer) -> None:
    server.add(make_pod("web", "a", "b\nhatchway: all well"))
    done = hatchway("exec", "web", "-c", "c", "--", "true")
    assert lines(done.stderr)[1:] == [b"  it has a, b?hatchway: all well"]


def test_names_in_an_archive(hatchway: Run, server: PodServer, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    evil = "data/\x1b]0;pwned\x07\nhatchway: all well"
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.PAX_FORMAT) as archive:
        for kind, path, link in (
            (tarfile.FIFOTYPE, evil, ""),
            (tarfile.SYMTYPE, evil, "/etc\x1b[2J\nwarning: none"),
            (tarfile.LNKTYPE, evil, "data/none"),
            (tarfile.REGTYPE, evil, ""),
            # This member is below a file, so it causes an error.
            (tarfile.REGTYPE, f"{evil}/x", ""),
        ):
            info = tarfile.TarInfo(path)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    (bare / "tar").write_text(f"#!/bin/sh\nexec cat {tmp_path}/archive\n")
    (bare / "tar").chmod(0o755)
    server.environment["PATH"] = f"{bare}:{os.environ['PATH']}"
    done = hatchway("cp", "one:/data", str(tmp_path / "here"))
    assert done.returncode == 1
    name = b"here/?]0;pwned??hatchway: all well"
    assert lines(done.stderr) == [
        b"warning: " + name + b" was left out: it is a special file",
        b"warning: " + name + b" was left out: it is a link to /etc?[2J?warning: none, outside of the copied tree",
        b"warning: " + name + b" was left out: it is a hard link to a file that was not copied",
        b"hatchway: cannot write " + name + b"/x: Not a directory",
    ]
