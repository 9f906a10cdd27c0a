"""Documents that cannot be written to disk for a while are not lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hatchway.addons.logging.collector import LogCollector
from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.query import MatchAll

_DAY = "2026.01.31"
_STAMP = "2026-01-31T10:00:00.{:09d}Z"


def _messages(store: LoggingStore) -> list[str]:
    index = store.one(f"logstash-{_DAY}")
    hits, _ = index.search(index.build(MatchAll()), 100, "seq", ascending=True)
    return sorted(hit.stored.document()["log"].strip() for hit in hits)


def _fail_to_write(store: LoggingStore, directory: Path, refresh: Callable[[], None], index: str) -> None:
    """Call `refresh` while the files of an index cannot be written, as on a full disk."""
    data, away = directory / "indices" / index / "data", directory / "away"
    data.rename(away)
    data.write_bytes(b"")
    with pytest.raises(ValueError):
        refresh()
    data.unlink()
    away.rename(data)


@pytest.mark.parametrize("by_client", [False, True])
def test_log_lines_that_could_not_be_written_are_read_again(tmp_path: Path, by_client: bool) -> None:
    logs = tmp_path / "logs" / "shop_web-0_1234" / "web"
    logs.mkdir(parents=True)

    def log(number: int) -> None:
        with (logs / "0.log").open("a") as file:
            file.write(f"{_STAMP.format(number)} stdout F line {number}\n")

    def start() -> LogCollector:
        positions = tmp_path / "positions.json"
        return LogCollector(store, executor, directory=tmp_path / "logs", positions=positions, host="n")

    with ThreadPoolExecutor(1) as executor:
        store = LoggingStore(tmp_path, 10**9)
        collector = start()
        log(1)
        collector.round()
        collector.commit()
        assert _messages(store) == ["line 1"]
        log(2)
        collector.round()
        # A client that reads an index makes earlier writes visible, too.
        refresh = store.refresh if by_client else collector.commit
        _fail_to_write(store, tmp_path, refresh, f"logstash-{_DAY}")
        collector.commit()
        log(3)
        collector.round()
        collector.commit()
        assert _messages(store) == ["line 1", "line 2", "line 3"]
        collector.close()
        # The saved position is the end of the file: nothing is read again or left out after a restart.
        collector = start()
        log(4)
        collector.round()
        collector.commit()
        assert _messages(store) == [f"line {number}" for number in (1, 2, 3, 4)]
        collector.close()
        store.close()


def test_documents_are_indexed_after_a_failed_refresh(tmp_path: Path) -> None:
    store = LoggingStore(tmp_path, 10**9)
    store.write("a", "1", b'{"x": 1}')
    store.refresh()
    store.write("a", "2", b'{"x": 2}')
    _fail_to_write(store, tmp_path, store.refresh, "a")
    store.write("a", "3", b'{"x": 3}')
    store.refresh()
    assert store.get("a", "1") is not None and store.get("a", "3") is not None
    assert store.get("a", "2") is None  # the client that sent this document got an error
    store.close()
