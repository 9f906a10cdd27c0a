"""The options of `hatchway up`: checks their values, and writes them to the cluster's configuration."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from hatchway.cluster import plan
from hatchway.cluster.network.egress import tools
from hatchway.cluster.state import ClusterConfig, StateDir
from hatchway.errors import HatchwayError


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `hatchway up`, with the meaning that they have in `ClusterConfig`.

    None keeps the cluster's setting (for a new cluster, the default).
    """

    api_port: int | None = None
    workers: int | None = None
    addons: list[str] | None = None
    network: str | None = None
    rewrite: str | None = None
    host_paths: list[str] | None = None
    publish: list[str] | None = None
    host_programs: bool | None = None
    image_store: str | None = None
    egress: str | None = None
    egress_to_host: bool | None = None
    ephemeral: bool = False

    def differing(self, config: ClusterConfig) -> list[str]:
        """Return the options whose values differ from the cluster's configuration."""
        asked = {
            "api_port": self.api_port or None,
            "workers": self.workers,
            "addons": self.addons,
            "network": self.network,
            "rewrite": self.rewrite,
            "host_paths": self.host_paths,
            "publish": self.publish,
            "host_programs": self.host_programs,
            "egress": self.egress,
            "egress_to_host": self.egress_to_host,
            # There is no option for the contrary, so False means that the option was not given.
            "ephemeral": self.ephemeral or None,
        }
        own_names = {"workers": "--nodes", "host_paths": "--host-path"}
        names = {key: f"--{key.replace('_', '-')}" for key in asked} | own_names
        return [names[key] for key, value in asked.items() if value is not None and value != getattr(config, key)]


# The options that a cluster keeps when it is started again without them.
_KEPT = (
    "api_port",
    "workers",
    "addons",
    "network",
    "rewrite",
    "host_paths",
    "publish",
    "host_programs",
    "image_store",
    "egress",
    "egress_to_host",
)


def check_host_paths(state: StateDir, given: list[str]) -> list[str]:
    """Check the values of --host-path; return them as absolute paths. Raises HatchwayError.

    "none" removes earlier directories; a directory of this name is written `./none`.
    """
    if "none" in given:
        if len(given) > 1:
            raise HatchwayError("--host-path none excludes other directories", "`./none` is a directory of this name")
        return []
    found = []
    for text in given:
        if not text:
            # Its absolute path would be the current directory.
            raise HatchwayError('--host-path "": not a directory', "is a shell variable not set?")
        path = Path(os.path.abspath(Path(text).expanduser()))
        if not path.is_dir():
            raise HatchwayError(f"--host-path {text}: there is no such directory")
        if path == Path("/"):
            raise HatchwayError(
                "--host-path / would give every pod all of this machine", "name the directories that pods need"
            )
        if path.resolve().is_relative_to(state.path.resolve()):
            raise HatchwayError(f"--host-path {text}: the cluster keeps its keys there", "choose another one")
        found.append(str(path))
    return sorted(set(found))


def check_publish(given: list[str]) -> list[str]:
    """Check the values of --publish; return them sorted. Raises HatchwayError.

    127.0.0.1 is left out, because it is always published. "none" removes earlier addresses.
    """
    if "none" in given:
        if len(given) > 1:
            raise HatchwayError("--publish none excludes other addresses")
        return []
    found = set()
    for text in given:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            raise HatchwayError(f"--publish {text}: not an IPv4 address", "`ip address` lists this machine's") from None
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.bind((text, 0))
        except OSError as error:
            why = error.strerror or str(error)
            raise HatchwayError(f"--publish {text}: {why}", "`ip address` lists this machine's addresses") from error
        found.add(str(address))
    return sorted(found - {plan.HOST_IP})


def configure(state: StateDir, options: Options) -> ClusterConfig:
    """Make the state directory and write the configuration that the control plane starts with.

    Raises HatchwayError, and changes no configuration, when the requested port is taken, when the requested program for
    --egress is not installed or cannot work, or when an ephemeral cluster would replace the state of a cluster that is
    not ephemeral.
    """
    if options.api_port:
        _check_port(options.api_port)
    known = state.load_config()
    _check_egress(options, known)
    state.create()
    if options.ephemeral and known is not None and not known.ephemeral:
        raise HatchwayError(
            f'cluster "{state.path.name}" has state that was kept in {state.path}',
            "choose another --name for a cluster that keeps nothing",
        )
    config = known or ClusterConfig(name=state.path.name)
    asked = {key: value for key in _KEPT if (value := getattr(options, key)) is not None}
    config = replace(config, **asked, ephemeral=options.ephemeral)
    state.save_config(config)
    return config


def _check_egress(options: Options, known: ClusterConfig | None) -> None:
    """Raise HatchwayError when the program that the options name cannot be used. known: the cluster's settings."""
    if options.egress is None:
        return
    network = options.network or (known.network if known is not None else "")
    # On loopback pods use this machine's network, and need no program.
    (tools.choose if network == "loopback" else tools.check)(options.egress)


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise HatchwayError(
            f"cannot listen on 127.0.0.1:{port}: {why}", "`hatchway up --api-port 0` picks a free port"
        ) from error
