"""Writing blobs: a blob is complete or absent, also after errors and crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.images.contents import BadImage
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore
from tests.images.making import digest_of, make_image

_DATA = os.urandom(300_000)
_DIGEST = digest_of(_DATA)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def parts_of(store: ImageStore) -> list[Path]:
    return sorted((store.path / "partial").iterdir())


def test_a_blob_exists_only_after_its_commit(store: ImageStore) -> None:
    with store.begin_blob(_DIGEST, len(_DATA)) as writer:
        writer.write(_DATA)
        assert not store.has_blob(_DIGEST)
        writer.commit()
    assert store.has_blob(_DIGEST)
    with store.open_blob(_DIGEST) as file:
        assert file.read() == _DATA
    assert parts_of(store) == []


def test_a_broken_download_is_continued(store: ImageStore) -> None:
    writer = store.begin_blob(_DIGEST, len(_DATA))
    writer.write(_DATA[:1000])
    writer.abandon()
    again = ImageStore(store.path).begin_blob(_DIGEST, len(_DATA))
    assert again.offset == 1000
    again.write(_DATA[1000:])
    again.commit()
    assert store.has_blob(_DIGEST)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(_DATA)), max_size=6))
def test_a_download_in_any_pieces_gives_the_same_blob(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    store = ImageStore(tmp_path_factory.mktemp("images"))
    for end in [*sorted(cuts), len(_DATA)]:
        writer = store.begin_blob(_DIGEST, len(_DATA))
        assert writer.offset <= end
        writer.write(_DATA[writer.offset : end])
        writer.abandon() if end < len(_DATA) else writer.commit()
        if store.has_blob(_DIGEST):
            break
    with store.open_blob(_DIGEST) as file:
        assert file.read() == _DATA


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_DATA[:-1] + bytes([_DATA[-1] ^ 1]), "another content: its digest is sha256:"),
        (_DATA[:-1], f"has {len(_DATA) - 1} bytes instead of {len(_DATA)}"),
    ],
)
def test_other_content_is_refused_and_not_kept(store: ImageStore, data: bytes, message: str) -> None:
    writer = store.begin_blob(_DIGEST, len(_DATA))
    writer.write(data)
    with pytest.raises(BadImage, match=message):
        writer.commit()
    assert not store.has_blob(_DIGEST) and parts_of(store) == []
    assert store.begin_blob(_DIGEST, len(_DATA)).offset == 0


def test_after_a_damaged_partial_download_the_second_attempt_succeeds(store: ImageStore) -> None:
    writer = store.begin_blob(_DIGEST, len(_DATA))
    writer.write(_DATA[:1000])
    writer.abandon()
    part = parts_of(store)[0]
    part.write_bytes(bytes(1000))
    writer = store.begin_blob(_DIGEST, len(_DATA))
    writer.write(_DATA[1000:])
    with pytest.raises(BadImage, match="another content"):
        writer.commit()
    writer = store.begin_blob(_DIGEST, len(_DATA))
    assert writer.offset == 0
    writer.write(_DATA)
    writer.commit()


def test_more_bytes_than_the_blob_has_are_not_written(store: ImageStore) -> None:
    writer = store.begin_blob(_DIGEST, len(_DATA))
    writer.write(_DATA[:-1])
    with pytest.raises(BadImage, match="is longer than the 300000 bytes that its manifest says"):
        writer.write(b"12")
    assert writer.offset == 0
    writer.abandon()
    assert parts_of(store) == []


def test_two_processes_can_write_the_same_blob(store: ImageStore) -> None:
    first = store.begin_blob(_DIGEST, len(_DATA))
    first.write(_DATA[:10])
    second = ImageStore(store.path).begin_blob(_DIGEST, len(_DATA))
    assert second.offset == 0
    second.write(_DATA)
    second.commit()
    first.write(_DATA[10:])
    first.commit()
    assert store.has_blob(_DIGEST) and parts_of(store) == []


def test_parts_are_deleted_after_a_day_unless_they_are_being_written(store: ImageStore) -> None:
    other = b"other"
    broken = store.begin_blob(_DIGEST, len(_DATA))
    broken.write(_DATA[:1000])
    broken.abandon()
    written = store.begin_blob(digest_of(other), len(other))
    written.write(other[:1])
    store.collect_garbage()
    assert len(parts_of(store)) == 2
    yesterday = time.time() - 24 * 3600 - 60
    for part in parts_of(store):
        os.utime(part, (yesterday, yesterday))
    assert store.collect_garbage().size == 1000
    assert len(parts_of(store)) == 1
    written.write(other[1:])
    written.commit()
    assert store.has_blob(digest_of(other))


def test_a_link_in_place_of_a_part_is_not_followed(store: ImageStore, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (store.path / "partial").mkdir(parents=True)
    (store.path / "partial" / _DIGEST[7:]).symlink_to(precious)
    with pytest.raises(OSError):
        store.begin_blob(_DIGEST, len(_DATA))
    assert precious.read_text() == "precious"


_FULL = """
import resource, signal, sys
from pathlib import Path
from hatchway.images.store.store import ImageStore
from tests.images.making import digest_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store, data = ImageStore(Path(sys.argv[1])), bytes(300_000)
with store.keep():
    writer = store.begin_blob(digest_of(data), len(data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        writer.write(data)
    except OSError as error:
        print(error.errno, error.filename)
    else:
        sys.exit("it was written")
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def test_a_full_disk_leaves_nothing_behind(store: ImageStore) -> None:
    done = run(_FULL, str(store.path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("27 ") and "/partial/" in done.stdout
    assert parts_of(store) == []
    assert store.collect_garbage().blobs == 0


_LOADING = """
import io, resource, signal, sys
from pathlib import Path
from hatchway.errors import HatchwayError
from hatchway.images.archives.loading import load_archive
from hatchway.images.store.store import ImageStore
from tests.images.making import built, layer_of, oci_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
web = built("web:1", {"base": "b" * 20_000}, {"a": "new"}, compression="")
store, archive = ImageStore(Path(sys.argv[1])), io.BytesIO(layer_of(oci_files(web)))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    load_archive(store, archive)
except (OSError, HatchwayError) as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.parametrize("limit", [0, 20, 60, 100, 200, 500, 1000, 1500, 3000, 10_000, 25_000])
def test_a_disk_that_is_full_at_any_step_of_loading_loses_nothing(store: ImageStore, limit: int) -> None:
    """The maximum file size decides which write fails: the record of the use, a document, a layer or the index file."""
    kept = make_image(store, "kept:1", {"kept": "1"})
    old = make_image(store, "web:1", {"a": "old"})
    before = sorted((store.path / "blobs/sha256").iterdir())
    done = run(_LOADING, str(store.path), str(limit))
    after = ImageStore(store.path)
    if done.returncode == 0:
        assert limit > 20_000 and [image.tags for image in after.images()] == [kept.tags, (), old.tags]
        return
    assert done.stderr.startswith("refused: "), done.stderr
    assert after.images() == [kept, old]
    after.collect_garbage()
    assert sorted((store.path / "blobs/sha256").iterdir()) == before
    assert not any((store.path / "partial").iterdir()) and not any((store.path / "uses").iterdir())


_ADDING = """
import os, signal, sys
from pathlib import Path
import hatchway.images.store.blobs, hatchway.images.store.storenames, hatchway.images.store.storeuses, hatchway.files
from hatchway.images.store.store import ImageStore
from tests.images.making import make_image
calls, fatal = 0, int(sys.argv[2])
def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("open", "write", "pwrite", "fsync", "replace", "unlink", "ftruncate", "close"):
    setattr(os, name, counted(getattr(os, name)))
store = ImageStore(Path(sys.argv[1]))
make_image(store, "web:1", {"base": "b"}, {"a": "new"})
store.prune()
print(calls)
"""


def test_a_process_that_is_killed_at_any_step_loses_nothing(tmp_path: Path) -> None:
    """A process is killed before every seventh system call while it adds an image and deletes the old one."""
    steps = int(run(_ADDING, str(tmp_path / "whole"), "0").stdout)
    assert steps > 60
    for fatal in range(1, steps, 7):
        store = ImageStore(tmp_path / str(fatal))
        kept = make_image(store, "kept:1", {"base": "b"}, {"kept": "1"})
        old = make_image(store, "web:1", {"base": "b"}, {"a": "old"})
        done = run(_ADDING, str(store.path), str(fatal))
        assert done.returncode == -signal.SIGKILL
        after = ImageStore(store.path)
        assert kept in after.images()
        found = after.find(parse("web:1"))
        assert found is not None
        for image in after.images():
            for layer in image.layers:
                assert digest_of(after.open_blob(layer.digest).read()) == layer.digest
        again = make_image(after, "web:1", {"base": "b"}, {"a": "new"})
        after.prune()
        assert after.find(old.image_id) is None and after.find(parse("web:1")) == again
        assert {path.name for path in after.path.iterdir() if path.name.startswith(".")} == set()
        needed = {digest for image in after.images() for digest in (image.manifest_digest, image.image_id)}
        needed |= {layer.digest for image in after.images() for layer in image.layers}
        assert {f"sha256:{path.name}" for path in (after.path / "blobs/sha256").iterdir()} == needed
