"""Hostile layers: names, links, whiteouts, devices, owners, attributes.

Nothing outside of the layer's directory is read or changed. Most tests are named after an advisory about another engine
in which such a layer did harm.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layertree import clean_name
from tests.images.making import Entry, directory, hardlink, opaque, symlink, tar_of, whiteout
from tests.images.rawtar import END, raw_header, record, special
from tests.images.unpacking import IS_ROOT, Attack, Guard, file, listed, unpack

# Names


@pytest.mark.parametrize(
    "name", ["../outside/new", "a/../../outside/new", "..", "/../outside/new", "./../x", "a/../.."]
)
def test_names_that_lead_outside_are_refused(attack: Attack, name: str) -> None:
    attack.refused([file(name)], "leads out of the root directory")


def test_an_absolute_name_begins_at_the_layers_root_cve_2014_9356(attack: Attack, guard: Guard) -> None:
    found = attack.run([file(f"{guard.path}/etc/passwd", "inside")])
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside"


def test_dots_after_a_name_of_the_layer_gnu_tar_cve_2016_6321(attack: Attack) -> None:
    assert attack.run([directory("etc/motd"), file("etc/motd/../shadow", "inside")])["etc/shadow"] == b"inside"


def test_a_name_with_dots_behind_a_link_is_cleaned_before_the_link_is_followed(attack: Attack, guard: Guard) -> None:
    found = attack.run([symlink("a", f"{guard.path}/etc"), file("a/../b", "inside")])
    assert found == {"a": f"-> {guard.path}/etc", "b": b"inside"}


@pytest.mark.parametrize(
    "name", ["new\nline", "tab\there", "\x1b[31mred", "\udcff\udcfe", "-rf", " ", "~", "$(x)", "é"]
)
def test_unusual_names_are_accepted(attack: Attack, name: str) -> None:
    assert attack.run([file(name, "odd")]) == {name: b"odd"}


def test_a_name_with_nul_in_a_pax_header_is_refused(attack: Attack) -> None:
    layer = special(b"x", record(b"path", b"a\0b")) + raw_header() + END
    attack.refused(layer, "NUL")


def test_a_link_with_nul_in_a_pax_header_is_refused(attack: Attack) -> None:
    layer = special(b"x", record(b"linkpath", b"a\0b")) + raw_header(kind=b"2") + END
    attack.refused(layer, "NUL")


def test_a_name_in_a_header_ends_at_nul(attack: Attack) -> None:
    assert list(attack.run(raw_header(b"name\0/../../x") + END)) == ["name"]


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "y" * 300 + "/b"])
def test_a_component_longer_than_255_bytes_is_refused(attack: Attack, name: str) -> None:
    attack.refused([file(name)], "longer than 255 bytes")


def test_a_path_longer_than_the_system_opens_is_refused(attack: Attack) -> None:
    attack.refused([file("abcdefgh/" * 500 + "x")], "longer than 4095 bytes")


def test_a_path_deeper_than_the_limit_is_refused(attack: Attack) -> None:
    attack.refused([file("a/" * 256 + "x")], "more than 256 components")


def test_a_path_that_links_make_deeper_than_the_limit_is_refused(attack: Attack) -> None:
    layer = [directory("a/" * 200), symlink("b", "a/" * 200), file("b/" + "c/" * 100 + "x")]
    attack.refused(layer, "more than 256 components")


def test_errors_show_names_without_control_characters() -> None:
    with pytest.raises(BadLayer) as caught:
        clean_name(b"../\x1b[2J\n\xff")
    assert str(caught.value) == r'"../\x1b[2J\n\xff": the name leads out of the root directory'


# Symbolic links


def test_writing_through_a_link_to_outside_cve_2014_6407(attack: Attack, guard: Guard) -> None:
    found = attack.run([symlink("etc", f"{guard.path}/etc"), file("etc/passwd", "inside")])
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside"


def test_writing_through_a_relative_link_to_outside_cve_2014_6407(attack: Attack) -> None:
    found = attack.run([symlink("etc", "../outside/etc"), file("etc/passwd", "inside")])
    assert found["outside/etc/passwd"] == b"inside"


def test_a_chain_of_links_to_outside_cve_2026_17106(attack: Attack, guard: Guard) -> None:
    found = attack.run(
        [symlink("a", "b"), symlink("b", "c/.."), symlink("c", str(guard.path / "etc")), file("a/etc/passwd", "inside")]
    )
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside"


def test_a_file_over_a_link_replaces_it_and_is_not_written_through_it(attack: Attack, guard: Guard) -> None:
    assert attack.run([symlink("a", f"{guard.path}/etc/passwd"), file("a", "inside")]) == {"a": b"inside"}


def test_a_directory_over_a_link_replaces_it_cve_2021_32760(attack: Attack, guard: Guard) -> None:
    """If the link were kept, its target would get the directory's mode."""
    assert attack.run([symlink("a", str(guard.path)), directory("a", 0o777), file("a/b", "in")]) == {
        "a": None,
        "a/b": b"in",
    }


