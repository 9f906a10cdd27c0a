"""Ten megabytes of script under a path prefix, beside the same script by host name.

    .venv/bin/python bench/rewriting.py

A pod of an embedded cluster serves the scripts. One client requests them from the door in interleaved rounds of one
run: by host name, and under `prefix.localhost`, where they are rewritten.

    time            until the last byte has arrived
    rewriting       processor time of the rewriter alone
    longest turn    the longest time that one piece of the body takes
    kept            the most bytes of the input that the rewriter holds back

The scripts are generated. One resembles the output of minifiers. The other one reads an address in every statement,
which no real application does. `script_pages.py` measures real scripts in a browser.
"""

from __future__ import annotations

import argparse
import http.client
import inspect
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.clusters import Cluster, cluster
from bench.doors import goal
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.urlrules import PrefixRule
from tests.freeports import free_port

SIZE = 10_000_000
LONGEST_TURN = 0.05
# The size of the pieces (bytes) in which the data path passes bodies to a transform.
PIECE = 64 * 1024
ROUNDS = 3
_PREFIX = b"/api/v1/namespaces/default/services/web:http/proxy"

_MINIFIED = (
    'var e%d=n(%d),t=function(a,b){return a&&b?{type:"node",value:a.value/2,key:"k-%d",children:[].concat(b.map('
    "function(c,d){return c.id===d?`${c.id}-${d}`:/^[a-z\"']+$/.test(c.name)?null:c}))}:void 0};"
    "for(var o=0,i=e%d.length;o<i;o++)r[o]=t(e%d[o],[]);/* a comment, which says nothing */"
)
_DENSE = (
    'function f%d(a,b){if(a.b("x/%d")&&location.pathname.indexOf("/a")>=0)'
    'return b.c["d"]+a/2+window.location.href+`x${a}`;'
    'import("/m%d.js");return/"/.test(a)?a.href:b}\n%.0s%.0s'
)

# Arguments of `made_up`.
_SCRIPTS = {"minified": (_MINIFIED, 20), "dense": (_DENSE, 0)}


def made_up(pattern: str, address_every: int = 0) -> bytes:
    """Return a script of `SIZE` bytes.

    Args:
        pattern: a statement with five places for its number.
        address_every: N to read the page's address in every Nth statement; 0 for no such statement.
    """
    parts: list[str] = []
    size = at = 0
    while size < SIZE:
        one = pattern % ((at,) * 5)
        if address_every and at % address_every == 0:
            one += "var u=window.location.pathname;"
        parts.append(one)
        size += len(one)
        at += 1
    return "".join(parts).encode()[:SIZE]


def rewrite(text: bytes) -> tuple[float, float, int]:
    """Return (processor seconds for the whole text, those for its slowest piece, the most bytes held back)."""
    rewriter = JavaScriptRewriter(PrefixRule(_PREFIX, (b"prefix.localhost:8001",)))
    total = longest = 0.0
    kept = 0
    for at in range(0, len(text), PIECE):
        begin = time.thread_time()
        rewriter.feed(text[at : at + PIECE])
        took = time.thread_time() - begin
        total += took
        longest = max(longest, took)
        kept = max(kept, len(rewriter._window.text))
    begin = time.thread_time()
    rewriter.finish()
    return total + time.thread_time() - begin, longest, kept


_SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = SCRIPTS.get(self.path.lstrip("/"))
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/javascript")
        self.send_header("Content-Length", str(len(text or b"")))
        self.end_headers()
        self.wfile.write(text or b"")

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def deploy(found: Cluster) -> None:
    """Start the pod that serves the scripts, behind a Service."""
    namespace = "/api/v1/namespaces/default"
    labels = {"app": "bench"}
    scripts = f"SCRIPTS = {{name: made_up(*of) for name, of in {_SCRIPTS!r}.items()}}"
    made = f"SIZE = {SIZE}\n{inspect.getsource(made_up)}\n{scripts}\n"
    container = {"name": "server", "image": "hatchway/host", "command": ["python3", "-c", made + _SERVER]}
    pod = {"metadata": {"name": "bench", "labels": labels}, "spec": {"containers": [container]}}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    found.create(f"{namespace}/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
    found.create(
        f"{namespace}/services",
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": service},
    )


def download(port: int, host: str, path: str) -> tuple[int, int, float]:
    """Request a script from the door as a browser does; return status, length and seconds."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": f"{host}:{port}", "Sec-Fetch-Dest": "script"})
    answer = connection.getresponse()
    length = 0
    while piece := answer.read(PIECE):
        length += len(piece)
    connection.close()
    return answer.status, length, time.perf_counter() - begin


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        port = free_port()
        with cluster(directory, "private") as found:
            deploy(found)
            hatchway = str(Path(sys.executable).parent / "hatchway")
            config = str(directory / "kubeconfig-private")
            with peers.running([hatchway, "proxy", "--port", str(port), "--kubeconfig", config], port):
                measure(port, rounds)


def measure(port: int, rounds: int) -> None:
    """Print the times of both scripts, by host name and by prefix."""
    """Measure both ways through the door and the rewriter alone, and print the results. port: the door's."""
    ways = {
        "by host name": ("bench.default.svc.localhost", "/"),
        "by prefix": ("prefix.localhost", "/api/v1/namespaces/default/services/bench/proxy/"),
    }
    end = time.monotonic() + 60
    while download(port, *ways["by host name"][:1], "/minified")[0] != 200:
        if time.monotonic() > end:
            raise RuntimeError("the pod does not answer")
        time.sleep(0.2)
    for name, of in _SCRIPTS.items():
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (host, root) in ways.items():
                status, length, seconds = download(port, host, root + name)
                if status != 200 or length < SIZE:
                    raise RuntimeError(f"{way}: status {status}, {length} bytes")
                times[way].append(seconds)
        text = made_up(*of)
        took, longest, kept = min(rewrite(text) for _ in range(rounds))
        host_name, prefix = (statistics.median(times[way]) for way in ways)
        print(
            f"{name}: by host name {host_name:.2f} s, by prefix {prefix:.2f} s, ratio {prefix / host_name:.2f}; "
            f"rewriting {took:.2f} s, longest turn {longest * 1000:.0f} ms, kept {kept >> 10} KiB"
        )
        goal(f"{name}: no turn longer than {LONGEST_TURN * 1000:.0f} ms", longest * 1000, longest <= LONGEST_TURN)


if __name__ == "__main__":
    main()
