"""Hostile layers: sizes, decompression bombs, headers that readers interpret differently, digests.

Nothing outside of the layer's directory is read or changed. Most tests are named after an advisory about another engine
in which such a layer did harm.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from pathlib import Path

import pytest

from hatchway.images.contents import BadImage
from hatchway.images.layers.layererrors import BadLayer, NoRoomForLayer, UnpackLimits
from hatchway.images.layers.layerstream import LayerStream
from hatchway.images.store.layerplaces import chain_ids
from tests.images.making import tar_of
from tests.images.rawtar import END, old_sparse, raw_header, record, special
from tests.images.unpacking import Attack, file, listed, unpack

# Sizes and bombs


def test_a_negative_size_is_refused(attack: Attack) -> None:
    attack.refused(raw_header(size=b"\xff" * 12) + END, "negative")


def test_a_negative_size_in_a_pax_header_is_refused(attack: Attack) -> None:
    attack.refused(special(b"x", record(b"size", b"-1")) + raw_header() + END, "malformed")


@pytest.mark.parametrize("size", [b"\x80" + b"\xff" * 11, b"77777777777"])
def test_a_size_larger_than_the_limit_is_refused_before_anything_is_written(attack: Attack, size: bytes) -> None:
    attack.refused(raw_header(size=size) + b"x" * 512, "more than 1048576 bytes", limits=UnpackLimits(size=1 << 20))
    assert listed(attack.root) == {}


def test_all_sizes_together_have_a_limit(attack: Attack) -> None:
    layer = [file(str(number), "x" * 1000) for number in range(100)]
    attack.refused(layer, "more than 50000 bytes", limits=UnpackLimits(size=50_000))


@pytest.mark.parametrize("size", [b"9" * 11, b"0x10", b"-5", b"1_0", b"+7"])
def test_a_malformed_size_is_refused(attack: Attack, size: bytes) -> None:
    attack.refused(raw_header(size=size) + END, "a number in a header is malformed")


def test_a_gzip_bomb_moby_cve_2017_14992(tmp_path: Path) -> None:
    blob = io.BytesIO(gzip.compress(bytes(64 << 20), 9))
    with (
        LayerStream(blob, f"sha256:{'0' * 64}", UnpackLimits(size=1 << 20)) as stream,
        pytest.raises(BadLayer, match="limit"),
    ):
        while stream.read():
            continue


def test_a_decompression_bomb_after_the_end_of_the_archive(attack: Attack) -> None:
    attack.refused(END + bytes(8 << 20), "more than 1048576 bytes", limits=UnpackLimits(size=1 << 20))


def test_a_layer_larger_than_the_disk_has_an_error_of_its_own(tmp_path: Path) -> None:
    layer = special(b"x", record(b"size", b"9000000000000000000")) + raw_header() + END
    with pytest.raises(NoRoomForLayer, match="that the disk has room for"):
        unpack(tmp_path / "layer", layer, limits=UnpackLimits())


def test_holes_of_sparse_files_count_against_the_limit(attack: Attack) -> None:
    records = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "", "GNU.sparse.size": str(1 << 50)}
    attack.refused([file("f", "", pax=records)], "more than 1048576 bytes", limits=UnpackLimits(size=1 << 20))


def test_a_map_of_the_old_sparse_format_without_end_go_cve_2026_32288(attack: Attack) -> None:
    extension = bytearray(512)
    for at in range(21):
        extension[24 * at : 24 * at + 24] = b"%011o\0%011o\0" % (0, 0)
    extension[504] = 1
    attack.refused(old_sparse([(0, 0)] * 4, 0, 0, more=True) + bytes(extension) * 5000, "too large")


def test_a_map_of_the_sparse_format_1_without_end_go_cve_2025_58183(attack: Attack) -> None:
    records = (
        record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.realsize", b"9")
    )
    content = b"1000000\n" + b"0\n" * (2 << 20)
    layer = special(b"x", records) + raw_header(size=b"%011o" % len(content)) + content
    attack.refused(layer, "too large")


def test_an_endless_line_in_a_sparse_map(attack: Attack) -> None:
    records = (
        record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.realsize", b"9")
    )
    content = b"1" * 4096
    attack.refused(special(b"x", records) + raw_header(size=b"%011o" % len(content)) + content, "malformed")


@pytest.mark.parametrize(
    ("pieces", "real", "size"),
    [
        ([(10, 5), (0, 5)], 20, 10),
        ([(0, 10), (5, 10)], 20, 20),
        ([(15, 10)], 20, 10),
        ([(0, 5)], 20, 6),
        ([(0, 5)], 20, 4),
    ],
)
def test_a_sparse_map_that_overlaps_or_leads_out_gnu_tar_cve_2018_20482(
    attack: Attack, pieces: list[tuple[int, int]], real: int, size: int
) -> None:
    attack.refused(old_sparse(pieces, real, size) + bytes(512) + END, "sparse|does not hold")


def test_a_header_of_any_size_go_cve_2022_2879(attack: Attack) -> None:
    attack.refused(raw_header(b"x", size=b"%011o" % (2 << 20), kind=b"x") + bytes(2 << 20), "header is too large")


def test_an_endless_series_of_headers(attack: Attack) -> None:
    attack.refused(special(b"x", record(b"comment", b"x")) * 20 + raw_header() + END, "too many")


def test_more_entries_than_the_limit(attack: Attack) -> None:
    layer = [file(f"{number}") for number in range(11)]
    attack.refused(layer, "more than 10 entries", limits=UnpackLimits(size=1 << 20, entries=10))


# Archives that readers interpret differently


def test_the_size_of_a_pax_header_wins_tarmageddon_cve_2025_62518(attack: Attack) -> None:
    """A reader that used the size in the header, 0, would parse the file's content as another entry."""
    hidden = raw_header(b"hidden") + bytes(512)
    layer = special(b"x", record(b"size", b"%d" % len(hidden))) + raw_header(b"outer") + hidden + END
    assert attack.run(layer) == {"outer": hidden}


