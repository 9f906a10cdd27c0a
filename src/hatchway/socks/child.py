"""Runs one command with the proxy in its environment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from hatchway.errors import HatchwayError


def proxy_environment(port: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which programs use the proxy at 127.0.0.1:`port` for all hosts except this machine.

    curl, Go, Python's requests and most programs read these variables. ALL_PROXY is for other protocols than HTTP.
    """
    found = dict(environment)
    http, socks = f"http://127.0.0.1:{port}", f"socks5h://127.0.0.1:{port}"
    values = {"HTTP_PROXY": http, "HTTPS_PROXY": http, "ALL_PROXY": socks, "NO_PROXY": "localhost,127.0.0.1,::1"}
    for name, value in values.items():
        found[name] = found[name.lower()] = value
    return found


async def run_child(command: Sequence[str], port: int) -> int:
    """Run a command to its end; return its exit code, or 128 plus the number of the signal that has ended it.

    Ctrl-C goes to the command, as to every process of the terminal; SIGTERM and SIGHUP are passed on.

    Raises:
        HatchwayError: the command cannot be run.
    """
    loop = asyncio.get_running_loop()
    try:
        process = await asyncio.create_subprocess_exec(*command, env=proxy_environment(port, os.environ))
    except FileNotFoundError as error:
        raise HatchwayError(f'there is no command "{command[0]}"') from error
    except OSError as error:
        raise HatchwayError(f"cannot run {command[0]}: {error.strerror}") from error

    def pass_on(number: signal.Signals) -> None:
        if process.returncode is None:
            process.send_signal(number)

    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, pass_on, number)
    code = await process.wait()
    return code if code >= 0 else 128 - code
