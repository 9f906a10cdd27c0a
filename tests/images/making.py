"""Make images for tests: valid ones, and ones that an attacker would make.

    make_image(store, "web:1", {"etc/motd": "hello"}, Cmd=["cat", "/etc/motd"])
    make_image(store, "web:1", tar_of([Entry("../../etc/passwd", b"x")]))
    oci_archive(tmp_path / "web.tar", built("web:1", layer, base_layer))

A layer is a directory, a mapping of paths to contents, a list of `Entry`, or the bytes of a tar file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatchway.images.contents import Image, PullGrant
from hatchway.images.reference import Reference, parse
from hatchway.images.store.store import BlobOrigin, ImageStore
from tests.downloads import downloads

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
# A date in 2020. Layers with the same files have the same digests.
MADE = 1_577_836_800
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


@dataclass(frozen=True)
class Entry:
    """An entry of a layer, written without any checks.

    type: a constant of tarfile (REGTYPE, SYMTYPE, LNKTYPE, DIRTYPE, CHRTYPE, FIFOTYPE ...). size: a wrong size for the
    header. pax: extended header fields (`SCHILY.xattr.NAME`, `GNU.sparse...`).
    """

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    mtime: int = MADE
    size: int | None = None
    pax: Mapping[str, str] = field(default_factory=dict)


Layer = bytes | Path | Mapping[str, bytes | str] | Iterable[Entry]


def directory(name: str, mode: int = 0o755, **more: Any) -> Entry:
    """Return a directory."""
    return Entry(name, type=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, target: str, **more: Any) -> Entry:
    """Return a symbolic link."""
    return Entry(name, type=tarfile.SYMTYPE, link=target, mode=0o777, **more)


def hardlink(name: str, target: str, **more: Any) -> Entry:
    """Return a hard link to another entry."""
    return Entry(name, type=tarfile.LNKTYPE, link=target, **more)


def whiteout(name: str) -> Entry:
    """Return the whiteout that deletes `name` of lower layers."""
    head, slash, last = name.rpartition("/")
    return Entry(f"{head}{slash}.wh.{last}")


def opaque(name: str) -> Entry:
    """Return the opaque whiteout that hides the content of the directory `name` in lower layers."""
    return Entry(f"{name}/.wh..wh..opq")


def tar_of(entries: Iterable[Entry]) -> bytes:
    """Return the bytes of a tar file with these entries, in this order."""
    out = io.BytesIO()
    for entry in entries:
        header = tarfile.TarInfo(entry.name)
        header.type, header.mode, header.uid, header.gid = entry.type, entry.mode, entry.uid, entry.gid
        header.linkname, header.mtime = entry.link, entry.mtime
        header.devmajor, header.devminor = entry.device
        header.size = len(entry.content) if entry.size is None else entry.size
        header.pax_headers = dict(entry.pax)
        out.write(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(entry.content)
        out.write(bytes(-len(entry.content) % 512))
    out.write(bytes(1024))
    return out.getvalue()


def layer_of(layer: Layer) -> bytes:
    """Return a layer's tar file, not compressed."""
    if isinstance(layer, bytes):
        return layer
    if isinstance(layer, Path):
        return tar_of(entries_below(layer))
    if isinstance(layer, Mapping):
        return tar_of(_entries_of(layer))
    return tar_of(layer)


def _entries_of(files: Mapping[str, bytes | str]) -> list[Entry]:
    """Return the entries for files. A path that ends with / is a directory; programs are below bin/ or sbin/."""
    parents = {str(parent) for name in files for parent in Path(name.rstrip("/")).parents} - {"."}
    entries = [directory(name) for name in sorted(parents)]
    for name, content in files.items():
        if name.endswith("/"):
            entries.append(directory(name.rstrip("/")))
            continue
        data = content.encode() if isinstance(content, str) else content
        is_program = data.startswith((b"#!", b"\x7fELF"))
        entries.append(Entry(name, data, mode=0o755 if is_program else 0o644))
    return entries


def entries_below(root: Path, without: Sequence[str] = ()) -> list[Entry]:
    """Return entries for the files below a directory, except the paths in `without`; the owner is root."""
    entries: list[Entry] = []
    inodes: dict[tuple[int, int], str] = {}
    for folder, names, files in os.walk(root):
        inside_of = os.path.relpath(folder, root)
        names[:] = sorted(name for name in names if os.path.normpath(f"{inside_of}/{name}") not in without)
        for name in sorted([*names, *files]):
            path = Path(folder, name)
            status, inside = path.lstat(), str(path.relative_to(root))
            mode = status.st_mode & 0o7777
            if path.is_symlink():
                entries.append(symlink(inside, os.readlink(path)))
            elif path.is_dir():
                entries.append(directory(inside, mode))
            elif (first := inodes.setdefault((status.st_dev, status.st_ino), inside)) != inside:
                entries.append(hardlink(inside, first))
            elif path.is_file():
                entries.append(Entry(inside, path.read_bytes(), mode=mode))
    return entries


