"""Damaged contents of a store's file that do not prevent the start of the cluster."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.registry.storedshape import shape_fault
from hatchway.cluster.api.storage import storefile
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import HatchwayError

META = {"namespace": "d", "uid": "u", "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z"}


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file; at the end of the block commit the changes, and close the file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def put(path: Path, resource: str, name: str, data: Any, namespace: Any = "d", revision: Any = 5) -> None:
    with opened(path) as file:
        file.execute("insert into objects values (?, ?, ?, ?, ?)", (resource, namespace, name, revision, data))


def obj(name: str, **more: Any) -> bytes:
    return json.dumps({"metadata": {**META, "name": name}, **more}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    storefile.load(tmp_path / "s", shape_fault).connection.close()
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("resource", "data", "why"),
    [
        ("configmaps", b"{no json", "it is not JSON"),
        ("configmaps", b"\xff\xfe", "it is not JSON"),
        ("configmaps", b"[" * 100_000, "it is not JSON"),
        ("configmaps", 7, "it is not JSON"),
        ("configmaps", b"[]", "not an object with metadata"),
        ("configmaps", b"{}", "not an object with metadata"),
        ("configmaps", obj("other"), "another name"),
        ("configmaps", json.dumps({"metadata": {"name": "bad", "namespace": "d"}}).encode(), "has no uid"),
        ("configmaps", obj("bad", data=[1]), "cannot be handled as a ConfigMap"),
        ("pods", obj("bad"), "a Pod without spec"),
        ("pods", obj("bad", spec={"containers": "x"}), "cannot be handled as a Pod"),
        ("nodes", obj("bad"), "a Node is not in a namespace"),
    ],
)
def test_invalid_objects_are_reported_and_moved_to_quarantine(
    path: Path, resource: str, data: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, resource, "bad", data)
    put(path, "configmaps", "good", obj("good", data={"a": "b"}))
    put(path, "widgets.example.com", "other", obj("other", spec=3))
    store = Store.open(path, shape_fault)
    assert store.get(resource, "d", "bad") is None
    assert store.get("configmaps", "d", "good")
    # An unknown type, maybe of a later release, is kept.
    assert store.get("widgets.example.com", "d", "other")
    assert f"{resource} d/bad" in caplog.text
    assert why in caplog.text
    store._connection.close()
    with opened(path) as file:
        [row] = file.execute("select resource, name, data from quarantine")
    assert row == (resource, "bad", data)
    caplog.clear()
    Store.open(path, shape_fault)._connection.close()
    assert not caplog.text


def test_a_revision_is_never_used_twice_even_if_the_counter_is_wrong(path: Path) -> None:
    put(path, "configmaps", "new", obj("new"), revision=700)
    with opened(path) as file:
        file.execute("insert into meta values ('revision', 3)")
    store = Store.open(path, shape_fault)
    assert store.revision == 700
    store._connection.close()


def test_a_store_of_a_later_release_is_not_touched(path: Path) -> None:
    with opened(path) as file:
        file.execute("pragma user_version = 99")
    with pytest.raises(HatchwayError, match="newer release"):
        Store.open(path)


def test_a_file_that_is_not_a_store_gives_a_short_error(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no database" * 1000)
    with pytest.raises(HatchwayError, match="not a database") as failure:
        Store.open(tmp_path / "junk")
    assert "move away the file" in failure.value.hint
    with opened(tmp_path / "other") as file:
        file.execute("create table objects (a, b)")
    with pytest.raises(HatchwayError, match="no such column"):
        Store.open(tmp_path / "other")
    (tmp_path / "directory").mkdir()
    with pytest.raises(HatchwayError, match="unable to open"):
        Store.open(tmp_path / "directory")


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 0)])
def test_only_a_durable_store_waits_for_the_disk(tmp_path: Path, durable: bool, synchronous: int) -> None:
    """SQLite's `synchronous` is FULL (2) or OFF (0)."""
    with closing(storefile.load(tmp_path / "s", shape_fault, durable=durable).connection) as connection:
        assert connection.execute("pragma synchronous").fetchone() == (synchronous,)