def test_a_malformed_pax_header_is_refused_and_not_skipped_astral_tokio_tar(attack: Attack) -> None:
    for content in (
        b"5 a=b\n",
        b"99 a=b\n",
        b"x a=b\n",
        b"6 ab\n",
        b"7 a=bc",
        b"4 =\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"\xb2 a=b",
    ):
        attack.refused(special(b"x", content) + raw_header() + END, "pax header is malformed")
        attack.root.rmdir()


def test_a_link_has_no_content_even_with_a_size(attack: Attack) -> None:
    layer = raw_header(b"l", kind=b"2", size=b"%011o" % 512, link=b"target") + raw_header(b"next") + END
    assert attack.run(layer) == {"l": "-> target", "next": b""}


def test_global_headers_do_not_change_names(attack: Attack) -> None:
    assert list(attack.run(special(b"g", record(b"path", b"evil")) + raw_header(b"good") + END)) == ["good"]


def test_an_entry_after_a_block_of_zeros_is_refused(attack: Attack) -> None:
    attack.refused(bytes(512) + raw_header() + END, "after a block of zeros")


def test_an_archive_that_is_cut_off_is_refused(attack: Attack) -> None:
    attack.refused(tar_of([file("a", "x" * 2000)])[:1500], "cut off")


def test_what_is_no_archive_is_refused_containers_storage_cve_2021_20291(attack: Attack) -> None:
    """containers/storage had a deadlock with such a layer."""
    attack.refused(b"#!/bin/sh\n" * 200, "no tar archive")


@pytest.mark.parametrize("kind", [b"V", b"M", b"D", b"A", b"Z"])
def test_unknown_types_are_refused(attack: Attack, kind: bytes) -> None:
    attack.refused(raw_header(kind=kind) + END, "are unknown")


def test_a_number_of_base_256_with_all_bits_gnu_tar_cve_2022_48303(attack: Attack) -> None:
    attack.run(raw_header(b"old", mtime=b"\xff" * 12) + raw_header(b"new", mtime=b"\xbf" + b"\xff" * 11) + END)
    assert (attack.root / "old").stat().st_mtime == -1


def test_a_file_cannot_be_used_as_a_directory(attack: Attack) -> None:
    attack.refused([file("a"), file("a/b")], "Not a directory")


# Digests and compression


def test_a_layer_with_another_digest_is_refused_cve_2014_8178() -> None:
    with LayerStream(io.BytesIO(END), f"sha256:{'0' * 64}", UnpackLimits(size=1 << 20)) as stream:
        assert stream.read() == END
        with pytest.raises(BadLayer, match=r"has the digest sha256:.* and its image's configuration says sha256:0000"):
            stream.verify()


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc", "sha256:" + "A" * 64, "md5:x", "", "/etc/passwd", "sha256:abc"]
)
def test_a_digest_that_is_a_path_cve_2014_9358_cve_2024_3727(digest: str) -> None:
    with pytest.raises(BadImage, match="is not a digest"):
        chain_ids([f"sha256:{'a' * 64}", digest])


def test_no_program_is_run_for_decompression_cve_2014_9357(attack: Attack) -> None:
    """Docker ran `xz` in the root directory of the image, so an image could replace the program."""
    attack.refused(b"\xfd7zXZ\0" + bytes(600), "compressed with xz")
    attack.root.rmdir()
    attack.refused(b"BZh91AY&SY" + bytes(600), "compressed with bzip2")


def test_a_window_of_zstd_that_takes_two_gibibytes_is_refused() -> None:
    frame = struct.pack("<IBB", 0xFD2FB528, 0, (31 - 10) << 3) + b"\x01\x00\x00"
    with (
        LayerStream(
            io.BytesIO(frame), f"sha256:{hashlib.sha256(b'').hexdigest()}", UnpackLimits(size=1 << 20)
        ) as stream,
        pytest.raises(BadLayer, match="zstd data is damaged"),
    ):
        stream.read()
