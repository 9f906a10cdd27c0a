"""Unpacking of one layer, a Debian root of some 10,000 files, beside `tar -xzf` and `umoci unpack` in one run.

python bench/unpack.py [ROUNDS] [--plain]

Each contender is a whole process, from its start to its end, without the wait for the disk. Goal: at least 0.7 of tar's
speed. --plain: the archive is not compressed, so that decompression does not count.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.compare import ratio
from hatchway.images.layers.layererrors import UnpackLimits
from hatchway.images.layers.layerunpacking import PackedLayer
from hatchway.images.layers.unpack import UnpackRequest
from tests.images.making import BuiltImage, built, debian_root, layer_of, oci_directory

_PACKAGES = ("python3", "perl", "git", "nginx-light", "tzdata", "vim-runtime", "linux-libc-dev", "publicsuffix")


def main(rounds: int, *, plain: bool) -> None:
    """Unpack the layer with each contender in turn, and print medians and ratios of wall and processor time."""
    with tempfile.TemporaryDirectory(prefix="hatchway-unpack-") as name:
        work = Path(name)
        root = debian_root(*_PACKAGES)
        layer = layer_of(root)
        image = built("debian:bench", layer, compression="" if plain else "gzip")
        count, packed = sum(1 for _ in root.rglob("*")), len(image.blobs[image.layers[0]])
        print(f"{count} files, {len(layer) / 1e6:.0f} MB, packed {packed / 1e6:.0f} MB")
        contenders = _contenders(work, image, layer)
        times: dict[str, list[tuple[float, float]]] = {contender: [] for contender in contenders}
        for _ in range(rounds):
            for contender, run in contenders.items():
                times[contender].append(_measure(work, run))
        for contender, measured in times.items():
            walls, cpus = zip(*measured, strict=True)
            their_walls, their_cpus = zip(*times["tar"], strict=True)
            print(
                f"{contender:10} {statistics.median(walls):6.2f} s, {1 / ratio(walls, their_walls):5.2f} x tar's speed;"
                f"  processor {statistics.median(cpus):6.2f} s, {ratio(cpus, their_cpus):5.2f} x tar's"
            )


def _contenders(work: Path, image: BuiltImage, layer: bytes) -> dict[str, Callable[[Path], None]]:
    blob = image.blobs[image.layers[0]]
    packed = work / "blobs" / image.layers[0].replace(":", "/")
    packed.parent.mkdir(parents=True)
    packed.write_bytes(blob)
    users = "real" if os.geteuid() == 0 else "one"

    def hatchway(place: Path) -> None:
        shutil.copytree(work / "blobs", place / "blobs", copy_function=os.link)
        request = UnpackRequest(
            store=str(place),
            users=users,  # type: ignore[arg-type]
            layers=(PackedLayer(image.layers[0], f"sha256:{hashlib.sha256(layer).hexdigest()}"),),
            limits=UnpackLimits(),
            parent=os.getpid(),
        )
        child = subprocess.Popen(
            [sys.executable, "-m", "hatchway.images.layers.unpack"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = child.communicate(request.encode())
        assert out.startswith(b'{"error": ""'), out

    def tar(place: Path) -> None:
        subprocess.run(
            ["tar", "-xf", str(packed), "-C", str(place)] + (["-z"] if blob[:2] == b"\x1f\x8b" else []), check=True
        )

    found: dict[str, Callable[[Path], None]] = {"tar": tar, "hatchway": hatchway}
    if shutil.which("umoci"):
        layout = oci_directory(work / "layout", image)

        def umoci(place: Path) -> None:
            rootless = [] if users == "real" else ["--rootless"]
            command = ["umoci", "unpack", *rootless, "--image", f"{layout}:bench", str(place / "bundle")]
            subprocess.run(command, check=True, capture_output=True)

        found["umoci"] = umoci
    return found


def _measure(work: Path, run: Callable[[Path], None]) -> tuple[float, float]:
    place = work / "place"
    place.mkdir()
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    run(place)
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(place)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    main(arguments.rounds, plain=arguments.plain)