def digest_of(data: bytes) -> str:
    """Return the SHA-256 digest in the format of images."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class BuiltImage:
    """An image in memory. blobs: digest -> bytes. manifest: the digest of the manifest. name: as given to `built`."""

    name: str
    blobs: Mapping[str, bytes]
    manifest: str
    config: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    media_type: str = f"{OCI}manifest.v1+json"

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return the descriptor of the manifest for an index."""
        size = len(self.blobs[self.manifest])
        return {"mediaType": self.media_type, "digest": self.manifest, "size": size}


def built(
    name: str,
    *layers: Layer,
    compression: str = "gzip",
    docker: bool = False,
    platform: Mapping[str, str] | None = None,
    whole_config: Mapping[str, Any] | None = None,
    **config: Any,
) -> BuiltImage:
    """Make an image in memory.

    Args:
        layers: the lowest layer first.
        compression: "gzip", "zstd" (needs the program `zstd`) or "".
        docker: whether the manifest has Docker's media types instead of the OCI's.
        platform: os, architecture, variant; this machine's by default.
        whole_config: top-level fields of the configuration, such as history; they override others.
        config: Entrypoint, Cmd, Env, WorkingDir, User, Volumes, StopSignal, ExposedPorts, Labels ...
    """
    plain = [layer_of(layer) for layer in layers]
    packed = [compressed(layer, compression) for layer in plain]
    diff_ids = tuple(map(digest_of, plain))
    layer_digests = tuple(map(digest_of, packed)) if compression else diff_ids
    document = {
        "created": "2020-01-01T00:00:00Z",
        "os": "linux",
        "architecture": ARCHITECTURE,
        **(platform or {}),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        **(whole_config or {}),
    }
    config_bytes = json.dumps(document).encode()
    if docker:
        kinds = (
            f"{DOCKER}distribution.manifest.v2+json",
            f"{DOCKER}container.image.v1+json",
            f"{DOCKER}image.rootfs.diff.tar" + (f".{compression}" if compression else ""),
        )
    else:
        suffix = f"+{compression}" if compression else ""
        kinds = (f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}layer.v1.tar{suffix}")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kinds[0],
            "config": {"mediaType": kinds[1], "digest": digest_of(config_bytes), "size": len(config_bytes)},
            "layers": [
                {"mediaType": kinds[2], "digest": digest, "size": len(blob)}
                for digest, blob in zip(layer_digests, packed, strict=True)
            ],
        }
    ).encode()
    blobs = dict(zip(layer_digests, packed, strict=True)) | {digest_of(blob): blob for blob in (config_bytes, manifest)}
    return BuiltImage(
        name,
        blobs,
        digest_of(manifest),
        digest_of(config_bytes),
        layer_digests,
        diff_ids,
        kinds[0],
    )


def compressed(data: bytes, compression: str) -> bytes:
    """Compress a layer or an archive; equal data give equal bytes."""
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if compression == "zstd":
        return subprocess.run(["zstd", "-1", "-c", "-q"], input=data, capture_output=True, check=True).stdout
    return data


def make_image(store: ImageStore, name: str | None, *layers: Layer, **options: Any) -> Image:
    """Make an image in a store, with the options of `built`. name: as users write it; None for no name."""
    return put_image(store, built(name or "", *layers, **options))


def put_image(store: ImageStore, image: BuiltImage, grant: PullGrant | None = None) -> Image:
    """Put an image into a store. grant: the pod's Secret with which it was pulled."""
    reference: Reference | None = parse(image.name) if image.name else None
    origin = BlobOrigin(reference.name, is_private=True) if reference is not None and grant is not None else None
    with store.keep():
        for digest, blob in image.blobs.items():
            with store.begin_blob(digest, len(blob), origin) as writer:
                writer.restart()
                writer.write(blob)
                writer.commit()
        return store.add(reference, image.manifest, grant=grant)


def index_of(*images: BuiltImage, platforms: Sequence[Mapping[str, str]] = ()) -> bytes:
    """Return an index of images, with their names in the annotations that tools write."""
    entries = []
    for number, image in enumerate(images):
        entry = dict(image.descriptor)
        if image.name:
            reference = parse(image.name)
            names = {"org.opencontainers.image.ref.name": reference.tag, "io.containerd.image.name": str(reference)}
            entry["annotations"] = {key: value for key, value in names.items() if value}
        if platforms:
            entry["platform"] = dict(platforms[number])
        entries.append(entry)
    return json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": entries}).encode()


