"""A page with ten megabytes of script in Chromium, under a path prefix, beside the same page by host name.

    .venv/bin/python bench/script_pages.py [FILE ...]

The files are scripts. Without files, two well-known scripts are downloaded from npm: TypeScript's compiler (9 MB, not
minified) and Plotly twice (9 MB, minified).

A pod of an embedded cluster serves the scripts, plain and as gzip. The benchmark measures the time for which a user
waits: from the beginning of the navigation to the end of the script's run, in a browser with an empty cache. Rounds are
interleaved; a ratio is the median of the quotients of the same rounds.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.clusters import Cluster, cluster
from bench.compare import ratio
from bench.doors import goal
from tests.chromium import chromium
from tests.freeports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Maps each package to (the file in it, how often the page contains this file).
_KNOWN = {"typescript@5.9.3": ("lib/typescript.js", 1), "plotly.js-dist-min@2.35.3": ("plotly.min.js", 2)}
_HOST = "bench.default.svc.localhost"
_PREFIX = "/api/v1/namespaces/default/services/bench/proxy"
_PAGE = (
    '<!DOCTYPE html><title>bench</title><script src="/%s"></script><script>window.ended = performance.now()</script>'
)

_SERVER = """
import http.server

FILES = {}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        FILES[self.path] = self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, "text/plain", b"")

    def do_GET(self):
        found = FILES.get(self.path)
        self.answer(200 if found else 404, *(found or ("text/plain", b"")))

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def known_scripts(directory: Path) -> dict[str, bytes]:
    """Download the scripts that are measured when no file is given, with `npm`."""
    found = {}
    for package, (name, times) in _KNOWN.items():
        command = ["npm", "pack", "--silent", "--pack-destination", str(directory), package]
        packed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(directory / packed) as archive:
            member = archive.extractfile(f"package/{name}")
            assert member is not None
            found[package.split("@", 1)[0]] = (member.read() + b"\n") * times
    return found


def deploy(found: Cluster) -> None:
    """Start the pod that stores the files, behind a Service."""
    namespace = "/api/v1/namespaces/default"
    labels = {"app": "bench"}
    container = {"name": "server", "image": "hatchway/host", "command": ["python3", "-c", _SERVER]}
    pod = {"metadata": {"name": "bench", "labels": labels}, "spec": {"containers": [container]}}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    found.create(f"{namespace}/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": service}
    found.create(f"{namespace}/services", service)


def put(port: int, path: str, kind: str, body: bytes) -> int:
    """Send a file to the pod; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", path, body, {"Host": f"{_HOST}:{port}", "Content-Type": kind})
    status = connection.getresponse().status
    connection.close()
    return status


def upload(port: int, scripts: dict[str, bytes]) -> list[str]:
    """Send all scripts to the pod, plain and as gzip, with a page for each; return the names of the pages."""
    end = time.monotonic() + 60
    while put(port, "/ready", "text/plain", b"") != 201:
        if time.monotonic() > end:
            raise RuntimeError("the pod does not answer")
        time.sleep(0.2)
    names = []
    for name, text in scripts.items():
        for file, body in ((f"{name}.js", text), (f"{name}.js.gz", gzip.compress(text))):
            put(port, f"/{file}", "text/javascript", body)
            put(port, f"/{file}.html", "text/html", (_PAGE % file).encode())
            names.append(file)
    return names


def load(browser: Browser, url: str) -> float:
    """Open a page in a new context; return the seconds from the navigation's beginning to the end of its script."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, timeout=120_000)
    ended = page.evaluate("window.ended")
    context.close()
    return float(ended) / 1000


def measure(browser: Browser, port: int, name: str, rounds: int) -> float:
    """Print the times of one page. Return the ratio of prefix to host name for the first load."""
    host = f"http://{_HOST}:{port}/{name}.html"
    prefix = f"http://prefix.localhost:{port}{_PREFIX}/{name}.html"
    load(browser, host)
    times: dict[str, list[float]] = {"by host name": [], "by prefix": []}
    for _ in range(rounds):
        times["by host name"].append(load(browser, host))
        times["by prefix"].append(load(browser, prefix))
    found = ratio(times["by prefix"], times["by host name"])
    text = ", ".join(f"{way} {statistics.median(each):.2f} s" for way, each in times.items())
    print(f"{name}: {text}, ratio {found:.2f}")
    return found


def main() -> None:
    """Measure the scripts that the command line names, or the scripts from npm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        scripts = {one.stem: one.read_bytes() for one in arguments.files} or known_scripts(directory)
        port = free_port()
        with cluster(directory, "private") as found:
            deploy(found)
            hatchway = str(Path(sys.executable).parent / "hatchway")
            config = str(directory / "kubeconfig-private")
            with peers.running([hatchway, "proxy", "--port", str(port), "--kubeconfig", config], port):
                names = upload(port, scripts)
                with chromium() as browser:
                    for name in names:
                        value = measure(browser, port, name, arguments.rounds)
                        goal(f"{name}: by prefix at most twice as long as by host name", value, value <= 2)


if __name__ == "__main__":
    main()
