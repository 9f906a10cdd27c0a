"""Informers and their parts: the comparison of a list with the cached objects, and the lines of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object, WatchEvent
from hatchway.kube.http import LineSplitter
from hatchway.kube.informer import Informer
from hatchway.kube.objects import key_of
from hatchway.kube.relist import replace_known


def made(name: str, version: int = 1, uid: str = "") -> Object:
    return {"metadata": {"name": name, "namespace": "d", "resourceVersion": str(version), "uid": uid or name}}


class Lives:
    """A client with a prepared watch (a list of events) for each run of an informer. Each watch ends with an error."""

    def __init__(self, *lives: list[WatchEvent]) -> None:
        self._lives = iter(lives)

    async def watch(self, *_: object, **__: object) -> AsyncIterator[WatchEvent]:
        for event in next(self._lives):
            yield event
        raise ApiError(403, "Forbidden", "no")


def follow(*lives: list[WatchEvent]) -> Informer:
    return Informer(cast(Client, Lives(*lives)), "configmaps")


SYNCED = WatchEvent("SYNCED", {})


async def test_an_informer_that_runs_again_reports_the_changes_in_between() -> None:
    informer = follow(
        [*(WatchEvent("ADDED", made(name)) for name in ("kept", "gone", "changed", "reborn")), SYNCED],
        [
            WatchEvent("ADDED", made("kept")),
            WatchEvent("ADDED", made("changed", 5)),
            WatchEvent("ADDED", made("reborn", 6, "other")),
            SYNCED,
            WatchEvent("MODIFIED", made("kept", 7)),
        ],
    )
    seen: list[tuple[str, str]] = []
    for _ in range(2):
        with pytest.raises(ApiError):
            await informer.run()
        if not seen:
            informer.subscribe(lambda kind, obj: seen.append((kind, obj["metadata"]["name"])))
            seen.clear()
    assert seen == [
        ("DELETED", "gone"),
        ("MODIFIED", "changed"),
        ("DELETED", "reborn"),
        ("ADDED", "reborn"),
        ("MODIFIED", "kept"),
    ]
    assert {name for _, name in informer.items} == {"kept", "changed", "reborn"}


async def test_a_subscriber_that_fails_ends_neither_the_watch_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    informer = follow([SYNCED, WatchEvent("ADDED", made("odd")), WatchEvent("ADDED", made("next"))])
    seen: list[str] = []

    def fails(_: str, obj: Object) -> None:
        raise ValueError(obj["metadata"]["name"])

    informer.subscribe(fails)
    informer.subscribe(lambda _, obj: seen.append(obj["metadata"]["name"]))
    with pytest.raises(ApiError):
        await asyncio.wait_for(informer.run(), 10)
    assert seen == ["odd", "next"]
    assert "a subscriber to configmaps failed on d/odd" in caplog.text


_objects = st.builds(made, st.sampled_from("abcd"), st.integers(1, 3), st.sampled_from(["1", "2"]))
_lists = st.lists(_objects, unique_by=key_of)


@given(_lists, _lists)
def test_the_reported_events_lead_from_one_list_to_the_other(before: list[Object], after: list[Object]) -> None:
    known = {key_of(obj): obj for obj in before}
    replayed = dict(known)
    for event in replace_known(known, after):
        key = key_of(event.object)
        if event.type == "DELETED":
            del replayed[key]
        else:
            assert (event.type == "ADDED") == (key not in replayed)
            if event.type == "MODIFIED":
                assert replayed[key]["metadata"]["uid"] == event.object["metadata"]["uid"]
                assert replayed[key] != event.object
            replayed[key] = event.object
    assert replayed == known == {key_of(obj): obj for obj in after}


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"x", b"\n")) | st.sampled_from([b"\n", b"\r\n"])))
def test_lines_do_not_depend_on_the_pieces_of_the_stream(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert lines == [line for line in b"".join(pieces).split(b"\n")[:-1] if line]