def test_a_link_replaces_an_earlier_directory_node_tar_cve_2021_32803(attack: Attack, guard: Guard) -> None:
    layer = [directory("a"), file("a/one"), symlink("a", str(guard.path / "etc")), file("a/passwd", "inside")]
    found = attack.run(layer)
    assert found["a"] == f"-> {guard.path}/etc"
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside"


def test_a_link_replaces_a_directory_without_an_entry(attack: Attack, guard: Guard) -> None:
    found = attack.run([file("a/b/one"), symlink("a/b", str(guard.path / "etc")), file("a/b/shadow", "inside")])
    assert found[f"{guard.path}/etc/shadow".lstrip("/")] == b"inside"


def test_two_layers_with_a_link_and_a_file_gnu_tar_cve_2025_45582(attack: Attack, guard: Guard, tmp_path: Path) -> None:
    """The second archive is unpacked over the first archive, which has the link."""
    lower = tmp_path / "outside-lower"
    unpack(lower, [symlink("x", str(guard.path / "etc"))])
    unpack(attack.root, [file("x/passwd", "inside")], lowers=[lower])
    assert listed(attack.root) == {"x": None, "x/passwd": b"inside"}
    assert listed(lower) == {"x": f"-> {guard.path}/etc"}


@pytest.mark.parametrize("name", [".", "./", "/", ""])
def test_the_root_itself_as_a_link_umoci_cve_2021_29136(attack: Attack, guard: Guard, name: str) -> None:
    assert attack.run([symlink(name, str(guard.path)), file("etc/passwd", "inside")])["etc/passwd"] == b"inside"


def test_a_link_below_proc_to_an_open_descriptor_cve_2024_21626(attack: Attack, guard: Guard) -> None:
    descriptor = os.open(guard.path, os.O_RDONLY)
    try:
        found = attack.run(
            [
                symlink("fd", f"/proc/self/fd/{descriptor}"),
                file("fd/etc/passwd", "inside"),
                symlink("cwd", "/proc/self/cwd"),
            ]
        )
    finally:
        os.close(descriptor)
    assert found[f"proc/self/fd/{descriptor}/etc/passwd"] == b"inside"


def test_a_loop_of_links_is_refused(attack: Attack) -> None:
    attack.refused([symlink("a", "b"), symlink("b", "a"), file("a/x")], "Too many levels of symbolic links")


def test_links_that_need_exponentially_many_steps_are_refused(attack: Attack) -> None:
    layer = [directory("0")]
    layer += [symlink(str(number + 1), f"{number}/../" * 40 + str(number)) for number in range(6)]
    attack.refused([*layer, file("6/x")], "Too many levels of symbolic links")


def test_links_are_followed_for_a_limited_number_of_steps(attack: Attack) -> None:
    layer = [directory("a"), symlink("b", "a/" + "../a/" * 500)]
    layer += [file(f"b/{number}/x") for number in range(40)]
    attack.refused(layer, "too long to follow", limits=UnpackLimits(size=1 << 20, steps=10_000))


# Hard links


@pytest.mark.parametrize("target", ["../outside/etc/passwd", "/../outside/etc/shadow", "a/../../outside/etc/passwd"])
def test_a_hard_link_to_outside_cve_2014_6407(attack: Attack, target: str) -> None:
    attack.refused([hardlink("mine", target)], "leads out of the root directory")


def test_a_hard_link_with_an_absolute_target(attack: Attack, guard: Guard) -> None:
    attack.refused([hardlink("mine", f"{guard.path}/etc/passwd")], "which does not exist")


def test_a_hard_link_to_a_path_of_two_thousand_components(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "outside-lower").mkdir()
    with pytest.raises(BadLayer, match="which does not exist"):
        unpack(attack.root, [hardlink("a", "b/" * 2000 + "c")], lowers=[tmp_path / "outside-lower"])


