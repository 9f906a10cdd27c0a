"""Reads kubeconfig files for all commands, and merges entries into them or removes entries, as `kind` does.

Everything else in a file stays as it is, and a file that kubectl would refuse is not changed. `kube/contexts.py` turns
contexts into settings.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, SequenceNode

from hatchway.errors import HatchwayError
from hatchway.files import NO_ROOM, write_private
from hatchway.kube import configtypes, goyaml

Kubeconfig = dict[str, Any]

# Under this key, `read` adds the Path of an entry's file to each entry.
ORIGIN = "location-of-origin"

_LOCK_SECONDS = 10.0
_PATHS = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})
_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_HINT = "correct or move the file, or choose another one with --kubeconfig"
_UNCHANGED = "; nothing was changed"


@dataclass(frozen=True, slots=True)
class KubeconfigEntry:
    """One cluster's part of a kubeconfig file: cluster, user and context, all called `name`."""

    name: str
    server: str
    ca_data: str
    client_certificate_data: str
    client_key_data: str


def default_path(explicit: str | None = None) -> Path:
    """Return the file to write: `explicit`, else one of the files in $KUBECONFIG, else ~/.kube/config.

    From $KUBECONFIG, the first file that exists is used, or the last file if none exists
    (kind's `kubeconfig/internal/kubeconfig/paths.go`).
    """
    if explicit:
        return Path(explicit).expanduser().absolute()
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    for path in listed:
        if path.exists():
            return path.absolute()
    return listed[-1].absolute() if listed else Path("~/.kube/config").expanduser()


def check(path: Path) -> None:
    """Check that entries can be merged into a file. Raises HatchwayError if it is no kubeconfig or not writable."""
    with _locked(path):
        _load(path, _UNCHANGED)


def sources(explicit: str | None = None) -> list[Path]:
    """Return the files that `read` reads: `explicit`, else those in $KUBECONFIG, else ~/.kube/config.

    They need not exist.
    """
    if explicit:
        return [Path(explicit).expanduser()]
    listed = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [Path(part) for part in dict.fromkeys(listed) if part] or [Path("~/.kube/config").expanduser()]


def read(explicit: str | None = None) -> Kubeconfig:
    """Return the kubeconfig as kubectl reads it, with relative paths made absolute.

    This is the file `explicit`, else all files of $KUBECONFIG merged (the first value wins), else ~/.kube/config.
    Missing files of $KUBECONFIG are skipped.

    Raises:
        HatchwayError: there is no file, or a file cannot be read.
    """
    paths = sources(explicit)
    found = [path for path in paths if path.exists()]
    if not found:
        names = " or ".join(map(str, paths))
        raise HatchwayError(
            f"no cluster to talk to: there is no kubeconfig {names}", "`hatchway up` starts a cluster and writes one"
        )
    merged: Kubeconfig = {section: [] for section in _LISTS}
    for path in found:
        document = _load(path)[1]
        for section in _LISTS:
            known = {item.get("name", "") for item in merged[section]}
            for item in document.get(section, ()):
                if item.get("name", "") not in known:
                    merged[section].append({"name": "", **_absolute(item, path.absolute().parent), ORIGIN: path})
        if not merged.get("current-context"):
            merged["current-context"] = document.get("current-context") or ""
    return merged


def _absolute(item: Kubeconfig, directory: Path) -> Kubeconfig:
    """Return the entry with its relative paths made absolute, from the directory of its file."""
    out = {}
    for key, value in item.items():
        if isinstance(value, dict):
            value = {
                name: str(directory / content) if name in _PATHS and isinstance(content, str) and content else content
                for name, content in value.items()
            }
            plugin = value.get("exec")
            # A command with a slash is relative to the file's directory; other commands are searched in $PATH
            # (client-go).
            if isinstance(plugin, dict) and os.sep in str(plugin.get("command") or ""):
                value["exec"] = {**plugin, "command": str(directory / plugin["command"])}
        out[key] = value
    return out


