"""Replay `whole.jsonl` in order, and report the responses that differ.

    python -m tests.conformance.whole [ID ...]

prints one JSON line for each response that differs and is in no list of `deliberate.py` and `notyet.py`, or, with IDs,
for each of these recordings: id, request, expected and actual response.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import replay
from tests.conformance.apiserver import Recorded, recorded_server
from tests.conformance.deliberate import TIMING, WHOLE_DELIBERATE
from tests.conformance.notyet import NOT_YET
from tests.conformance.rest import compare


@dataclass
class Outcome:
    """A recording, the response of this server, and the differences (a text for each)."""

    recording: replay.Recording
    answer: replay.Answer
    differences: list[str]

    @property
    def number(self) -> str:
        return str(self.recording["id"])


async def outcomes(made: Recorded) -> AsyncIterator[Outcome]:
    """Send all recordings; yield the outcome of each."""
    for recording in replay.load("whole.jsonl"):
        if recording.get("wait"):
            await made.settle()
        answer = await made.send(recording)
        found = compare(recording, answer, {**WHOLE_DELIBERATE, **TIMING})
        if found and recording["method"] == "GET" and recording["id"] not in NOT_YET:
            # Repeat reads until the controllers have finished.
            for _ in range(100 if recording.get("wait") else 10):
                await asyncio.sleep(0.05)
                answer = await made.send(recording)
                found = compare(recording, answer, {**WHOLE_DELIBERATE, **TIMING})
                if not found:
                    break
        if recording["method"] == "POST" and recording["path"].endswith("/namespaces") and answer.status == 201:
            await made.account(json.loads(answer.body)["metadata"]["name"])
        yield Outcome(recording, answer, found)


async def _print(wanted: list[str]) -> None:
    count = 0
    with tempfile.TemporaryDirectory() as directory:
        async with recorded_server(Path(directory)) as made:
            async for one in outcomes(made):
                listed = one.number in NOT_YET
                if not one.differences or (one.number not in wanted if wanted else listed):
                    continue
                count += 1
                request = f"{one.recording['method']} {one.recording['path']}"
                response = one.recording["response"]
                line = {
                    "id": one.number,
                    "request": request,
                    "sent": one.recording["body"],
                    "differences": one.differences,
                    "expected": [response["status"], response["body"]],
                    "got": [one.answer.status, one.answer.body],
                }
                print(json.dumps(line))
    print(f"{count} differences", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(_print(sys.argv[1:]))