def test_a_hard_link_through_a_link_to_outside_cve_2026_17106(attack: Attack, guard: Guard) -> None:
    attack.refused([symlink("a", f"{guard.path}/etc"), hardlink("mine", "a/passwd")], "which does not exist")


def test_a_hard_link_to_a_link_is_another_name_of_the_link(attack: Attack, guard: Guard) -> None:
    target = f"{guard.path}/etc/passwd"
    found = attack.run([symlink("a", target), hardlink("b", "a"), file("b/x", "in"), file("c")][:2])
    assert found == {"a": f"-> {target}", "b": f"-> {target}"}


def test_writing_to_a_hard_link_of_a_link_replaces_it_cve_2014_6407(attack: Attack, guard: Guard) -> None:
    found = attack.run([symlink("a", f"{guard.path}/etc/passwd"), hardlink("b", "a"), file("b", "inside")])
    assert found["b"] == b"inside"


def test_a_path_through_a_hard_link_of_a_link_stays_inside(attack: Attack, guard: Guard) -> None:
    found = attack.run([symlink("a", f"{guard.path}/etc"), hardlink("b", "a"), file("b/passwd", "inside")])
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside"


def test_a_hard_link_does_not_change_the_mode_of_its_target_cve_2021_32760(attack: Attack) -> None:
    attack.run([file("a", mode=0o600), hardlink("b", "a", mode=0o4777)])
    assert stat.S_IMODE((attack.root / "a").stat().st_mode) == 0o600


def test_a_hard_link_to_a_directory_is_refused(attack: Attack) -> None:
    attack.refused([directory("a"), hardlink("b", "a")], "which is not a file")


@pytest.mark.parametrize("target", [".", "/", ""])
def test_a_hard_link_to_the_root_is_refused(attack: Attack, target: str) -> None:
    attack.refused([hardlink("b", target)], "a hard link to the root directory")


def test_a_hard_link_to_itself(attack: Attack) -> None:
    assert attack.run([file("a", "x"), hardlink("a", "./a")]) == {"a": b"x"}


def test_a_replaced_hard_link_does_not_change_the_file_of_the_lower_layer(attack: Attack, tmp_path: Path) -> None:
    lower = tmp_path / "outside/lower"
    unpack(lower, [file("a", "lower")])
    unpack(attack.root, [hardlink("b", "a"), file("b", "upper", mode=0o777)], lowers=[lower])
    assert listed(lower) == {"a": b"lower"}
    assert stat.S_IMODE((lower / "a").stat().st_mode) == 0o644


# Whiteouts


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "a/.wh..."])
def test_a_whiteout_of_dots_is_refused(attack: Attack, name: str) -> None:
    attack.refused([directory("a"), file(name)], "no whiteout's name")


def test_a_whiteout_through_a_link_deletes_nothing_outside(attack: Attack, guard: Guard) -> None:
    attack.run([symlink("a", str(guard.path / "etc")), whiteout("a/passwd"), opaque("a")])


def test_a_whiteout_that_leads_outside_is_refused(attack: Attack) -> None:
    attack.refused([whiteout("../outside/etc")], "leads out")


def test_an_opaque_root_deletes_nothing_outside_and_hides_all(attack: Attack, tmp_path: Path) -> None:
    lower = tmp_path / "outside/lower"
    unpack(lower, [file("a")])
    assert unpack(attack.root, [file("b"), Entry(".wh..wh..opq")], lowers=[lower]) is True
    assert listed(attack.root) == {"b": b"new"} and listed(lower) == {"a": b"new"}


def test_an_opaque_root_by_a_link(attack: Attack) -> None:
    assert unpack(attack.root, [symlink("a", "/"), Entry("a/.wh..wh..opq")]) is True


def test_names_of_aufs_are_omitted(attack: Attack) -> None:
    assert attack.run([directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("a")]) == {
        "a": b"new"
    }


# Devices and modes


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_are_omitted(attack: Attack, kind: bytes) -> None:
    assert attack.run([Entry("dev/sda", type=kind, device=(8, 0), mode=0o666), file("a")]) == {"a": b"new"}


def test_a_device_replaces_a_file_of_its_layer(attack: Attack) -> None:
    assert attack.run([file("a"), Entry("a", type=tarfile.CHRTYPE, device=(1, 3))]) == {}


