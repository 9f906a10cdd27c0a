"""Lays out the files of Python wheels for an image: all below one directory, for `PYTHONPATH`.

Wheels are unpacked by their specification (packaging.python.org, "Binary distribution format"): the content of
`.data/purelib` and `.data/platlib` goes beside the packages; scripts and console entry points go to a directory of
programs.
"""

from __future__ import annotations

import configparser
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from hatchway.images.building.layersources import LayerSource, text_source
from hatchway.images.contents import BadImage

# The directories of packages and programs below the wheels' directory.
SITE = "site"
PROGRAMS = "bin"
_FILE_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-(?P<platform>[^-]+)\.whl")
_PROGRAM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LARGEST_TEXT = 1 << 20
_SCRIPT = """#!{python}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attribute}())
"""


def find_wheels(paths: Sequence[Path]) -> list[Path]:
    """Return the wheel files in `paths`, which may be directories.

    Raises BadImage when there is no wheel, or more than one wheel of a project.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for wheel in sorted(path.glob("*.whl")) if path.is_dir() else [path]:
            match = _FILE_NAME.fullmatch(wheel.name)
            if match is None:
                raise BadImage(f"{wheel} is not a wheel; `pip wheel . --wheel-dir DIRECTORY` makes them")
            if not any(tag == "any" or "linux" in tag for tag in match["platform"].split(".")):
                raise BadImage(f"{wheel.name} is not made for Linux")
            project = re.sub(r"[-_.]+", "-", match["name"]).lower()
            if project in found:
                raise BadImage(f"there are two wheels of {project}: {found[project].name} and {wheel.name}")
            found[project] = wheel
    if not found:
        raise BadImage(f"there is no wheel in {', '.join(map(str, paths))}")
    return list(found.values())


def wheel_sources(wheels: Sequence[Path], python: str) -> list[LayerSource]:
    """Return the entries of a layer with these wheels: `site/`, and `bin/` with their programs.

    python: the interpreter of the programs: `python3`, which is looked up in $PATH, or a path.

    Raises:
        BadImage: a wheel is damaged, or two wheels have a file in common.
        OSError: a wheel cannot be read.
    """
    interpreter = python if python.startswith("/") else f"/usr/bin/env {python}"
    files: dict[str, LayerSource] = {}
    for wheel in wheels:
        for source in _wheel_sources(wheel, interpreter):
            if source.name in files:
                raise BadImage(f"{wheel.name} has a file that another wheel has, too: {source.name}")
            files[source.name] = source
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."} | {SITE, PROGRAMS}
    directories = [LayerSource(name, tarfile.DIRTYPE, 0o755) for name in folders]
    return sorted([*directories, *files.values()], key=lambda source: source.name.split("/"))


def _wheel_sources(wheel: Path, interpreter: str) -> Iterator[LayerSource]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield from _member_source(wheel, archive, member, interpreter)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadImage(f"{wheel} is damaged: {error}") from error


def _member_source(
    wheel: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, interpreter: str
) -> Iterator[LayerSource]:
    parts = member.filename.split("/")
    if member.filename.startswith("/") or not all(part not in ("", ".", "..") for part in parts):
        raise BadImage(f"{wheel.name} has a file outside itself: {member.filename!a}")
    kind = ""
    if parts[0].endswith(".data") and len(parts) > 2:
        kind, parts = parts[1], parts[2:]
        if kind in ("headers", "data"):
            return
        if kind not in ("purelib", "platlib", "scripts"):
            raise BadImage(f"{wheel.name} has files of an unknown kind: {kind!a}")
    mode = 0o755 if member.external_attr >> 16 & stat.S_IXUSR else 0o644
    if kind == "scripts":
        yield _script(archive, member, f"{PROGRAMS}/{'/'.join(parts)}", interpreter)
        return
    name = f"{SITE}/{'/'.join(parts)}"
    yield LayerSource(name, tarfile.REGTYPE, mode, size=member.file_size, open=_opener(wheel, member.filename))
    if len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] == "entry_points.txt":
        yield from _console_scripts(wheel, _text(archive, member), interpreter)


def _opener(wheel: Path, name: str) -> Callable[[], BinaryIO]:
    def open_member() -> BinaryIO:
        # The archive's file stays open until the member is closed.
        with zipfile.ZipFile(wheel) as archive:
            return archive.open(name)  # type: ignore[return-value]

    return open_member


def _script(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, interpreter: str) -> LayerSource:
    """Return a script; `#!python` stands for the interpreter."""
    text = _text(archive, member)
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"#!pythonw?\s*", first):
        text = f"#!{interpreter}\n{rest}"
    return text_source(name, text, 0o755)


def _text(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    if member.file_size > _LARGEST_TEXT:
        raise BadImage(f"{member.filename} of a wheel is larger than {_LARGEST_TEXT} bytes")
    try:
        return archive.read(member).decode()
    except UnicodeDecodeError as error:
        raise BadImage(f"{member.filename} of a wheel is not text: {error}") from error


def _console_scripts(wheel: Path, text: str, interpreter: str) -> Iterator[LayerSource]:
    """Yield a program for each console entry point, as installers write it."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise BadImage(f"{wheel.name}: entry_points.txt cannot be read: {error.message}") from error
    for name, value in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
        match = EntryPoint.pattern.match(value)
        if match is None or not match["attr"] or not _PROGRAM_NAME.fullmatch(name):
            raise BadImage(f"{wheel.name} has an entry point of an unknown form: {name!a} = {value!a}")
        attribute = match["attr"]
        script = _SCRIPT.format(
            python=interpreter, module=match["module"], first=attribute.partition(".")[0], attribute=attribute
        )
        yield text_source(f"{PROGRAMS}/{name}", script, 0o755)
