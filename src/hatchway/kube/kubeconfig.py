"""Writing kubeconfig files as `kind` does: merge, make current, restore; never damage a file that does not parse.

What a context of them means for a client stands in `kube/settings.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hatchway.errors import HatchwayError
from hatchway.files import write_private

Document = dict[str, Any]

_LOCK_SECONDS = 10.0
_PATHS = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})
_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}


class _Loader(yaml.SafeLoader):
    """YAML without time stamps: an `expiry` written without quotes must come back as it was."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """YAML that Go's parser reads as the same: it takes `1e3` for a number and `y` for true, which Python's does not."""


def _quoted(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _quoted)
# What no parser takes for anything but a string.
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+=@-]*(?:://[A-Za-z0-9_./:@-]+)?")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


@dataclass(frozen=True, slots=True)
class Entry:
    """One cluster's part of a kubeconfig file: cluster, user and context all bear `name`."""

    name: str
    server: str
    ca_data: str
    client_certificate_data: str
    client_key_data: str


def default_path(explicit: str | None = None) -> Path:
    """The file to write: `explicit`, else the first of $KUBECONFIG that exists (the last when none does), else
    ~/.kube/config (kind's `kubeconfig/internal/kubeconfig/paths.go`)."""
    if explicit:
        return Path(explicit).expanduser().absolute()
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    for path in listed:
        if path.exists():
            return path.absolute()
    return listed[-1].absolute() if listed else Path("~/.kube/config").expanduser()


def check(path: Path) -> None:
    """Raise HatchwayError when the file could not be merged into: it is none, or may not be written."""
    with _locked(path):
        _load(path)


def sources(explicit: str | None = None) -> list[Path]:
    """The files that `read` goes by, existing or not: `explicit`, else those of $KUBECONFIG, else ~/.kube/config."""
    if explicit:
        return [Path(explicit).expanduser()]
    listed = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [Path(part) for part in listed if part] or [Path("~/.kube/config").expanduser()]


def read(explicit: str | None = None) -> Document:
    """What kubectl would go by: `explicit`, else all files of $KUBECONFIG merged (the first to say a thing wins), else
    ~/.kube/config; files that a list names and that do not exist are passed over. Relative paths are made absolute.

    Raises HatchwayError when there is no file, or one cannot be read.
    """
    paths = sources(explicit)
    found = [path for path in paths if path.exists()]
    if not found:
        names = " or ".join(map(str, paths))
        raise HatchwayError(
            f"no cluster to talk to: there is no kubeconfig {names}", "`hatchway up` starts a cluster and writes one"
        )
    merged: Document = {section: [] for section in _LISTS}
    for path in found:
        document = _load(path, changed="")
        for section in _LISTS:
            known = {item.get("name") for item in merged[section]}
            for item in document.get(section) or []:
                if item.get("name") not in known:
                    merged[section].append(_absolute(item, path.absolute().parent))
        if not merged.get("current-context"):
            merged["current-context"] = document.get("current-context") or ""
    return merged


def _absolute(item: Document, directory: Path) -> Document:
    """The entry with its relative paths taken from the directory of the file that holds it."""
    out = {}
    for key, value in item.items():
        if isinstance(value, dict):
            value = {
                name: str(directory / content) if name in _PATHS and isinstance(content, str) and content else content
                for name, content in value.items()
            }
            plugin = value.get("exec")
            # A command with a slash belongs to the file's directory, one without is looked for in $PATH (client-go).
            if isinstance(plugin, dict) and os.sep in str(plugin.get("command") or ""):
                value["exec"] = {**plugin, "command": str(directory / plugin["command"])}
        out[key] = value
    return out


def merge(path: Path, entry: Entry) -> str:
    """Add or replace the entry and make it current. Returns the context that was current before ("" for none)."""
    with _locked(path):
        document = _load(path)
        before = str(document.get("current-context") or "")
        contents: dict[str, Document] = {
            "clusters": {"certificate-authority-data": entry.ca_data, "server": entry.server},
            "users": {
                "client-certificate-data": entry.client_certificate_data,
                "client-key-data": entry.client_key_data,
            },
            "contexts": {"cluster": entry.name, "user": entry.name},
        }
        for section, content in contents.items():
            others = [item for item in document.get(section) or [] if item.get("name") != entry.name]
            document[section] = [*others, {"name": entry.name, _LISTS[section]: content}]
        document["current-context"] = entry.name
        document.setdefault("apiVersion", "v1")
        document.setdefault("kind", "Config")
        document.setdefault("preferences", {})
        _store(path, document)
    return before


def remove(path: Path, name: str, restore: str = "") -> None:
    """Take the entry out again; when it is current, `restore` becomes current if that context still exists."""
    if not path.exists():
        return
    with _locked(path):
        document = _load(path)
        for section in _LISTS:
            if document.get(section):
                document[section] = [item for item in document[section] if item.get("name") != name]
        if document.get("current-context") == name:
            known = {item.get("name") for item in document.get("contexts") or []}
            document["current-context"] = restore if restore in known else ""
        _store(path, document)


def _load(path: Path, changed: str = "; nothing was changed") -> Document:
    hint = "mend or move the file, or choose another one with --kubeconfig"
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise HatchwayError(f"cannot read the kubeconfig {path}: {error}", hint) from error
    try:
        document = yaml.load(text, _Loader) or {}
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise HatchwayError(f"the kubeconfig {path} is not valid YAML{line}{changed}", hint) from error
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise HatchwayError(f"{path} is not a kubeconfig{changed}", hint)
    for section in _LISTS:
        items = document.get(section) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise HatchwayError(f"{path} is not a kubeconfig: {section} is not a list{changed}", hint)
    return document


def _store(path: Path, document: Document) -> None:
    try:
        # A symbolic link stays one: what it points to is replaced.
        write_private(path.resolve(), yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10**6).encode())
    except OSError as error:
        raise HatchwayError(f"cannot write the kubeconfig {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """client-go's lock: the file PATH.lock, made exclusively; kubectl and kind respect it too."""
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
                break
            except FileExistsError:
                if time.monotonic() > deadline:
                    raise HatchwayError(
                        f"another program has locked the kubeconfig {path}", f"when none is running, remove {lock}"
                    ) from None
                time.sleep(0.05)
    except OSError as error:
        raise HatchwayError(f"cannot write the kubeconfig {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
