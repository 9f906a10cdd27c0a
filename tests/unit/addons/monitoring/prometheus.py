"""Real Prometheus (Debian's package): receives samples by remote write and answers queries over HTTP."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchway.addons.monitoring.tsdb.labels import Labels
from tests.freeports import free_port

Sample = tuple[int, float]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _write_request(rows: list[tuple[Labels, list[Sample]]]) -> bytes:
    """Return a WriteRequest (prompb/remote.proto) in Snappy's format, not compressed."""
    out = b""
    for labels, samples in rows:
        body = b"".join(_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels)
        for at, value in samples:
            body += _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at))
        out += _field(1, body)
    blocks = [out[at : at + 65_536] for at in range(0, len(out), 65_536)]
    return _varint(len(out)) + b"".join(b"\xf4" + struct.pack("<H", len(block) - 1) + block for block in blocks)


class Prometheus:
    """A running Prometheus. url: its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, rows: list[tuple[Labels, list[Sample]]], minutes: int = 15) -> None:
        """Send samples in the order of their times. Prometheus refuses samples that are an hour older than the newest."""
        times = [at for _, samples in rows for at, _ in samples]
        for begin in range(min(times), max(times) + 1, minutes * 60_000):
            end = begin + minutes * 60_000
            parts = [(labels, [one for one in samples if begin <= one[0] < end]) for labels, samples in rows]
            body = _write_request([part for part in parts if part[1]])
            headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
            headers["X-Prometheus-Remote-Write-Version"] = "0.1.0"
            request = urllib.request.Request(f"{self.url}/api/v1/write", body, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 204

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of the answer, even if the answer is an error."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)


def is_at_hand() -> bool:
    """Return True if a Prometheus of the version whose answers are recorded is installed."""
    program = shutil.which("prometheus")
    if program is None:
        return False
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    return "version 2.4" in done.stdout + done.stderr


@contextlib.contextmanager
def running(directory: Path, config: str = "") -> Iterator[Prometheus]:
    """Run Prometheus during a block. config: its configuration; None to scrape nothing."""
    file = directory / "prometheus.yml"
    file.write_text(config or "global: {scrape_interval: 1h}\n")
    port = free_port()
    command = [
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=error",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                        break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
                    time.sleep(0.05)
            yield Prometheus(url)
        finally:
            process.terminate()
