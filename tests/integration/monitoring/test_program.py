"""The add-on's program over real sockets: scrapes, restarts after kill -9, hostile targets and clients."""

from __future__ import annotations

import http.server
import socket
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.integration.monitoring.programs import eventually, metrics_server, monitoring


def test_a_target_is_scraped_and_its_series_are_answered(tmp_path: Path) -> None:
    body = b'# HELP hits What was hit.\n# TYPE hits counter\nhits{page="/"} 5\nhits{page="/x"} 7\n'
    with metrics_server(body) as server, monitoring(tmp_path, f"site=http://{server.address}/metrics") as program:
        program.wait_for("hits")
        assert sorted(one["value"][1] for one in program.vector("hits")) == ["5", "7"]
        assert program.vector("sum by (job) (hits)")[0]["metric"] == {"job": "site"}
        assert program.vector("up")[0]["value"][1] == "1"
        (target,) = program.ask("/api/v1/targets")["data"]["activeTargets"]
        assert target["health"] == "up" and target["lastError"] == ""
        assert program.ask("/api/v1/metadata", metric="hits")["data"]["hits"][0]["help"] == "What was hit."
        assert program.ask("/api/v1/label/page/values")["data"] == ["/", "/x"]
        server.body = b"other 1\n"
        program.wait_for("other")
        assert program.vector("hits") == []
        assert eventually(lambda: len(program.vector("up[1m]")[0]["values"]) > 2)


def test_samples_survive_kill_9(tmp_path: Path) -> None:
    with metrics_server(b"hits 5\n") as server, monitoring(tmp_path, f"site=http://{server.address}/") as program:
        eventually(lambda: program.vector("hits[1m]") and len(program.vector("hits[1m]")[0]["values"]) >= 2)
        before = program.vector("hits[1m]")[0]["values"]
        program.process.kill()
        program.process.wait(10)
    with monitoring(tmp_path) as program:
        after = program.vector("hits[1h]")[0]["values"]
        assert after[: len(before)] == before


def test_a_scrape_of_an_endless_response_ends_and_memory_is_bounded(tmp_path: Path) -> None:
    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        line = b'm{n="%d"} 1\n' * 1000
        number = 0
        while True:
            handler.wfile.write(line % tuple(range(number, number + 1000)))
            number += 1000

    with metrics_server() as server, monitoring(tmp_path, f"bad=http://{server.address}/") as program:
        server.body = endless
        program.wait_for("up == 0")
        (target,) = program.ask("/api/v1/targets")["data"]["activeTargets"]
        assert "limit exceeded" in target["lastError"] or "no complete answer" in target["lastError"]
        assert program.wait_for("count_over_time(up[1m]) > 2")
        status = Path(f"/proc/{program.process.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 400 * 1024


# 100,000 medians of 3,600 values each take one thread some minutes.
_HEAVY = "quantile_over_time(0.5, (m @ {now:.0f})[1h:1s])"


def test_queries_end_when_their_clients_disconnect(tmp_path: Path) -> None:
    body = b"".join(b'm{n="%d"} %d\n' % (n, n) for n in range(20))
    with metrics_server(body) as server, monitoring(tmp_path, f"big=http://{server.address}/") as program:
        program.wait_for("m")
        now = time.time()
        parts = urlsplit(program.url)
        query = {"query": _HEAVY.format(now=now + 60), "start": f"{now:.0f}", "end": f"{now + 5000:.0f}", "step": "1"}
        for _ in range(4):
            with socket.create_connection((parts.hostname, parts.port)) as client:
                client.sendall(f"GET /api/v1/query_range?{urlencode(query)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                client.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    client.recv(1)
        # The disconnects have freed both threads long before the queries could have ended.
        started = time.monotonic()
        assert program.ask("/api/v1/query", query="1 + 1")["data"]["result"][1] == "2"
        assert time.monotonic() - started < 20


def test_heavy_queries_time_out_and_large_ones_are_refused(tmp_path: Path) -> None:
    body = b"".join(b'm{n="%d"} %d\n' % (n, n) for n in range(2000))
    with metrics_server(body) as server, monitoring(tmp_path, f"big=http://{server.address}/") as program:
        program.wait_for("m", 60)
        now = time.time()
        steps = {"start": now, "end": now + 10_000, "step": 1}
        found = program.ask("/api/v1/query_range", query="m", **steps)
        assert found["errorType"] == "execution" and "too many samples" in found["error"]
        query = _HEAVY.format(now=now + 60).replace("(m", '(m{n=~"1."}')
        found = program.ask("/api/v1/query_range", query=query, timeout="0.3", **steps)
        assert (found["errorType"], found["error"]) == ("timeout", "query timed out in query execution")
