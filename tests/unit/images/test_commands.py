"""`hatchway image` on the command line: its output and its errors."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hatchway.cli.run import run as run_command_line
from hatchway.images.store.store import ImageStore, store_path
from tests.images.making import built, docker_archive, make_image, oci_archive, oci_directory

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    monkeypatch.setenv("HATCHWAY_STATE_DIR", str(tmp_path / "state"))
    return ImageStore(store_path())


@pytest.fixture
def image(store: ImageStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `hatchway image ...` in this process; return its code, out and err."""

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["hatchway", "image", *arguments])
        code = run_command_line()
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def test_load_prints_the_loaded_images(image: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web, unnamed = built("web:1", {"a": "1"}), built("", {"b": "1"})
    path = docker_archive(tmp_path / "web.tar", web)
    assert image("load", str(path)).out == "Loaded image: web:1\n"
    assert image("load", str(oci_directory(tmp_path / "layout", unnamed))).out == f"Loaded image ID: {unnamed.config}\n"
    assert (
        image("load", str(oci_archive(tmp_path / "u.tar", unnamed)), "--name", "mine").out
        == "Loaded image: mine:latest\n"
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert image("load", "-").out == "Loaded image: web:1\n"


def test_load_takes_several_files(image: Run, store: ImageStore, tmp_path: Path) -> None:
    paths = [str(docker_archive(tmp_path / f"{name}.tar", built(f"{name}:1", {name: "1"}))) for name in ("a", "b", "d")]
    bad = tmp_path / "c.tar"
    bad.write_text("no archive")
    missing = str(tmp_path / "missing.tar")
    done = image("load", *paths[:2], str(bad), missing, paths[2])
    assert done.out == "Loaded image: a:1\nLoaded image: b:1\nLoaded image: d:1\n"
    assert done.code == 1
    lines = [line for line in done.err.splitlines() if line.startswith("hatchway: ")]
    assert lines[0].startswith(f"hatchway: cannot load {bad}: it cannot be read as a tar archive")
    assert lines[1:] == [
        f"hatchway: cannot load {missing}: No such file or directory",
        f"hatchway: 2 of 5 files could not be loaded: {bad}, {missing}",
    ]
    assert {name for one in store.images() for name in one.tags} == {f"docker.io/library/{name}:1" for name in "abd"}
    for arguments, message in ((("-", "-"), "standard input can be read only once"),
                               ((*paths, "--name", "x"), "several files cannot have one name")):  # fmt: skip
        refused = image("load", *arguments)
        assert refused.code == 2 and message in refused.err


def test_load_warns_that_pods_pull_the_tag_latest(image: Run, tmp_path: Path) -> None:
    path = oci_archive(tmp_path / "web.tar", built("web:latest", {"a": "1"}))
    done = image("load", str(path))
    assert done.out == "Loaded image: web:latest\n" and "imagePullPolicy is IfNotPresent or Never" in done.err
    assert image("load", str(path), "--name", "web:1").err == ""


def test_errors_of_load(image: Run, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n" * 100)
    done = image("load", str(tmp_path / "script"))
    assert done.code == 1
    assert done.err.startswith(
        f"hatchway: cannot load {tmp_path / 'script'}: it cannot be read as a tar archive, plain or compressed"
    )
    missing = image("load", str(tmp_path / "missing"))
    assert missing.code == 1 and "missing: No such file or directory" in missing.err
    for arguments, message in (
        (("--platform", "windows/amd64"), '--platform: images of the operating system "windows" cannot be used'),
        (("--name", "UPPER"), '--name: "UPPER" is not the name of an image: invalid reference format'),
        (("--name", f"a@sha256:{'0' * 64}"), "--name: an image cannot be given a digest"),
    ):
        done = image("load", str(tmp_path / "script"), *arguments)
        assert done.code == 2 and message in done.err


def test_an_image_for_another_machine_is_loaded_with_a_note(image: Run, tmp_path: Path) -> None:
    path = oci_archive(tmp_path / "s390x.tar", built("big:1", {"a": "1"}, platform={"architecture": "s390x"}))
    done = image("load", str(path))
    assert done.out == "Loaded image: big:1\n" and "note: it is made for linux/s390x, and this is linux/" in done.err
    refused = image("load", str(path), "--platform", "linux/arm64")
    assert refused.code == 1 and "big:1 is made for linux/s390x, not for linux/arm64/v8" in refused.err


def test_ls_lists_each_name(image: Run, store: ImageStore) -> None:
    assert "there are no images yet" in image("ls").err
    web = make_image(store, "web:1", {"a": "1"}, whole_config={"created": "2001-01-01T00:00:00.123456789Z"})
    image("tag", "web:1", "registry.example:5000/team/web")
    make_image(store, None, {"b": "1"}, whole_config={"created": "never"})
    lines = image("ls").out.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    rows = [line.split()[:3] for line in lines[1:]]
    short = web.image_id[7:19]
    assert ["web", "1", short] in rows and ["registry.example:5000/team/web", "latest", short] in rows
    assert rows[0][:2] == ["<none>", "<none>"]
    assert "N/A" in lines[1] and " years ago" in lines[2]
    assert image("ls", "-o", "name", "web").out == "web:1\n"
    assert image("ls", "web:2").code == 0 and "no such image" in image("ls", "web:2").err
    odd = image("ls", "UPPER")
    assert odd.code == 2 and 'NAME: "UPPER" is not the name of an image' in odd.err
    assert len(image("ls", "--dangling").out.splitlines()) == 2
    assert web.manifest_digest in image("ls", "--digests").out
    found = json.loads(image("ls", "-o", "json", "web:1").out)
    assert [one["id"] for one in found] == [web.image_id] and found[0]["platform"].startswith("linux/")


def test_inspect_has_dockers_fields(image: Run, store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"}, Cmd=["x"], Healthcheck={"Test": ["NONE"]})
    with store.use(web, "pod default/a of cluster hatchway"):
        found = json.loads(image("inspect", "web:1", web.image_id[7:19]).out)
    assert len(found) == 2
    assert found[0]["Id"] == web.image_id and found[0]["RepoTags"] == ["web:1"]
    assert found[0]["RepoDigests"] == [f"web@{web.manifest_digest}"]
    assert found[0]["Config"] == {"Cmd": ["x"], "Healthcheck": {"Test": ["NONE"]}}
    assert found[0]["RootFS"]["Layers"] == list(web.config.diff_ids)
    assert found[0]["UsedBy"] == ["pod default/a of cluster hatchway"]
    missing = image("inspect", "nothing")
    assert missing.code == 1 and 'there is no image "nothing"' in missing.err


def test_rm_removes_a_name_and_with_the_last_name_the_image(image: Run, store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"})
    image("tag", "web:1", "web:2")
    assert image("rm", "web:1").out == "Untagged: web:1\n"
    assert image("rm", "web:2").out.splitlines() == [
        "Untagged: web:2", f"Untagged: web@{web.manifest_digest}", f"Deleted: {web.image_id}",
    ]  # fmt: skip
    assert store.images() == []
    assert image("rm", "web:2").code == 1


def test_rm_by_id_needs_force_for_names_of_several_repositories(image: Run, store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"})
    image("tag", "web:1", "web:2")
    image("tag", "web:1", "other:1")
    done = image("rm", web.image_id[7:19])
    assert done.code == 1 and "has names of several repositories: web:1, web:2, other:1" in done.err
    assert image("rm", "-f", web.image_id[7:19]).code == 0
    assert store.images() == []


def test_rm_refuses_an_image_that_is_used(image: Run, store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"})
    other = make_image(store, "other:1", {"a": "2"})
    with store.use(web, "pod default/a"):
        done = image("rm", "web:1")
        assert done.code == 1 and "the image web:1 is in use: pod default/a" in done.err
        both = image("rm", "web:1", "other:1")
        assert both.code == 1 and f"Deleted: {other.image_id}" in both.out
        assert both.err.startswith("hatchway: the image web:1 is in use: pod default/a\n  ")
        assert image("rm", "--force", "web:1").code == 0
    assert store.images() == []


def test_prune_prints_the_removed_images(image: Run, store: ImageStore) -> None:
    old = make_image(store, "web:1", {"a": "1"})
    web = make_image(store, "web:1", {"a": "2"})
    assert f"Deleted: {old.image_id}\nTotal reclaimed space: " in image("prune").out
    refused = image("prune", "--all")
    assert refused.code == 1 and "add --yes to agree" in refused.err
    assert f"Untagged: web:1\nDeleted: {web.image_id}\n" in image("prune", "--all", "--yes").out


def test_save_writes_a_file_that_load_reads(image: Run, store: ImageStore, tmp_path: Path) -> None:
    make_image(store, "web:1", {"a": "1"})
    path = tmp_path / "web.tar"
    assert image("save", "web:1", "-o", str(path)).code == 0
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    image("rm", "web:1")
    assert image("load", str(path)).out == "Loaded image: web:1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "web.tar"]
    missing = image("save", "nothing", "-o", str(path))
    assert missing.code == 1 and path.exists()
    nowhere = image("save", "web:1", "-o", str(tmp_path / "no" / "web.tar"))
    assert nowhere.code == 1 and "No such file or directory" in nowhere.err


def test_tag_refuses_a_digest(image: Run, store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"})
    assert image("tag", "web:1", f"web@{web.manifest_digest}").code == 2
    assert image("tag", "web:9", "x").code == 1
    assert image("tag", web.image_id, "x").code == 0


def test_a_store_of_a_newer_release_is_an_error(image: Run, store: ImageStore) -> None:
    store.path.mkdir(parents=True)
    (store.path / "names.json").write_text('{"version": 9, "images": []}')
    done = image("ls")
    assert done.code == 1 and "its version is 9, of a newer release of Hatchway" in done.err


def test_names_are_completed(image: Run, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from hatchway.cli.imagestore import complete_image

    make_image(store, "web:1", {"a": "1"})
    make_image(store, "other:1", {"a": "2"})
    context, parameter = click.Context(click.Command("rm")), click.Argument(["images"])
    assert [item.value for item in complete_image(context, parameter, "w")] == ["web:1"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
