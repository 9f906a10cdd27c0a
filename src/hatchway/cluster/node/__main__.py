"""The node agent's process: `python -m hatchway.cluster.node [CONFIG]`, started inside the cluster's network.

CONFIG is the path of the file that `config.py` describes; without it HATCHWAY_NODE_CONFIG says where it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from hatchway.cluster import plan
from hatchway.cluster.network import agent as network
from hatchway.cluster.network.nodedirs import NodeDirectories, Part
from hatchway.cluster.node import agent
from hatchway.cluster.node.config import ENVIRONMENT, AgentConfig
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError


async def _run(config: AgentConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with network.open_runtime(_directories(config)) as runtime:
        runtime.closed.add_done_callback(lambda _: stop.set())
        await agent.run(config, runtime, stop)


def _directories(config: AgentConfig) -> NodeDirectories:
    """What the nodes' file systems are made of."""
    state = StateDir(Path(config.state_dir))
    parts = [
        Part(str(state.logs), plan.NODE_LOGS, read_only=True),
        Part(str(state.log_index), plan.NODE_LOG_INDEX),
        *(Part(path, path) for path in sorted(config.host_paths)),
    ]
    names = [node.name for node in config.nodes]
    return NodeDirectories(state.nodes, names, state.path / "network", parts, hidden=[state.path])


def main(arguments: list[str]) -> int:
    """Run the agent. Returns the process's exit code."""
    # What is private has its own mode; what containers write is theirs, and they inherit this.
    os.umask(0o022)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Each request of a client would be a line otherwise.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    path = arguments[0] if arguments else os.environ.pop(ENVIRONMENT, "")
    try:
        if not path:
            raise HatchwayError(f"the node agent needs the path of its configuration ({ENVIRONMENT})")
        config = AgentConfig.load(Path(path))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config))
    except HatchwayError as error:
        logging.getLogger("hatchway.cluster.node").error("%s", error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
