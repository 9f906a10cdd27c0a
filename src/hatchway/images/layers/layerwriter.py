"""Writes the entries of one layer below one directory, and nowhere else.

Entries have the same effect as in Docker and containerd with overlay file systems (Moby `pkg/archive`, containerd
`archive/tar.go`, image-spec `layer.md`):

- Symbolic links in the path of an entry's parent are followed as if the layer's root were the root directory. A link of
  a lower layer is not followed: the layer gets a directory of its own there.
- An entry replaces an earlier entry of the layer with the same name, even a link; two directories are merged.
- A missing parent is created, with the attributes of the lower layers' directory at this path.
- Whiteouts become overlay's marks. They hide entries of lower layers, never entries of their own layer.
- A hard link may lead to a file of a lower layer. Both layers then share one file on disk; unpacked files never change.
- Devices are not created, as in every container engine without root; entries that they would replace are hidden.
- The root directory's own attributes are ignored.

Directories are created with mode 0700, and get their owners, modes and times at the end. No other process may change
the tree meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from hatchway import trees
from hatchway.images.layers.confinedopen import open_real_directory
from hatchway.images.layers.fileattributes import AttributeWriter
from hatchway.images.layers.layererrors import BadLayer, NoRoomForLayer, UnpackLimits
from hatchway.images.layers.layertar import EntryKind, LayerEntry, LayerTar
from hatchway.images.layers.layertree import (
    AUFS_PREFIX,
    OPAQUE_MARKER,
    WHITEOUT_PREFIX,
    Folder,
    KnownName,
    clean_name,
    hidden_name,
    shown,
    split_link,
)
from hatchway.images.layers.lowerlayers import LowerLayers, is_whiteout, make_opaque

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# As many links as the kernel follows in one path (MAXSYMLINKS).
_LINKS: Final = 40
_OPEN_FOLDERS: Final = 64
_RESOLVED_PATHS: Final = 4096
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Errors that come from this machine, not from the layer.
_OF_MACHINE: Final = frozenset({errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class LayerWriter:
    """Writes one layer. Call `write_all`, then `close` in any case.

    hides_all: whether the layer hides all lower layers, by an opaque whiteout in its root directory. An overlay file
    system cannot express that, so the lower layers must be left out of the overlay.
    """

    def __init__(self, root: int, lowers: LowerLayers, attributes: AttributeWriter, limits: UnpackLimits) -> None:
        """Write below the open, empty directory `root`. limits: `size` must not be 0."""
        self.hides_all = False
        self._root_descriptor = root
        self._lowers = lowers
        self._attributes = attributes
        self._limits = limits
        self._size = 0
        self._steps = 0
        self._root = Folder(b"", None)
        self._open_folders: OrderedDict[Folder, int] = OrderedDict()
        self._resolved: dict[tuple[bytes, ...], Folder] = {}

    def close(self) -> None:
        """Close all descriptors."""
        while self._open_folders:
            os.close(self._open_folders.popitem()[1])

    def write_all(self, tar: LayerTar) -> None:
        """Write all entries, then the attributes of directories. Raises BadLayer, NoRoomForLayer."""
        while (entry := tar.next_entry()) is not None:
            with _EntryErrors(entry.name):
                self._write(entry, tar)
        self._finish()

    def _write(self, entry: LayerEntry, tar: LayerTar) -> None:
        parts = clean_name(entry.name)
        if not parts:
            return
        if len(parts) > self._limits.depth:
            raise BadLayer(f"{shown(entry.name)}: the path has more than {self._limits.depth} components")
        name = parts[-1]
        if name.startswith(WHITEOUT_PREFIX):
            self._write_whiteout(parts[:-1], name)
            return
        if AUFS_PREFIX in entry.name and any(part.startswith(AUFS_PREFIX) for part in parts):
            return
        if entry.kind is EntryKind.HARD_LINK:
            self._write_hard_link(parts, entry)
            return
        if entry.kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
            # A whiteout in the form that overlay file systems use is a character device, too.
            self._hide(parts[:-1], name, replace=True)
            return
        folder = self._folder(parts[:-1])
        parent = self._open(folder)
        if entry.kind is EntryKind.FILE:
            self._write_file(folder, parent, name, entry, tar)
        elif entry.kind is EntryKind.DIRECTORY:
            self._write_directory(folder, parent, name, entry)
        elif entry.kind is EntryKind.SYMLINK:
            self._create_or_replace(folder, parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            folder.children[name] = KnownName.LINK
            self._attributes.set_by_name(parent, name, entry)
        else:
            self._create_or_replace(folder, parent, name, lambda: os.mkfifo(name, 0o600, dir_fd=parent))
            self._attributes.set_by_name(parent, name, entry)

    # Files and directories

    def _write_file(self, folder: Folder, parent: int, name: bytes, entry: LayerEntry, tar: LayerTar) -> None:
        self._size += entry.size
        if self._size > self._limits.size:
            raise self._limits.too_large()
        try:
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._remove(folder, parent, name)
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            if entry.pieces is None:
                while piece := tar.read_piece():
                    _write_whole(file, piece)
            else:
                _write_sparse(file, entry, tar)
            self._attributes.set_of_file(file, entry)
        finally:
            os.close(file)

    def _write_directory(self, folder: Folder, parent: int, name: bytes, entry: LayerEntry) -> None:
        known = folder.children.get(name)
        made = known if isinstance(known, Folder) else self._make(folder, parent, name)
        made.mode, made.mtime, made.owner = entry.mode, entry.mtime, (entry.uid, entry.gid)
        if entry.xattrs:
            self._attributes.set_xattrs(self._open(made), entry.xattrs)

    def _make(self, folder: Folder, parent: int, name: bytes) -> Folder:
        """Create a directory at a name where the layer has no directory."""
        if folder.depth >= self._limits.depth:
            raise BadLayer(f"the path has more than {self._limits.depth} components")
        replaced = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            self._remove(folder, parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
            replaced = True
        made = folder.children[name] = Folder(name, folder)
        if replaced and self._lowers:
            # The replaced entry hid the lower layers' entry of this name, so the new directory must hide it, too.
            make_opaque(self._open(made))
        return made

    def _write_hard_link(self, parts: tuple[bytes, ...], entry: LayerEntry) -> None:
        target = clean_name(entry.link)
        if not target:
            raise BadLayer(f"{shown(entry.name)}: a hard link to the root directory")
        source, source_name = self._find_link_target(entry, target)
        try:
            folder, name = self._folder(parts[:-1]), parts[-1]
            parent = self._open(folder)
            found = os.stat(source_name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) or is_whiteout(found):
                raise BadLayer(f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which is not a file")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), found):
                    return
            self._create_or_replace(
                folder, parent, name,
                lambda: os.link(source_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
            )  # fmt: skip
            if stat.S_ISLNK(found.st_mode):
                folder.children[name] = KnownName.LINK
        finally:
            os.close(source)

    def _find_link_target(self, entry: LayerEntry, target: tuple[bytes, ...]) -> tuple[int, bytes]:
        """Return a descriptor of the target's directory, which the caller closes, and the target's name in it."""
        if len(target) > self._limits.depth:
            raise self._missing_target(entry)
        folder = self._find(target[:-1])
        if folder is not None:
            directory = os.dup(self._open(folder))
            try:
                os.stat(target[-1], dir_fd=directory, follow_symlinks=False)
                return directory, target[-1]
            except FileNotFoundError:
                os.close(directory)
        path = b"/".join(target) if folder is None else folder.path_of(target[-1])
        found = self._lowers.find(path)
        if found is None:
            raise self._missing_target(entry)
        above, _, name = found.path.rpartition(b"/")
        return open_real_directory(found.layer, above), name

    def _missing_target(self, entry: LayerEntry) -> BadLayer:
        return BadLayer(f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which does not exist")

    # Whiteouts

    def _write_whiteout(self, parents: tuple[bytes, ...], name: bytes) -> None:
        if name == OPAQUE_MARKER:
            folder = self._folder(parents)
            if folder is self._root:
                self.hides_all = True
            elif self._lowers:
                make_opaque(self._open(folder))
            return
        if name.startswith(AUFS_PREFIX):
            return
        self._hide(parents, hidden_name(name), replace=False)

    def _hide(self, parents: tuple[bytes, ...], name: bytes, *, replace: bool) -> None:
        """Hide the lower layers' entry of a name. replace: True to remove this layer's own file there, too."""
        folder = self._find(parents)
        if folder is not None:
            parent = self._open(folder)
            if self._has(parent, name) and folder.children.get(name) is not KnownName.WHITEOUT:
                child = folder.children.get(name)
                if replace:
                    self._remove(folder, parent, name)
                else:
                    if isinstance(child, Folder) and self._lowers:
                        make_opaque(self._open(child))
                    return
        path = b"/".join((*parents, name)) if folder is None else folder.path_of(name)
        if self._lowers.find(path) is None:
            return
        folder = self._folder(parents)
        try:
            self._create_or_replace(
                folder, self._open(folder), name,
                lambda: os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._open(folder)),
            )  # fmt: skip
        except PermissionError as error:
            raise BadLayer("the system does not let this user make whiteouts (Linux 5.8 does)") from error
        folder.children[name] = KnownName.WHITEOUT

    # Paths

    def _folder(self, parts: tuple[bytes, ...]) -> Folder:
        """Return the directory at a path; create missing components."""
        known = self._resolved.get(parts)
        if known is None:
            known = self._resolve(parts, self._make_implied)
            assert known is not None
            if len(self._resolved) >= _RESOLVED_PATHS:
                self._resolved.clear()
            self._resolved[parts] = known
        return known

    def _find(self, parts: tuple[bytes, ...]) -> Folder | None:
        """Return the directory at a path; None when the layer does not have it."""
        return self._resolved.get(parts) or self._resolve(parts, lambda folder, name: None)

    def _resolve(self, parts: tuple[bytes, ...], missing: Callable[[Folder, bytes], Folder | None]) -> Folder | None:
        folder: Folder | None = self._root
        left = list(reversed(parts))
        links = 0
        while left and folder is not None:
            self._steps += 1
            if self._steps > self._limits.steps:
                raise BadLayer("its paths and links take too long to follow")
            name = left.pop()
            child = folder.children.get(name)
            if name == b"..":
                folder = folder.parent or folder
            elif isinstance(child, Folder):
                folder = child
            elif child is KnownName.LINK:
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(name, dir_fd=self._open(folder))
                folder = self._root if target.startswith(b"/") else folder
                left += split_link(target)
            else:
                folder = missing(folder, name)
        return folder

    def _make_implied(self, folder: Folder, name: bytes) -> Folder:
        """Create a directory for which the archive has no entry, with the attributes of the lower layers' directory."""
        parent = self._open(folder)
        if name not in folder.children and self._has(parent, name):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        hidden = folder.children.get(name) is KnownName.WHITEOUT
        made = self._make(folder, parent, name)
        like = None if hidden else self._lowers.find(made.path)
        if like is not None and like.is_directory:
            made.mode = stat.S_IMODE(like.status.st_mode)
            made.owner = (like.status.st_uid, like.status.st_gid)
            made.mtime = like.status.st_mtime_ns
            source = open_real_directory(like.layer, like.path)
            try:
                self._attributes.copy_xattrs(source, self._open(made))
            finally:
                os.close(source)
        return made

    def _open(self, folder: Folder) -> int:
        """Return a descriptor of a directory. It is cached: another call of this method may close it."""
        known = self._open_folders.get(folder)
        if known is not None:
            self._open_folders.move_to_end(folder)
            return known
        opened = open_real_directory(self._root_descriptor, folder.path)
        self._open_folders[folder] = opened
        if len(self._open_folders) > _OPEN_FOLDERS:
            os.close(self._open_folders.popitem(last=False)[1])
        return opened

    def _has(self, parent: int, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _create_or_replace(self, folder: Folder, parent: int, name: bytes, make: Callable[[], None]) -> None:
        """Create an entry by `make`; if its name is taken, remove the old entry and call `make` again."""
        try:
            make()
        except FileExistsError:
            self._remove(folder, parent, name)
            make()

    def _remove(self, folder: Folder, parent: int, name: bytes) -> None:
        """Remove the layer's own entry with a name."""
        child = folder.children.pop(name, None)
        if child is None or child is KnownName.WHITEOUT:
            os.unlink(name, dir_fd=parent)
            return
        # Resolved paths may lead through the removed entry.
        self._resolved.clear()
        if child is KnownName.LINK:
            os.unlink(name, dir_fd=parent)
            return
        for opened in [known for known in self._open_folders if known is not folder]:
            os.close(self._open_folders.pop(opened))
        trees.remove_tree(parent, os.fsdecode(name))

    # The end

    def _finish(self) -> None:
        """Set the owners, modes and times of all directories, the deepest first."""
        self.close()
        os.fchmod(self._root_descriptor, 0o755)
        stack = [(self._root, iter(list(self._root.children.values())))]
        while stack:
            folder, children = stack[-1]
            child = next(children, None)
            if isinstance(child, Folder):
                stack.append((child, iter(list(child.children.values()))))
            elif child is None:
                stack.pop()
                if folder is not self._root:
                    with _EntryErrors(folder.path):
                        directory = open_real_directory(self._root_descriptor, folder.path)
                        try:
                            self._attributes.set_of_folder(directory, folder)
                        finally:
                            os.close(directory)


def _write_whole(file: int, piece: memoryview) -> None:
    written = os.write(file, piece)
    while written < len(piece):
        written += os.write(file, piece[written:])


def _write_sparse(file: int, entry: LayerEntry, tar: LayerTar) -> None:
    """Write the pieces of a sparse file at their offsets; the rest stays a hole."""
    os.ftruncate(file, entry.size)
    rest = memoryview(b"")
    for offset, length in entry.pieces or ():
        while length:
            if not rest:
                rest = tar.read_piece()
            part, rest = rest[:length], rest[length:]
            os.lseek(file, offset, os.SEEK_SET)
            _write_whole(file, part)
            offset += len(part)
            length -= len(part)


class _EntryErrors(contextlib.AbstractContextManager[None]):
    """Converts OSError into errors that name the entry `name`."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno in _OF_MACHINE:
                return
            if error.errno in _FULL:
                raise NoRoomForLayer(error.strerror or str(error)) from error
            raise BadLayer(f"{shown(self._name)}: {error.strerror or error}") from error
