"""Prometheus and this program scrape the same server. After each of its answers, both have the same series."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.integration.monitoring.programs import metrics_server, monitoring
from tests.unit.addons.monitoring import prometheus

pytestmark = pytest.mark.skipif(not prometheus.is_at_hand(), reason="Prometheus 2.4x is not installed")

_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# The server's successive answers: (content type, body). Series appear and disappear between them.
_ANSWERS: list[tuple[str, str]] = [
    ("text/plain", 'a 1\nb{x="1"} 2\nb{x="2"} 3\n'),
    ("text/plain", 'a 1\nb{x="2"} 4\n'),
    ("text/plain", 'c{instance="mine",job="yours",exported_job="third"} 5\nd 1\nd 2\nd 3\ne:f_g 1\nh 8'),
    ("text/plain", "a{} 1\n\n\n# comment\n#\n# HELP a\n# TYPE a gauge\n  \n"),
    ("text/plain", 'b {x = "1" , y="2",} 3\nc\t{x="1"}\t3\nd{x="}",y="{ # \\ " \n"} 3\ne{x="1" y="2"} 1\nf{x=""} 1\n'),
    ("text/plain", "a NaN\nb +Inf\nc -Inf\nd 1e3\ni .5\nj 5.\nk -0\nf inf\ng nan\n"),
    ("text/plain", "# TYPE a\nz 1\n"),
    ("text/plain", "# TYPE a number\nz 1\n"),
    ("text/plain", "l 0x1p4\n"),
    ("text/plain", "h Infinity\n"),
    ("text/plain", "a 1_0\n"),
    ("text/plain", "a 1 2 3\n"),
    ("text/plain", "a\n"),
    ("text/plain", 'a{x="1"\n'),
    ("text/plain", "a{x='1'} 1\n"),
    ("text/plain", "1a 1\n"),
    ("text/plain", "<html>\n"),
    ("text/html", "a 7\n"),
    ("", ""),
    (_OPENMETRICS, 'a_total 1 # {t="x y } z"} 1\nb{x=" # {"} 2\n# EOF\n'),
    (_OPENMETRICS, "not_there_before 1\n"),
    (_OPENMETRICS, "neither_this 1\n# EOF\nb 2\n"),
    ("text/plain", "500"),
    ("text/plain", "last 1\n"),
]


def _series(found: Any) -> dict[tuple[tuple[str, str], ...], str]:
    assert found["status"] == "success", found
    return {
        tuple(sorted(one["metric"].items())): str(float(one["value"][1]))
        for one in found["data"]["result"]
        if one["metric"]["__name__"] not in ("scrape_duration_seconds", "scrape_series_added")
    }


def test_both_have_the_same_series_after_each_answer(tmp_path: Path) -> None:
    state = {"kind": "text/plain", "body": "first 1\n"}
    answered: dict[str, int] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        agent = "prometheus" if "Prometheus" in handler.headers["User-Agent"] else "ours"
        body = state["body"].encode()
        handler.send_response(500 if state["body"] == "500" else 200)
        if state["kind"]:
            handler.send_header("Content-Type", state["kind"])
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        answered[agent] = answered.get(agent, 0) + 1

    different = []
    (tmp_path / "real").mkdir()
    with metrics_server() as server:
        server.body = answer
        jobs = f"[{{job_name: site, static_configs: [{{targets: ['{server.address}']}}]}}]"
        config = f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: {jobs}\n"
        with (
            prometheus.running(tmp_path / "real", config) as real,
            monitoring(tmp_path / "ours", f"site=http://{server.address}/metrics", INTERVAL="0.2") as ours,
        ):
            for kind, body in _ANSWERS:
                state.update(kind=kind, body=body)
                before = dict(answered)
                deadline = time.monotonic() + 60
                # Wait for two scrapes by each program, because the first may have begun before the change.
                while any(answered.get(who, 0) < before.get(who, 0) + 2 for who in ("prometheus", "ours")):
                    assert time.monotonic() < deadline, answered
                    time.sleep(0.02)
                query = '{job="site"}'
                mine = theirs = {("", ""): ""}
                deadline = time.monotonic() + 20
                while True:
                    mine = _series(ours.ask("/api/v1/query", query=query))  # type: ignore[assignment]
                    theirs = _series(real.ask("/api/v1/query", query=query))  # type: ignore[assignment]
                    if mine == theirs:
                        break
                    if time.monotonic() > deadline:
                        both = (
                            sorted(set(mine.items()) - set(theirs.items())),
                            sorted(set(theirs.items()) - set(mine.items())),
                        )
                        different.append(f"{kind} {body!r}: ours {both[0]}, Prometheus' {both[1]}")
                        break
                    time.sleep(0.05)
    if different:
        pytest.fail("\n".join(different))
