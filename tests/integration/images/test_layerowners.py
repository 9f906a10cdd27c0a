"""Owners of unpacked files when an ordinary user runs the cluster: a range of /etc/subuid, or one user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.network.conftest import NOBODY, nobody, why_not_private

# Replaces /etc/subuid and /etc/subgid for one process.
_PRIVATELY = """
if [ -e /etc/subuid ]; then mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid; fi
shift
exec "$@"
"""

# As the ordinary user: makes an image, unpacks it as root of a user namespace, and removes it outside of the namespace.
_OUTSIDE = """
import json, os, sys
from pathlib import Path
from hatchway import usermaps
from hatchway.images.store.layerplaces import LayerPlaces
from hatchway.images.store.store import ImageStore
from tests.images.making import directory, hardlink, make_image, symlink, whiteout
from tests.images.unpacking import file

path, way, inside = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = ImageStore(path)
capability = (b"\\x01\\0\\0\\x02\\0\\x04" + bytes(14)).decode("latin-1")
make_image(store, "good", [file("a"), file("theirs", uid=33, gid=44, mode=0o4711)], [
    hardlink("same", "theirs"),
    directory("d", 0o500, uid=33, gid=44), file("d/f", uid=33, gid=44, mode=0o4711), symlink("l", "x", uid=33), whiteout("a"),
    file("ping", pax={"SCHILY.xattr.security.capability": capability}),
])
make_image(store, "bad", [file("far", uid=70000)])
done = usermaps.run([sys.executable, "-c", inside, str(path), way], timeout=60)
assert done.returncode == 0, done.stderr
found = json.loads((path / "found").read_text())
(root,) = (path / "layers" / way).glob("*/fs/d")
found["outside"] = os.stat(root).st_uid
found["removed"] = LayerPlaces(path, way).remove_unneeded(lambda: [])
found["left"] = [str(left) for left in (path / "layers").glob("*/*")]
print(json.dumps(found))
"""
_INSIDE = """
import asyncio, json, os, stat, sys
from pathlib import Path
from hatchway.images.contents import BadImage
from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore

path, way = Path(sys.argv[1]), sys.argv[2]
store, layers = ImageStore(path), LayerStore(path, way)

async def main():
    top, _ = await layers.unpack(store.find(parse("good")))
    root = Path(top)
    found = {name: (root / name).lstat()[4:6] for name in ("d", "d/f", "l", "same")}
    found["mode"] = stat.S_IMODE((root / "d/f").lstat().st_mode)
    found["whiteout"] = stat.S_ISCHR((root / "a").lstat().st_mode)
    found["capability"] = os.getxattr(root / "ping", "security.capability").hex()
    try:
        await layers.unpack(store.find(parse("bad")))
        found["bad"] = ""
    except BadImage as error:
        found["bad"] = str(error)
    await layers.close()
    (path / "found").write_text(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture
def store_path() -> Iterator[Path]:
    # The directory is not below pytest's, which other users may not enter.
    path = Path(tempfile.mkdtemp(prefix="hatchway-layers-"))
    os.chown(path, int(NOBODY), int(NOBODY))
    yield path
    shutil.rmtree(path)


def _unpacked(way: str, subids: str, path: Path) -> dict[str, Any]:
    if why_not_private():
        pytest.skip(why_not_private())
    found = nobody()
    if isinstance(found, str):
        pytest.skip(found)
    if way == "mapped" and (shutil.which("newuidmap") is None or not os.path.exists("/etc/subuid")):
        pytest.skip("newuidmap (package uidmap) or /etc/subuid is missing")
    prefix, env = found
    (path / "subids").write_text(subids)
    store = path / "store"
    store.mkdir()
    os.chown(store, int(NOBODY), int(NOBODY))
    private = ["unshare", "-m", "sh", "-ec", _PRIVATELY, "sh", str(path / "subids")]
    done = subprocess.run(
        [*private, *prefix, "-c", _OUTSIDE, str(store), way, _INSIDE], env=env, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_range_of_subuid_gives_files_their_owners_and_the_user_can_remove_them(store_path: Path) -> None:
    found = _unpacked("mapped", f"{NOBODY}:300000:65536\n", store_path)
    assert (found["d"], found["d/f"], found["l"]) == ([33, 44], [33, 44], [33, 0])
    assert found["same"] == [33, 44]
    assert found["outside"] == 300_000 + 32
    assert found["mode"] == 0o4711 and found["whiteout"]
    assert found["capability"].startswith("01000002")
    assert found["bad"].endswith('"far": its owner 70000:0 is not among the users and groups that this cluster may use')
    assert (found["removed"], found["left"]) == (2, [])


def test_with_one_user_all_files_belong_to_that_user(store_path: Path) -> None:
    found = _unpacked("one", "", store_path)
    assert (found["d"], found["d/f"], found["l"]) == ([0, 0], [0, 0], [0, 0])
    assert found["outside"] == int(NOBODY)
    assert found["mode"] == 0o4711 and found["whiteout"]
    assert found["bad"] == ""
    assert (found["removed"], found["left"]) == (3, [])