def merge(path: Path, entry: KubeconfigEntry) -> str:
    """Add or replace the entry, and make its context current. Return the former current context ("" for none)."""
    with _locked(path):
        tree, document = _load(path, _UNCHANGED)
        root = _root(tree)
        contents: dict[str, Kubeconfig] = {
            "clusters": {"certificate-authority-data": entry.ca_data, "server": entry.server},
            "users": {
                "client-certificate-data": entry.client_certificate_data,
                "client-key-data": entry.client_key_data,
            },
            "contexts": {"cluster": entry.name, "user": entry.name},
        }
        for section, content in contents.items():
            ours = goyaml.node_of({"name": entry.name, _LISTS[section]: content})
            others = [item for item in _items(root, section) if _name(item) != entry.name]
            _set_items(root, section, [*others, ours])
        goyaml.put(root, "current-context", goyaml.node_of(entry.name))
        for key, word in {"apiVersion": "v1", "kind": "Config"}.items():
            if not document.get(key):
                goyaml.put(root, key, goyaml.node_of(word))
        _store(path, tree)
    return str(document.get("current-context", ""))


def remove(path: Path, name: str, restore: str = "") -> None:
    """Remove the entry. If its context was current, make the context `restore` current if that still exists."""
    if not path.exists():
        return
    with _locked(path):
        tree, document = _load(path, _UNCHANGED)
        root = _root(tree)
        for section in _LISTS:
            if any(item.get("name") == name for item in document.get(section, ())):
                others = [item for item in _items(root, section) if _name(item) != name]
                _set_items(root, section, others)
        if document.get("current-context") == name:
            known = {item.get("name", "") for item in document.get("contexts", ())} - {name}
            goyaml.put(root, "current-context", goyaml.node_of(restore if restore in known else ""))
        _store(path, tree)


def update_auth_provider(path: Path, user: str, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
    """Change the `auth-provider` configuration of a user in a kubeconfig file; return the new configuration.

    Args:
        change: a function that gets the configuration in the file and returns the new configuration.

    Raises:
        HatchwayError: the file cannot be read or written.
    """
    with _locked(path):
        tree, _ = _load(path, _UNCHANGED)
        for item in _items(_root(tree), "users"):
            if isinstance(item, MappingNode) and _name(item) == user:
                break
        else:
            raise HatchwayError(f'the kubeconfig {path} has no user "{user}" any more')
        said = goyaml.value(item)
        provider = dict((said.get("user") or {}).get("auth-provider") or {})
        before = {key: value or "" for key, value in (provider.get("config") or {}).items()}
        config = change(before)
        if config != before:
            content = goyaml.put_mapping(item, "user", said)
            goyaml.put(goyaml.put_mapping(content, "auth-provider", said["user"]), "config", goyaml.node_of(config))
            _store(path, tree)
        return config


def _root(tree: goyaml.Document) -> MappingNode:
    """Return the root mapping of a file; make one for an empty file."""
    if not isinstance(tree.root, MappingNode):
        root = goyaml.node_of({})
        assert isinstance(root, MappingNode)
        tree.root = root
    return tree.root


def _items(root: MappingNode, section: str) -> list[Node]:
    found = goyaml.get(root, section)
    return list(found.value) if isinstance(found, SequenceNode) else []


def _name(item: Node) -> str:
    found = (goyaml.value(item) or {}).get("name") or ""
    assert isinstance(found, str)
    return found


def _set_items(root: MappingNode, section: str, items: list[Node]) -> None:
    made = goyaml.node_of([])
    made.value = items
    goyaml.put(root, section, made)


def _load(path: Path, changed: str = "") -> tuple[goyaml.Document, Kubeconfig]:
    """Return a file's tree and its value; both are empty when there is no file.

    changed: text to append to an error message, such as `_UNCHANGED`.
    Raises HatchwayError for a file that kubectl refuses.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return goyaml.Document(None), {}
    except OSError as error:
        raise HatchwayError(f"cannot read the kubeconfig {path}: {error.strerror}", _HINT) from error
    try:
        tree = goyaml.parse(data)
        document = configtypes.check(goyaml.value(tree.root))
    except goyaml.YamlError as error:
        raise HatchwayError(f"the kubeconfig {path} is not valid YAML: {error}{changed}", _HINT) from error
    except configtypes.TypeProblem as error:
        raise HatchwayError(f"{path} is not a kubeconfig: {error}{changed}", _HINT) from error
    return tree, document


def _store(path: Path, tree: goyaml.Document) -> None:
    try:
        # If the path is a symbolic link, replace the file to which it points, not the link.
        write_private(path.resolve(), goyaml.dump(tree))
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> HatchwayError:
    hint = "free some space there" if error.errno in NO_ROOM else "`ls -ld` shows whose it is"
    return HatchwayError(f"cannot write the kubeconfig {path}: {error.strerror}", hint)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold client-go's lock, the file PATH.lock, which kubectl and kind respect, too."""
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
        raise _cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
