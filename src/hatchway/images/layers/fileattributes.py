"""Sets owners, modes, times and extended attributes of unpacked files."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from hatchway.images.layers.layererrors import BadLayer
from hatchway.images.layers.layertar import EntryKind, LayerEntry
from hatchway.images.layers.layertree import Folder, shown

# Attributes that a layer may set. Other attributes belong to the system (`trusted.`, the rest of `security.`), or would
# control the overlay file system (`user.overlay.`).
_CAPABILITY: Final = b"security.capability"
_USER: Final = b"user."
_OVERLAY: Final = b"user.overlay."
# Errors that are ignored: the file system has no such attributes, or this process may not set them.
_UNSUPPORTED: Final = frozenset({errno.ENOTSUP, errno.EPERM})


class AttributeWriter:
    """Sets attributes of files.

    keeps_owners: True to give files the owners that are in the archive; False to leave all files to this process's
    user.
    """

    def __init__(self, *, keeps_owners: bool) -> None:
        self.keeps_owners = keeps_owners
        self._own = (os.geteuid(), os.getegid())

    def set_of_file(self, file: int, entry: LayerEntry) -> None:
        """Set the attributes of an open file that this process has made. Raises OSError, BadLayer."""
        # Set the owner first: changing it removes setuid bits and capabilities.
        self._set_owner(file, (entry.uid, entry.gid))
        if entry.xattrs:
            self.set_xattrs(file, entry.xattrs)
        if entry.mode != 0o600:
            os.fchmod(file, entry.mode)
        os.utime(file, ns=(entry.mtime, entry.mtime))

    def set_by_name(self, parent: int, name: bytes, entry: LayerEntry) -> None:
        """Set the attributes of a symbolic link or a fifo. Raises OSError, BadLayer."""
        owner = (entry.uid, entry.gid)
        if self.keeps_owners and owner != self._own:
            try:
                os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                raise _not_mapped(error, owner) from error
        if entry.kind is EntryKind.FIFO:
            # The name cannot have been replaced: no other process may change the tree.
            os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def set_of_folder(self, directory: int, folder: Folder) -> None:
        """Set the attributes of an open directory. Raises OSError, BadLayer."""
        if folder.owner is not None:
            self._set_owner(directory, folder.owner)
        os.fchmod(directory, folder.mode)
        if folder.mtime is not None:
            os.utime(directory, ns=(folder.mtime, folder.mtime))

    def set_xattrs(self, file: int, xattrs: dict[bytes, bytes]) -> None:
        """Set the extended attributes of an open file or directory, if a layer may set them. Raises OSError."""
        for name, value in xattrs.items():
            if name != _CAPABILITY and (not name.startswith(_USER) or name.startswith(_OVERLAY)):
                continue
            if name == _CAPABILITY and not stat.S_ISREG(os.fstat(file).st_mode):
                continue
            try:
                os.setxattr(file, name, _of_any_namespace(value) if name == _CAPABILITY else value)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    # Most file systems report an attribute that is too large by this error.
                    raise BadLayer(f"there is no room for the extended attribute {shown(name)}") from error
                if error.errno not in _UNSUPPORTED:
                    raise

    def copy_xattrs(self, source: int, target: int) -> None:
        """Copy the extended attributes that a layer may set, from one open directory to another. Raises OSError."""
        try:
            names = [os.fsencode(name) for name in os.listxattr(source)]
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return
            raise
        kept = [name for name in names if name.startswith(_USER) and not name.startswith(_OVERLAY)]
        self.set_xattrs(target, {name: os.getxattr(source, name) for name in kept})

    def _set_owner(self, file: int, owner: tuple[int, int]) -> None:
        if self.keeps_owners and owner != self._own:
            try:
                os.chown(file, *owner)
            except OSError as error:
                raise _not_mapped(error, owner) from error


def _of_any_namespace(capability: bytes) -> bytes:
    """Return a file's capabilities without the user namespace in which they are valid (capabilities(7), version 3).

    That namespace belonged to the machine on which the image was built. The kernel stores this process's
    user namespace instead.
    """
    if len(capability) == 24 and capability[3] == 3:
        return capability[:3] + b"\x02" + capability[4:20]
    return capability


def _not_mapped(error: OSError, owner: tuple[int, int]) -> OSError:
    """Return an error that names the owner, if the user namespace does not have the owner's number; else `error`."""
    if error.errno not in (errno.EINVAL, errno.EPERM):
        return error
    reason = f"its owner {owner[0]}:{owner[1]} is not among the users and groups that this cluster may use"
    return OSError(error.errno, reason)
