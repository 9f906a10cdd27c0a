"""The searches of the log explorer on many generated lines: time from the request to the last byte of the answer.

python bench/log_search.py [--lines 1000000] [--data DIRECTORY]

--data: the directory in which the index is kept for the next run. Without this option, a new index is made, which takes
some minutes for a million lines. Goal: each search, with its histogram, its counts of fields and its 200 lines, takes
at most 300 ms (the median). On a machine with other work, the processor time of the add-on is the better measure: it is
the time that a search takes on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from hatchway.addons.logging import cri
from hatchway.addons.logging.documentstore import LoggingStore, put
from tests.logaddon import Addon

APPLICATIONS = {
    "shop": ("frontend", "cart", "checkout", "payments"),
    "kube-system": ("coredns", "metrics"),
    "data": ("postgres", "redis"),
    "default": ("web", "worker"),
}
WORDS = (
    "connection",
    "request",
    "response",
    "timeout",
    "refused",
    "upstream",
    "user",
    "order",
    "cart",
    "token",
    "query",
)
HOURS = 20
FIELDS = {
    "level": "level",
    "namespace": "kubernetes.namespace_name",
    "pod": "kubernetes.pod_name",
    "container": "kubernetes.container_name",
    "node": "kubernetes.host",
    "stream": "stream",
}
GOAL = 0.3


def text_of(application: str, chosen: random.Random) -> str:
    """Return one line in the style of an application: JSON, an access log, or words with a level."""
    number = chosen.random()
    words = " ".join(chosen.choices(WORDS, k=chosen.randint(3, 8)))
    if application in ("checkout", "payments", "cart"):
        level = "error" if number < 0.05 else "warn" if number < 0.12 else "debug" if number < 0.3 else "info"
        detail = {
            "level": level,
            "msg": words,
            "status": chosen.choice((200, 200, 404, 500)),
            "ms": chosen.randint(1, 900),
        }
        return json.dumps({**detail, "user": {"id": chosen.randint(1, 500)}, "path": f"/api/v1/{chosen.choice(WORDS)}"})
    if application == "web":
        path = f"/{chosen.choice(WORDS)}/{chosen.randint(1, 9999)}"
        status = chosen.choice((200, 304, 502))
        return f'10.244.1.{chosen.randint(2, 60)} - - "GET {path} HTTP/1.1" {status} {chosen.randint(99, 90000)}'
    return f"{'ERROR' if number < 0.02 else 'WARN' if number < 0.08 else 'INFO'} {words} id={chosen.getrandbits(40):x}"


def make_index(directory: Path, lines: int) -> None:
    """Index generated lines of the last HOURS hours, as the collector does."""
    store = LoggingStore(directory, 10**12)
    chosen = random.Random(7)
    pods = [
        cri.LoggedContainer(namespace, f"{name}-{number}", f"uid-{name}-{number}", name, f"node-{number % 3}")
        for namespace, names in APPLICATIONS.items()
        for name in names
        for number in range(3)
    ]
    end = datetime.now(UTC)
    for number in range(lines):
        at = end - timedelta(hours=HOURS) * (1 - (number + 1) / lines)
        pod = chosen.choice(pods)
        stream = "stderr" if chosen.random() < 0.2 else "stdout"
        line = cri.LogLine(f"{at:%Y-%m-%dT%H:%M:%S.%f}123Z", stream, text_of(pod.container, chosen), False)
        document = pod.to_document(line)
        index = store.one(store.log_index(line.day), create=True)
        put(index, f"id{number}", msgspec.json.encode(document), document)
        if number % 20_000 == 19_999:
            store.refresh()
            print(f"\r{number + 1:,} of {lines:,} lines", end="", file=sys.stderr, flush=True)
    store.close()
    print(file=sys.stderr)


def body_of(query: dict[str, Any], hours: float, **more: Any) -> dict[str, Any]:
    """Return a search as the page sends it (pages/main.js)."""
    now = int(time.time() * 1000)
    begin = now - int(hours * 3_600_000)
    span = {"range": {"@timestamp": {"gte": begin, "lt": now, "format": "epoch_millis"}}}
    interval = "15m" if hours > 10 else "1m" if hours > 0.5 else "5s"
    level = {"terms": {"field": "level.keyword", "size": 10, "missing": "none"}}
    histogram = {"field": "@timestamp", "fixed_interval": interval, "min_doc_count": 1}
    return {
        "query": {"bool": {"must": [query], "filter": [span], "must_not": []}},
        "size": 200,
        "sort": [{"@timestamp": "desc"}, {"_doc": "desc"}],
        "track_total_hits": True,
        "aggs": {
            "time": {"date_histogram": histogram, "aggs": {"by": level}},
            **{f"f_{name}": {"terms": {"field": f"{path}.keyword", "size": 50}} for name, path in FIELDS.items()},
        },
        **more,
    }


def words(text: str) -> dict[str, Any]:
    """Return the query for a text of the search field."""
    return {"query_string": {"query": text, "default_operator": "AND"}}


QUESTIONS: dict[str, tuple[dict[str, Any], float]] = {
    "all lines": ({"match_all": {}}, 24),
    "all lines of an hour": ({"match_all": {}}, 1),
    "timeout*": (words("timeout*"), 24),
    "t* (the first letter typed)": (words("t*"), 24),
    "connection refused*": (words("connection refused*"), 24),
    '"connection refused"': (words('"connection refused"'), 24),
    "level:error": (words("level:error"), 24),
    "NOT level:info": (words("NOT level:info"), 24),
    "timeout OR refused OR cart": (words("timeout OR refused OR cart"), 24),
    "kubernetes.pod_name:web*": (words("kubernetes.pod_name:web*"), 24),
    "/time.*/": (words("/time.*/"), 24),
    "id of one line": (words("9999"), 24),
}


def ask(addon: Addon, body: dict[str, Any]) -> tuple[float, Any]:
    """Return (seconds, answer) of a search by the explorer's server."""
    source = urllib.parse.urlencode({"source": json.dumps(body)})
    began = time.perf_counter()
    with urllib.request.urlopen(f"{addon.explorer}api/logstash-*/_search?{source}") as answer:
        raw = answer.read()
    return time.perf_counter() - began, json.loads(raw)


def memory(pid: int) -> float:
    """Return a process's proportional share of memory, MiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024


def processor_time(pid: int) -> float:
    """Return the seconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> int:
    """Measure, print, and return 1 when a median is above the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = chosen.data or Path(temporary)
        if not (directory / "data/indices").exists():
            make_index(directory / "data", chosen.lines)
        addon = Addon(directory)
        addon.start(HATCHWAY_LOG_LIMIT=str(10**12))
        slow = 0
        try:
            print(f"{'search':32} {'lines found':>12} {'median ms':>9} {'slowest':>9} {'CPU ms':>7}")
            for name, (query, hours) in QUESTIONS.items():
                used = processor_time(addon.pid)
                answers = [ask(addon, body_of(query, hours)) for _ in range(chosen.rounds)]
                used = (processor_time(addon.pid) - used) / chosen.rounds
                times = [seconds for seconds, _ in answers]
                median = statistics.median(times)
                slow += median > GOAL
                found = answers[0][1]["hits"]["total"]["value"]
                said = "above the goal" if median > GOAL else ""
                times_said = f"{median * 1000:>9.0f} {max(times) * 1000:>9.0f} {used * 1000:>7.0f}"
                print(f"{name:32} {found:>12,} {times_said}   {said}")
            print(f"memory of the add-on: {memory(addon.pid):.0f} MiB")
        finally:
            addon.stop()
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
