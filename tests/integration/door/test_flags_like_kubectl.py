"""kubectl's global flags on `hatchway proxy`, beside `kubectl proxy`: what reaches the API server is the same."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import commands
from tests.door import need_door
from tests.integration.door.proxies import Ask, fails, running
from tests.integration.door.recorder import Recorder, recorder

_FIELDS = (
    "authorization", "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-team", "host",
)  # fmt: skip
_IGNORED = (
    "-v=0", "--v=0", "-n", "x", "--namespace=y", "--request-timeout=5s", "--cache-dir=/nowhere",
    "--disable-compression=true",
    "--log-flush-frequency=1s", "--match-server-version=false", "--profile=none", "--profile-output=p", "--vmodule=a=1",
    "--warnings-as-errors",
)  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with recorder(tmp_path_factory.mktemp("recorder")) as running_recorder:
        yield running_recorder


@pytest.fixture
def place(api: Recorder, tmp_path: Path) -> Path:
    """Write a kubeconfig whose current context has no server; flags choose its contexts `good` and `other`."""
    need_door()
    document = yaml.safe_load(api.kubeconfig(tmp_path).read_text())
    good = document["clusters"][0]["cluster"]
    ca = good.get("certificate-authority-data")
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(ca) if ca else Path(good["certificate-authority"]).read_bytes())
    made = {
        "current-context": "work",
        "clusters": [
            {"name": "dead", "cluster": {"server": "https://127.0.0.1:9", "tls-server-name": "dead.example"}},
            {"name": "good", "cluster": good},
        ],
        "users": [
            {"name": "me", "user": {"token": "mine"}},
            {"name": "other", "user": {"token": "others", "as": "jane", "as-groups": ["a"]}},
        ],
        "contexts": [
            {"name": "work", "context": {"cluster": "dead", "user": "me"}},
            {"name": "good", "context": {"cluster": "good", "user": "me"}},
        ],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(made))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "sent"),
    [
        (("--context=good",), {"authorization": "Bearer mine"}),
        (("--cluster", "good"), {"authorization": "Bearer mine"}),
        (("--cluster=good", "--user=other"), {"authorization": "Bearer others", "impersonate-user": "jane"}),
        (("--context=good", "--token=said"), {"authorization": "Bearer said"}),
        (
            ("--context=good", "--user=other", "--token=said", "--as=joe"),
            {"authorization": "Bearer said", "impersonate-user": "joe"},
        ),
        (
            (
                *("--context=good", "--as", "joe", "--as-group=a", "--as-group", "b", "--as-uid=7"),
                "--as-user-extra=team=blue",
            ),
            {"impersonate-group": "a, b", "impersonate-uid": "7", "impersonate-extra-team": "blue"},
        ),
        (("-s=SERVER", "--certificate-authority=ca.crt"), {"authorization": "Bearer mine"}),
        (("-s", "SERVER", "--insecure-skip-tls-verify"), {"authorization": "Bearer mine"}),
        (("--server=SERVER", "--insecure-skip-tls-verify=true", "--context=good"), {"authorization": "Bearer mine"}),
        (("--server=SERVER", "--certificate-authority=ca.crt", "--tls-server-name=127.0.0.1"), {}),
        (("--context=good", *_IGNORED), {"authorization": "Bearer mine"}),
    ],
)  # fmt: skip
def test_flags(flags: tuple[str, ...], sent: dict[str, str], api: Recorder, place: Path) -> None:
    server = yaml.safe_load((place / "config").read_text())["clusters"][1]["cluster"]["server"]
    found = []
    for program in ("kubectl", "hatchway"):
        api.seen.clear()
        written = tuple(flag.replace("SERVER", server) for flag in flags)
        with running(program, place / "config", *written, cwd=place) as proxy:
            assert proxy.ask(Ask("/api/v1/x")).status == 200
            assert "said" not in proxy.errors()
        found.append({name: api.seen[0].header(name) for name in _FIELDS})
    assert found[1] == found[0]
    assert {name: found[0][name] for name in sent} == sent


@pytest.mark.parametrize("flag", ["--token", "--password"])
def test_secrets_of_the_command_line_are_not_printed(flag: str, place: Path) -> None:
    """They are neither in errors nor in the log."""
    flags = ("-v=6", "--username=me") if flag == "--password" else ("-v=6",)
    with running("hatchway", place / "config", f"{flag}=top-secret", *flags, cwd=place) as proxy:
        answer = proxy.ask(Ask("/api/v1/x"))
        assert answer.status >= 500
        assert b"top-secret" not in answer.body
        assert "top-secret" not in proxy.errors()


def test_a_server_needs_no_kubeconfig(api: Recorder, place: Path) -> None:
    server = yaml.safe_load((place / "config").read_text())["clusters"][1]["cluster"]["server"]
    flags = ("-s", server, "--insecure-skip-tls-verify", "--token=said")
    for program in ("kubectl", "hatchway"):
        api.seen.clear()
        (place / "empty").write_text("")
        with running(program, place / "empty", *flags, cwd=place) as proxy:
            assert proxy.ask(Ask("/api/v1/x")).status == 200
        assert api.seen[0].header("authorization") == "Bearer said"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--cluster=none",), '"none"'),
        (("--user=none",), '"none"'),
        (("--context=none",), '"none"'),
        (("--context=good", "--certificate-authority=none.crt"), "none.crt"),
        (("--context=good", "--client-certificate=none.crt", "--client-key=none.key"), "none."),
        (("--context=good", "--as-group=a"), "group"),
        (("--context=good", "--insecure-skip-tls-verify", "--certificate-authority=ca.crt"), "insecure"),
        (("--context=good", "--proxy-url=ftp://x"), "ftp"),
        (("--context=good", "--insecure-skip-tls-verify=maybe"), "maybe"),
        (("--v=x",), "x"),
    ],
)
def test_flags_that_both_refuse(flags: tuple[str, ...], words: str, place: Path) -> None:
    for program in ("kubectl", "hatchway"):
        done = fails(program, place / "config", "--port=0", *flags, cwd=place)
        assert done.returncode != 0
        assert words in done.stderr


@pytest.mark.parametrize("command", [["ls"], ["info"], ["url", "web:http"], ["open", "web", "--print"]])
def test_other_commands_accept_the_flags(command: list[str], place: Path) -> None:
    done = commands.run_text(
        [*command, f"--kubeconfig={place / 'config'}", "-s=https://127.0.0.1:7", "--token=said", "--as=joe",
         "--insecure-skip-tls-verify=true", "-n=team", *_IGNORED[2:]],
    )  # fmt: skip
    if command[0] in ("ls", "info"):
        assert "https://127.0.0.1:7): connection refused" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "/namespaces/y/services/web" in done.stdout or "web.y.svc.localhost" in done.stdout
    assert "said" not in done.stdout + done.stderr