def oci_files(*images: BuiltImage) -> dict[str, bytes]:
    """Return the files of an OCI image layout, by their paths."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index_of(*images)}
    for image in images:
        files |= {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in image.blobs.items()}
    return files


def oci_directory(path: Path, *images: BuiltImage) -> Path:
    """Write images as an OCI image layout; return the path."""
    for name, content in oci_files(*images).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def oci_archive(path: Path, *images: BuiltImage, compression: str = "") -> Path:
    """Write images as a tar file of an OCI image layout; return the path."""
    path.write_bytes(compressed(layer_of(oci_files(*images)), compression))
    return path


def docker_files(*images: BuiltImage) -> dict[str, bytes]:
    """Return the files of `docker save` before Docker 25: manifest.json, configurations, plain layers, repositories."""
    files: dict[str, bytes] = {}
    manifest, repositories = [], {}
    for image in images:
        config = f"{image.config.removeprefix('sha256:')}.json"
        files[config] = image.blobs[image.config]
        paths = []
        for digest, diff_id in zip(image.layers, image.diff_ids, strict=True):
            paths.append(f"{diff_id.removeprefix('sha256:')}/layer.tar")
            files[paths[-1]] = decompressed(image.blobs[digest])
        reference = parse(image.name) if image.name else None
        tags = [reference.familiar] if reference else None
        manifest.append({"Config": config, "RepoTags": tags, "Layers": paths})
        if reference:
            repositories.setdefault(reference.familiar_name, {})[reference.tag] = image.config[7:]
    return {**files, "manifest.json": json.dumps(manifest).encode(), "repositories": json.dumps(repositories).encode()}


def docker_archive(path: Path, *images: BuiltImage, compression: str = "") -> Path:
    """Write images as `docker save` did before Docker 25; return the path."""
    path.write_bytes(compressed(layer_of(docker_files(*images)), compression))
    return path


def decompressed(blob: bytes) -> bytes:
    """Return a layer's tar file."""
    if blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(blob)
    if blob.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "-d", "-c", "-q"], input=blob, capture_output=True, check=True).stdout
    return blob


# -- roots with programs -----------------------------------------------------------------------------------------------


def programs_root(path: Path, *programs: str) -> Path:
    """Fill a directory with programs of this machine and the libraries that they need; return it.

    There are also /etc/passwd, /etc/group, /tmp and the usual directories. A program is a name in $PATH or a path.
    """
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var/tmp"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for program in programs:
        found = shutil.which(program)
        assert found is not None, f"{program} is not on this machine"
        _copy(Path(found).resolve(), path / "bin" / Path(program).name)
        for library in _libraries(found):
            _copy(Path(library).resolve(), path / library.lstrip("/"))
    return path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(source, target)


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]


class NoPackages(Exception):
    """Debian packages are not available: there is no apt-get, or neither a network nor a cache."""


def debian_root(*packages: str, exactly: bool = False) -> Path:
    """Return a directory with Debian packages and their dependencies, unpacked but not configured.

    exactly: whether to leave out dependencies.

    The directory is kept and shared (`tests/downloads.py`): copy it before a change. Raises NoPackages.
    """
    cache = downloads()
    key = hashlib.sha256(" ".join([*sorted(packages), *["="] * exactly]).encode()).hexdigest()[:16]
    root = cache / f"debian-{key}"
    if root.is_dir():
        return root
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoPackages("apt-get or dpkg-deb is not installed")
    debs = cache / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    temporary = root.with_name(f"{root.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for package in sorted(packages) if exactly else _closure(packages):
        _unpack(_download(package, debs), temporary)
    for name in ("proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "etc"):
        (temporary / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (temporary / name).chmod(0o1777)
    if not (temporary / "etc/passwd").exists():
        base = temporary / "usr/share/base-passwd"
        for name in ("passwd", "group"):
            source = base / f"{name}.master"
            text = (
                source.read_text()
                if source.exists()
                else {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}[name]
            )
            (temporary / "etc" / name).write_text(text.replace("*", "x"))
    try:
        temporary.rename(root)
    except OSError:
        # Another process has made the directory meanwhile.
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _closure(packages: Sequence[str]) -> list[str]:
    """Return the packages and their dependencies (Depends, Pre-Depends), of alternatives only one."""
    command = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"]
    command += ["--no-replaces", "--no-enhances", *packages]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise NoPackages(f"apt-cache: {done.stderr.strip()}")
    names = (line for line in done.stdout.splitlines() if line and not line[0].isspace() and line[0] not in "<|")
    return sorted({name.strip() for name in names})


def _download(package: str, debs: Path) -> Path:
    """Return the package's file; another test process may download it at the same time."""
    found = sorted(debs.glob(f"{package.partition(':')[0]}_*.deb"))
    if found:
        return found[-1]
    work = debs / f"{package.replace(':', '_')}.{os.getpid()}"
    work.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["apt-get", "download", package], cwd=work, capture_output=True, text=True)
        made = list(work.glob("*.deb"))
        if done.returncode or not made:
            raise NoPackages(f"apt-get download {package}: {done.stderr.strip()}")
        return made[0].rename(debs / made[0].name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(deb: Path, root: Path) -> None:
    """Unpack a package; /bin, /lib ... lead to /usr, as in Debian 12."""
    for name in ("bin", "sbin", "lib", "lib64"):
        link = root / name
        if not link.is_symlink():
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"usr/{name}")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as source:
        # dpkg-deb -x would replace the links; --keep-directory-symlink does not.
        command = ["tar", "-x", "-f", "-", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
        done = subprocess.run(command, stdin=source.stdout, capture_output=True, text=True)
    if done.returncode or source.returncode:
        raise NoPackages(f"{deb.name} cannot be unpacked: {done.stderr.strip()}")