def test_the_layers_directory_is_private_while_it_is_written_cve_2021_41091(tmp_path: Path) -> None:
    seen: list[int] = []

    class Blob(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.extend(stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").rglob("*") if path.is_dir())
            return super().read(size)

    from hatchway.images.layers.fileattributes import AttributeWriter
    from hatchway.images.layers.layertar import LayerTar
    from hatchway.images.layers.layerwriter import LayerWriter
    from hatchway.images.layers.lowerlayers import LowerLayers

    data = tar_of([directory("a", 0o777), directory("a/b", 0o777), file("a/b/su", "x" * 4096, mode=0o4755), file("c")])
    root = tmp_path / "store/root"
    root.mkdir(parents=True)
    blob = Blob(data)
    descriptor = os.open(root, os.O_RDONLY)
    limits = UnpackLimits(size=1 << 20)
    with LowerLayers([]) as below:
        writer = LayerWriter(descriptor, below, AttributeWriter(keeps_owners=False), limits)
        writer.write_all(LayerTar(lambda: blob.read(512), limits))
        writer.close()
    os.close(descriptor)
    assert set(seen) <= {0o700, stat.S_IMODE(0o755)} and 0o777 not in seen
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o777
    assert stat.S_IMODE((root / "a/b/su").stat().st_mode) == 0o4755


def test_the_roots_own_attributes_are_ignored(attack: Attack) -> None:
    attack.run([directory(".", 0o000, uid=4242), file("a")])
    assert stat.S_IMODE(attack.root.stat().st_mode) == 0o755 and attack.root.stat().st_uid == os.geteuid()


# Owners


@pytest.mark.parametrize("field", ["uid", "gid"])
def test_the_owner_that_means_no_change_is_refused_cve_2024_40635(attack: Attack, field: str) -> None:
    """For chown(2), 4294967295 is -1, which means no change. In containerd, numbers that are too large became root."""
    attack.refused(special(b"x", record(field.encode(), b"4294967295")) + raw_header() + END, "out of range")
    attack.root.rmdir()
    attack.refused(raw_header(**{field: b"\xff" * 8}) + END, "out of range")


@pytest.mark.skipif(not IS_ROOT, reason="only root may give files to others")
def test_names_of_users_do_not_count_cve_2019_14271(attack: Attack) -> None:
    """A look-up of user names would load libraries, and during the unpacking these may be libraries of the image."""
    header = tarfile.TarInfo("a")
    header.uid, header.gid, header.uname, header.gname = 1234, 4321, "root", "root"
    attack.run(header.tobuf(tarfile.PAX_FORMAT) + END)
    status = (attack.root / "a").stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)


# Extended attributes


def xattr(name: str, value: str = "y") -> dict[str, str]:
    return {f"SCHILY.xattr.{name}": value}


@pytest.mark.parametrize(
    "name",
    [
        "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque",
        "user.overlay.redirect", "user.overlay.metacopy", "user.overlay.whiteout", "user.overlay.origin",
        "security.selinux", "security.ima", "security.evm", "system.posix_acl_access", "system.", "odd",
    ],
)  # fmt: skip
def test_attributes_with_a_meaning_for_the_system_are_omitted_cve_2023_0386(attack: Attack, name: str) -> None:
    attack.run([directory("d", pax=xattr(name, "/../etc")), file("d/f", pax=xattr(name, "/../etc"))])
    assert os.listxattr(attack.root / "d") == os.listxattr(attack.root / "d/f") == []


def test_attributes_of_users_are_kept(attack: Attack) -> None:
    attack.run([directory("d", pax=xattr("user.a", "1")), file("d/f", pax=xattr("user.b", "2\n3"))])
    assert os.getxattr(attack.root / "d", "user.a") == b"1"
    assert os.getxattr(attack.root / "d/f", "user.b") == b"2\n3"


def test_an_attribute_on_a_link_is_not_set_on_its_target(attack: Attack) -> None:
    attack.run([file("f"), symlink("l", "f", pax=xattr("user.a"))])
    assert os.listxattr(attack.root / "f") == []


@pytest.mark.parametrize("value", ["x" * 70_000])
def test_an_attribute_that_is_too_large_is_refused(attack: Attack, value: str) -> None:
    attack.refused([file("f", pax=xattr("user.a", value))], "attribute|Argument list too long|Numerical result")


def test_an_attribute_with_a_name_that_is_too_long_is_refused(attack: Attack) -> None:
    attack.refused([file("f", pax=xattr("user." + "a" * 300))], "range|Numerical|Argument|Invalid|supported")


@pytest.mark.skipif(not IS_ROOT, reason="only root may set capabilities of files")
def test_a_malformed_capability_is_refused(attack: Attack) -> None:
    attack.refused([file("f", pax=xattr("security.capability", "nonsense"))], "Invalid argument")
