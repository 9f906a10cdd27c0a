"""The logging add-on as a process: reads log files, and answers over HTTP and HTTPS on one port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.logaddon import STAMP, Addon, append, line, until


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Addon]:
    made = Addon(tmp_path)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def addon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addon]:
    made = Addon(tmp_path_factory.mktemp("addon"))
    made.start()
    yield made
    assert made.stop() == 0


def test_the_documentations_examples(addon: Addon) -> None:
    for scheme in ("http", "https"):
        status, root = addon.ask("/", scheme=scheme)
        assert (status, root["tagline"]) == (200, "You Know, for Search")
        status, health = addon.ask("/_cluster/health?pretty=true", scheme=scheme)
        assert (status, health["status"]) == (200, "green")
    for number, path in enumerate(("/twitter/_doc/1", "/twitter/tweet/2")):
        _, before = addon.ask("/_search?q=user:kimchy")
        assert before["hits"]["total"] == {"value": number, "relation": "eq"}
        status, written = addon.ask(path, {"user": "kimchy"}, "PUT")
        assert (status, written["result"], written["_index"]) == (201, "created", "twitter")
        status, after = addon.ask("/_search?q=user:kimchy", scheme="https")
        assert (status, after["hits"]["total"]["value"]) == (200, number + 1)
    assert after["hits"]["hits"][0]["_source"] == {"user": "kimchy"}
    assert addon.ask("/twitter", method="DELETE") == (200, {"acknowledged": True})


def test_pretty_is_indented(addon: Addon) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{addon.port}/?pretty") as response:
        assert response.read().startswith(b'{\n  "name" : ')


def test_documents(addon: Addon) -> None:
    assert addon.ask("/books", method="PUT")[0] == 200
    status, twice = addon.ask("/books", method="PUT")
    assert (status, twice["error"]["type"]) == (400, "resource_already_exists_exception")
    assert addon.ask("/books/_doc/a%2Fb", {"title": "x"}, "PUT")[0] == 201
    status, found = addon.ask("/books/_doc/a%2Fb")
    assert (status, found["found"], found["_source"]) == (200, True, {"title": "x"})
    assert addon.ask("/books/_source/a%2Fb") == (200, {"title": "x"})
    status, missing = addon.ask("/books/_source/nope")
    assert (status, missing["error"]["reason"]) == (404, "Document not found [books]/[_doc]/[nope]")
    assert addon.ask("/books/_doc/a%2Fb", method="HEAD")[0] == 200
    assert addon.ask("/books/_doc/none")[0] == 404
    assert addon.ask("/books/_create/a%2Fb", {}, "PUT")[0] == 409
    assert addon.ask("/books/_update/a%2Fb", {"doc": {"year": 1999}})[1]["result"] == "updated"
    status, added = addon.ask("/books/_doc", {"title": "y"}, "POST")
    assert (status, len(added["_id"])) == (201, 20)
    assert addon.ask("/books/_count")[1]["count"] == 2
    assert addon.ask("/books/_count?q=title:x")[1]["count"] == 1
    assert addon.ask("/books/_count", {"query": {"term": {"year": 1999}}})[1]["count"] == 1
    assert addon.ask("/books/_mapping")[1]["books"]["mappings"]["properties"]["year"] == {"type": "long"}
    _, got = addon.ask("/books/_mget", {"ids": ["a/b", "none"]})
    assert [one["found"] for one in got["docs"]] == [True, False]
    assert addon.ask("/books/_doc/a%2Fb", method="DELETE")[1]["result"] == "deleted"
    assert addon.ask("/books/_delete_by_query", {"query": {"match_all": {}}})[1]["deleted"] == 1
    assert addon.ask("/books/_search")[1]["hits"]["total"]["value"] == 0
    assert addon.ask("/books", method="HEAD")[0] == 200
    assert addon.ask("/books", method="DELETE")[0] == 200
    assert addon.ask("/books", method="HEAD")[0] == 404


def test_declared_mappings(addon: Addon) -> None:
    body = {"mappings": {"properties": {"code": {"type": "keyword"}}}, "settings": {"number_of_shards": 1}}
    assert addon.ask("/typed", body, "PUT")[0] == 200
    assert addon.ask("/typed/_mapping", {"properties": {"n": {"type": "integer"}}}, "PUT")[0] == 200
    addon.ask("/typed/_doc/1", {"code": "A-b", "n": "7"}, "PUT")
    assert addon.ask("/typed/_count?q=code:A%5C-b")[1]["count"] == 1
    assert addon.ask("/typed/_count?q=code:a")[1]["count"] == 0
    assert addon.ask("/typed/_count?q=n:7")[1]["count"] == 1
    status, answer = addon.ask("/typed/_doc/2", {"n": "seven"}, "PUT")
    assert (status, answer["error"]["type"]) == (400, "mapper_parsing_exception")
    assert addon.ask("/typed2", {"mappings": {"properties": {"x": {"type": "bogus"}}}}, "PUT")[0] == 400
    assert addon.ask("/typed", method="DELETE")[0] == 200


def test_bulk_and_tables(addon: Addon) -> None:
    lines = b"".join(b'{"index":{"_id":"%d"}}\n{"n":%d}\n' % (n, n) for n in range(500))
    status, answer = addon.ask("/many/_bulk", lines)
    assert (status, answer["errors"], len(answer["items"])) == (200, False, 500)
    _, table = addon.ask("/_cat/indices/many?v&h=health,index,docs.count")
    assert table == "health index docs.count\ngreen  many         500\n"
    assert addon.ask("/_cat/indices?format=json&h=index&s=index:desc")[1][0] == {"index": "many"}
    assert re.match(r"[0-9]+ \d\d:\d\d:\d\d 500\n", addon.ask("/_cat/count/many")[1])
    assert addon.ask("/_cat/health")[1].split()[3] == "green"
    lines = b'{"index":"many"}\n{"query":{"range":{"n":{"lt":3}}}}\n{"index":"none"}\n{}\n'
    _, several = addon.ask("/_msearch", lines)
    assert [one["status"] for one in several["responses"]] == [200, 404]
    assert several["responses"][0]["hits"]["total"]["value"] == 3
    assert addon.ask("/many", method="DELETE")[0] == 200


def test_large_documents_and_many_searches_are_bounded(addon: Addon) -> None:
    # The limits count bytes, so one long word is enough; indexing a million words would take a second.
    document = json.dumps({"text": "x" * 2_800_000}).encode()
    for number in range(18):
        assert addon.ask(f"/large/_doc/{number}", document, "PUT")[0] == 201
    status, answer = addon.ask("/large/_search?size=18")
    assert (status, answer["error"]["type"]) == (429, "circuit_breaking_exception")
    assert addon.ask("/large/_search?size=2")[0] == 200
    status, answer = addon.ask("/large/_mget", {"ids": ["1"] * 18})
    assert (status, answer["error"]["type"]) == (429, "circuit_breaking_exception")
    assert len(addon.ask("/large/_mget", {"ids": ["1", "2", "none"]})[1]["docs"]) == 3
    status, answer = addon.ask("/_msearch", b'{"index":"large"}\n{}\n' * 16)
    assert (status, answer["error"]["type"]) == (429, "circuit_breaking_exception")
    status, answer = addon.ask("/_msearch", b'{"index":"none"}\n{"size":0}\n' * 1001)
    assert (status, answer["error"]["type"]) == (400, "illegal_argument_exception")
    assert addon.ask("/large/_delete_by_query", {"query": {"match_all": {}}})[1]["deleted"] == 18
    assert addon.ask("/large", method="DELETE")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "method", "status", "kind"),
    [
        ("/none/_search", None, None, 404, "index_not_found_exception"),
        ("/none/_doc/1", None, None, 404, "index_not_found_exception"),
        ("/none", None, "DELETE", 404, "index_not_found_exception"),
        ("/UPPER", None, "PUT", 400, "invalid_index_name_exception"),
        ("/UPPER/_doc/1", {}, "PUT", 400, "invalid_index_name_exception"),
        ("/_search", b"{bad", None, 400, "json_parse_exception"),
        ("/_search", b"\xff\xfe", None, 400, "json_parse_exception"),
        ("/_search", b"[" * 100_000, None, 400, "json_parse_exception"),
        ("/_search?scroll=1m", None, None, 400, "illegal_argument_exception"),
        ("/_search?size=x", None, None, 400, "illegal_argument_exception"),
        ("/_search?from=9999&size=9", None, None, 400, "illegal_argument_exception"),
        ("/_search?q=user:", None, None, 400, "search_phase_execution_exception"),
        ("/_search?q=%22open", None, None, 400, "search_phase_execution_exception"),
        ("/_bulk", b"{}", None, 400, "illegal_argument_exception"),
        ("/i/_doc/1", b"not json", "PUT", 400, "mapper_parsing_exception"),
        ("/_search", b" " * (11 * 1024 * 1024), None, 413, "content_too_long_exception"),
    ],
)  # fmt: skip
def test_errors_have_elasticsearchs_shape(
    addon: Addon, path: str, body: Any, method: str | None, status: int, kind: str
) -> None:
    got, answer = addon.ask(path, body, method)
    assert (got, answer["status"], answer["error"]["type"]) == (status, status, kind)
    assert answer["error"]["root_cause"][0]["type"]


def test_unknown_paths_and_methods(addon: Addon) -> None:
    status, answer = addon.ask("/_xpack/security/user/x/y")
    assert (status, answer["error"]) == (400, "no handler found for uri [/_xpack/security/user/x/y] and method [GET]")
    status, answer = addon.ask("/_search", method="DELETE")
    assert status in (400, 405)
    status, answer = addon.ask("/_cluster/health", method="POST")
    assert (status, answer["status"]) == (405, 405)


def test_a_malformed_request_gets_a_json_error(addon: Addon) -> None:
    with socket.create_connection(("127.0.0.1", addon.port), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"root_cause"' in answer


def test_container_logs_are_collected(addon: Addon) -> None:
    directory = addon.container("web-0")
    append(
        directory / "0.log", line("collected one"), line("collected twice", 1, stream="stderr"), "no log line at all"
    )
    until(lambda: addon.logged("log:collected"), ["collected one", "collected twice"])
    _, answer = addon.ask("/_search?q=message:twice")
    (hit,) = answer["hits"]["hits"]
    assert hit["_index"] == "logstash-2026.11.23"
    source = hit["_source"]
    assert source["kubernetes"] == {
        "namespace_name": "default",
        "pod_name": "web-0",
        "container_name": "c",
        "pod_id": "uid-web-0",
        "host": "node-1",
    }
    assert (source["@timestamp"], source["stream"]) == (STAMP.format(1), "stderr")
    assert source["tag"] == "kubernetes.var.log.containers.web-0_default_c.log"
    append(directory / "0.log", line("collected later", 2))
    until(lambda: addon.logged("log:later"), ["collected later"])
    query = {
        "bool": {
            "filter": [
                {"term": {"kubernetes.pod_name.keyword": "web-0"}},
                {"range": {"@timestamp": {"gte": STAMP.format(2)}}},
            ]
        }
    }
    assert addon.ask("/logstash-*/_count", {"query": query})[1]["count"] == 1


def test_the_node_is_read_from_a_pods_directory(addon: Addon) -> None:
    directory = addon.container("elsewhere")
    (directory.parent / ".node").write_text("node-2\n")
    append(directory / "0.log", line("from elsewhere"))
    until(lambda: addon.logged("kubernetes.host.keyword:node-2"), ["from elsewhere"])


def test_partial_lines_become_one(addon: Addon) -> None:
    path = addon.container("partial") / "0.log"
    append(path, line("begun ", tag="P"), line("other", 1, stream="stderr"), line("goes on ", 2, tag="P"))
    until(lambda: addon.logged("kubernetes.pod_name.keyword:partial")[:1], ["other"])
    append(path, line("ended", 3))
    until(lambda: addon.logged("kubernetes.pod_name.keyword:partial"), ["other", "begun goes on ended"])


def test_an_incomplete_last_line_is_found_and_later_replaced_by_the_complete_line(addon: Addon) -> None:
    path = addon.container("unended") / "0.log"
    query = "kubernetes.pod_name.keyword:unended"
    append(path, line("no newline", tag="P"))
    # The file has not changed for a minute, so its last line counts although it is incomplete.
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    until(lambda: addon.logged(query), ["no newline"])
    append(path, line(" yet", 1))
    until(lambda: addon.logged(query), ["no newline yet"])


def test_rotation_truncation_and_new_attempts(addon: Addon) -> None:
    directory = addon.container("rotated")
    query = "kubernetes.pod_name.keyword:rotated"
    append(directory / "0.log", line("one", 1))
    until(lambda: addon.logged(query), ["one"])
    append(directory / "0.log", line("two", 2))
    (directory / "0.log").rename(directory / "0.log.1")
    append(directory / "0.log", line("three", 3))
    append(directory / "1.log", line("four", 4))
    until(lambda: addon.logged(query), ["one", "two", "three", "four"])
    (directory / "1.log").write_text(line("five", 5) + "\n")
    until(lambda: addon.logged(query), ["one", "two", "three", "four", "five"])
    for path in directory.iterdir():
        path.unlink()
    append(directory / "2.log", line("six", 6))
    until(lambda: addon.logged(query)[-1], "six")


def test_nothing_is_lost_or_doubled_by_a_restart(stopped: Addon) -> None:
    path = stopped.container() / "0.log"
    append(path, *(line(f"n{number}", number) for number in range(20)))
    expected = [f"n{number}" for number in range(20)]
    stopped.start()
    until(lambda: stopped.logged("*"), expected)
    assert stopped.stop() == 0
    positions = stopped.directory / "data" / "positions.json"
    assert list(json.loads(positions.read_bytes()).values()) == [path.stat().st_size]
    append(path, line("n20", 20), line("n21", 21))
    stopped.start()
    until(lambda: stopped.logged("*"), [*expected, "n20", "n21"])
    stopped.kill()
    append(path, line("n22", 22))
    stopped.start()
    until(lambda: stopped.logged("*"), [*expected, "n20", "n21", "n22"])
    assert stopped.stop() == 0
    positions.unlink()
    stopped.start()
    append(path, line("n23", 23))
    until(lambda: stopped.logged("*"), [*expected, "n20", "n21", "n22", "n23"])


def test_acknowledged_documents_are_durable(stopped: Addon) -> None:
    for number, end in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL), 1):
        stopped.start()
        assert stopped.ask(f"/twitter/_doc/{number}", {"user": "kimchy"}, "PUT")[0] == 201
        assert stopped.ask("/twitter/_bulk", b'{"index":{}}\n{"user":"bob"}\n')[1]["errors"] is False
        stopped.stop(end)
    stopped.start()
    assert stopped.ask("/_search?q=user:kimchy")[1]["hits"]["total"]["value"] == 3
    assert stopped.ask("/_search?q=user:bob")[1]["hits"]["total"]["value"] == 3


def test_the_last_lines_of_a_deleted_pod(addon: Addon) -> None:
    path = addon.container("gone") / "0.log"
    append(path, line("hello"))
    until(lambda: addon.logged("kubernetes.pod_name.keyword:gone"), ["hello"])
    append(path, line("last words", 1), line("unfinished", 2, tag="P"))
    path.unlink()
    until(lambda: addon.logged("kubernetes.pod_name.keyword:gone"), ["hello", "last words", "unfinished"])


def test_files_that_are_not_logs_do_no_harm(stopped: Addon) -> None:
    directory = stopped.container("odd")
    (directory / "0.log").write_bytes(os.urandom(700_000))
    (directory / "1.log").write_bytes(b"x" * 600_000)
    (directory / "2.log").write_bytes(b"2026-01-01T00:00:00Z stdout F \xff\xfe\x00 odd bytes\n")
    (directory / "3.log").mkdir()
    (stopped.logs / "stray").write_text("x")
    (directory / "4.log").symlink_to("/nonexistent")
    stopped.start()
    until(lambda: [text[-9:] for text in stopped.logged("log:odd")], ["odd bytes"])


def test_a_used_port_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            **os.environ,
            "HATCHWAY_LOG_DATA": str(tmp_path),
            "HATCHWAY_LOG_ADDRESS": "127.0.0.1",
            "HATCHWAY_LOG_PORT": str(taken.getsockname()[1]),
        }
        done = subprocess.run(
            [sys.executable, "-m", "hatchway.addons.logging"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert "ERROR" in done.stderr and "Traceback" not in done.stderr


def test_a_line_that_consists_of_a_date_is_text(stopped: Addon) -> None:
    path = stopped.container("dated") / "0.log"
    append(path, line("2026-11-23"), line("no date", 1))
    stopped.start()
    until(lambda: stopped.logged("kubernetes.pod_name.keyword:dated"), ["2026-11-23", "no date"])


def test_the_explorers_page(addon: Addon) -> None:
    with urllib.request.urlopen(addon.explorer) as page:
        text, tag, policy = page.read(), page.headers["ETag"], page.headers["Content-Security-Policy"]
    assert b"<title>Logs</title>" in text and b"://" not in text.replace(b"http://www.w3.org/2000/svg", b"")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    with pytest.raises(urllib.error.HTTPError) as unchanged:
        urllib.request.urlopen(urllib.request.Request(addon.explorer, headers={"If-None-Match": tag}))
    assert unchanged.value.code == 304
    unchanged.value.close()
    for name in set(re.findall(r'(?:src|href)="([\w.]+)"', text.decode())):
        assert urllib.request.urlopen(addon.explorer + name).status == 200, name


def test_the_explorer_forwards_only_reads(addon: Addon) -> None:
    addon.ask("/readable/_doc/1", {"level": "info"}, "PUT")
    query = urllib.parse.quote(json.dumps({"aggs": {"l": {"terms": {"field": "level.keyword"}}}}))
    with urllib.request.urlopen(f"{addon.explorer}api/readable/_search?source={query}") as answer:
        assert json.loads(answer.read())["aggregations"]["l"]["buckets"] == [{"key": "info", "doc_count": 1}]
    for method, path, status in (
        ("POST", "api/readable/_doc", 404),
        ("POST", "api/readable%2F_doc/_search", 404),
        ("DELETE", "api/readable", 404),
        ("DELETE", "api/readable/_search", 404),
        ("GET", "nothing.js", 404),
        ("GET", "../app.py", 404),
        ("POST", "", 405),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(addon.explorer + path, method=method))
        assert refused.value.code == status, path
        refused.value.close()
    assert addon.ask("/readable/_count")[1]["count"] == 1
