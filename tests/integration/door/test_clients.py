"""Programs that do not resolve names below localhost reach targets with the lines that `hatchway url` prints."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.door import Door, door_of

SERVICE = ("elasticsearch-logging", "-n", "kube-system")
PATH = '_cat/indices/none*?h=it\'s+"$HOME"&s=`id`&format=json'
_JAVA = """
class Get {
    public static void main(String[] arguments) throws Exception {
        System.out.print(new String(new java.net.URL(arguments[0]).openStream().readAllBytes()));
    }
}
"""


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[Door]:
    with door_of(cluster) as running:
        yield running


def lines_of(cluster: Cluster, door: Door, *arguments: str) -> dict[str, str]:
    done = cluster.hatchway("url", *SERVICE, *arguments, "--clients", "--port", str(door.port), "-o", "json")
    found: dict[str, str] = json.loads(done.stdout)["clients"]
    return found


def shell(line: str) -> str:
    # The lines must also work for users whose settings exclude localhost from all proxies.
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "no_proxy": "localhost,127.0.0.1", "NO_PROXY": "localhost"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("client", "program"), [("curl", "curl"), ("wget", "wget"), ("python", "python3"), ("httpie", "http")]
)
def test_the_line_for_a_program_works(cluster: Cluster, door: Door, client: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    line = lines_of(cluster, door)[client]
    assert json.loads(shell(line))["cluster_name"] == "hatchway"
    # Characters with a meaning to the shell arrive unchanged.
    line = lines_of(cluster, door, PATH)[client]
    assert json.loads(shell(line)) == []


def test_a_line_for_java(cluster: Cluster, door: Door, tmp_path: Path) -> None:
    if shutil.which("java") is None or shutil.which("javac") is None:
        pytest.skip("there is no Java here")
    (tmp_path / "Get.java").write_text(_JAVA)
    subprocess.run(["javac", "Get.java"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    url = door.host("elasticsearch-logging", "kube-system")
    line = lines_of(cluster, door)["java"].replace("PROGRAM", f"-cp {tmp_path} Get {url}")
    assert json.loads(shell(line))["cluster_name"] == "hatchway"


def test_the_address_works_without_the_host_name(cluster: Cluster, door: Door) -> None:
    address = lines_of(cluster, door)["address"]
    assert address.startswith(f"http://127.0.0.1:{door.port}/")
    if shutil.which("node") is None:
        pytest.skip("there is no Node.js here")
    program = f"fetch('{address}').then(answer => answer.text()).then(console.log)"
    assert json.loads(shell(f'node -e "{program}"'))["cluster_name"] == "hatchway"


def test_the_list_has_addresses_and_lines_for_etc_hosts(cluster: Cluster, door: Door) -> None:
    options = ("-n", "kube-system", "--port", str(door.port))
    items = json.loads(cluster.hatchway("ls", *options, "-o", "json").stdout)["items"]
    ports = next(item["ports"] for item in items if item["argument"] == "svc/elasticsearch-logging")
    assert json.loads(shell(f"curl -s '{ports[0]['address']}'"))["cluster_name"] == "hatchway"
    # Ports that do not speak HTTP get no HTTP address.
    dns = next(item["ports"] for item in items if item["argument"] == "svc/kube-dns")
    assert [bool(port["address"]) for port in dns] == [bool(port["url"]) for port in dns]
    hosts = cluster.hatchway("ls", *options, "-o", "hosts").stdout.splitlines()
    assert "127.0.0.1 elasticsearch-logging.kube-system.svc.localhost" in hosts
    assert len(hosts) == len(set(hosts))
    assert all(re.fullmatch(r"127\.0\.0\.1 [a-z0-9.-]+\.localhost", line) for line in hosts)


def test_hints_are_only_printed_to_terminals(cluster: Cluster, door: Door) -> None:
    shown = cluster.hatchway("url", *SERVICE, "--clients").stdout
    assert "http_proxy=http://127.0.0.1:8001 wget" in shown
    assert max(len(line.split("  ")[0]) for line in shown.splitlines()) < 18
    # Here the output is not a terminal, so there is one line and no hint.
    done = cluster.hatchway("url", *SERVICE, "--host")
    assert done.stdout == "http://elasticsearch-logging.kube-system.svc.localhost:8001/\n"
    assert done.stderr == ""
