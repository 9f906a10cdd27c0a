"""Unpacked layers of images: directories from which containers' file systems are made.

    layers = LayerStore(store_path, "mapped")
    directories = layers.directories(image) or await layers.unpack(image)

Each kind of user map has its own directories, because the owners of the files depend on the user map.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Final

from hatchway.images.contents import BadImage, Image
from hatchway.images.layers.layererrors import BadLayer, NoRoomForLayer, UnpackLimits, limits_of_environment
from hatchway.images.layers.layerunpacking import PackedLayer
from hatchway.images.layers.unpack import UnpackAnswer, UnpackRequest, decode_answer
from hatchway.images.store.layerplaces import FILES, LayerPlaces, UsersWay, chain_ids

# Seconds that a process has, after SIGTERM, to remove its incomplete layer.
_STOP_SECONDS: Final = 30.0


class LayerStore:
    """The layers that were unpacked for one kind of user map."""

    def __init__(self, path: Path, users: UsersWay, limits: UnpackLimits | None = None) -> None:
        """Use the image store at `path`.

        users: the cluster's kind of user map, which decides who owns the files. limits: None reads them from the
            environment.
        """
        self._path = path
        self._users = users
        self._limits = limits
        self._places = LayerPlaces(path, users)
        self._syncing: set[asyncio.Task[None]] = set()
        self._held = -1
        self._holding = threading.Lock()

    def _hold(self) -> None:
        with self._holding:
            if self._held < 0:
                self._held = self._places.hold()

    def directories(self, image: Image) -> tuple[str, ...] | None:
        """Return the directories of an image's layers, the topmost first; None when they are not all unpacked.

        The result is also None until each layer of the image was verified to have the content that the configuration
        names. Otherwise an image could claim layers of another image without having their content.

        Layers that are completely hidden by higher layers are left out. Mark the image as used first
        (`ImageStore.use`): otherwise its layers may be removed at any time. Raises BadImage.
        """
        chain = chain_ids(image.config.diff_ids)
        if len(image.layers) != len(chain) or not self._places.path.is_dir():
            return None if chain else ()
        self._hold()
        found: list[str] = []
        is_hidden = False
        for layer, chain_id in zip(reversed(image.layers), reversed(chain), strict=True):
            place = self._places.place(chain_id)
            mark = self._places.read_mark(place)
            if mark is None or layer.digest not in mark.blobs:
                return None
            if not is_hidden:
                found.append(str(place / FILES))
            is_hidden = is_hidden or mark.hides_all
        return tuple(found)

    async def unpack(self, image: Image) -> tuple[str, ...]:
        """Unpack the layers that are not unpacked yet; return the same as `directories`.

        While another process unpacks one of the layers, this method waits. After an error or a cancellation, no
        incomplete layer is left.

        Raises:
            BadImage: a layer is malformed, exceeds a limit, or is not what the configuration says.
            NoRoomForLayer: the disk is full.
        """
        if len(image.layers) != len(image.config.diff_ids):
            raise BadImage("the image's manifest and its configuration have different numbers of layers")
        pairs = zip(image.layers, image.config.diff_ids, strict=True)
        request = UnpackRequest(
            store=str(self._path),
            users=self._users,
            layers=tuple(PackedLayer(layer.digest, diff_id) for layer, diff_id in pairs),
            limits=self._limits or limits_of_environment(os.environ),
            parent=os.getpid(),
        )
        await asyncio.to_thread(self._hold)
        answer = await self._ask(request)
        if answer.error:
            raise (NoRoomForLayer if answer.is_full else BadLayer)(answer.error)
        found = self.directories(image)
        if found is None:
            raise BadImage("the image's layers were removed while they were unpacked")
        return found

    async def close(self) -> None:
        """Wait until all unpacked layers are synced to disk. Layers must not be used after this call."""
        await asyncio.gather(*self._syncing)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def _ask(self, request: UnpackRequest) -> UnpackAnswer:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hatchway.images.layers.unpack",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(request.encode())
            process.stdin.close()
            line = await process.stdout.readline()
        except BaseException:
            await _stop(process)
            raise
        # The process still syncs the layers to disk; the caller need not wait for that.
        task = asyncio.create_task(_wait(process))
        self._syncing.add(task)
        task.add_done_callback(self._syncing.discard)
        if not line:
            raise BadImage("the process that unpacks images has ended unexpectedly; its log says why")
        return decode_answer(line)


async def _wait(process: asyncio.subprocess.Process) -> None:
    await process.wait()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop a process: by SIGTERM, so that it removes its incomplete layer; after `_STOP_SECONDS`, by SIGKILL."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
