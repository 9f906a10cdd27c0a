"""Settings of registries: mirrors, plain HTTP, certificates. They come from `registries.toml` and from options.

docs/images.md describes the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hatchway.errors import HatchwayError
from hatchway.images.reference import DEFAULT_REGISTRY, is_registry, is_repository

# The host that serves the images of docker.io.
HUB_HOST = "registry-1.docker.io"
VARIABLE = "HATCHWAY_REGISTRIES"
_LARGEST = 1 << 20
_HINT = "docs/images.md describes the file"
_KEYS = {
    "mirrors": list,
    "insecure": bool,
    "ca-file": str,
    "client-certificate-file": str,
    "client-key-file": str,
    "redirects-to": list,
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; "" for none. ca: trusted besides the system's CAs. certificate, key: of this client."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The file's settings for one host.

    mirrors: URLs or hosts that are tried first, in this order. insecure: True to accept any certificate, and to use
    plain HTTP when the host has no TLS. redirects_to: hosts with local or private addresses that the registry
    may name in redirects and as its token server, as HOST[:PORT].
    """

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    files: TlsFiles = TlsFiles()
    redirects_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryServer:
    """A server that serves the images of a registry.

    name: host and port as in names of images, without a path; it selects the credentials.
    authority: host and port to connect to. prefix: a path before the repository's name; "" or `team/`.
    schemes: URL schemes to try, in this order. verify: True when the certificate must be valid.
    mirror_of: the registry whose mirror it is; "" for the registry itself.
    """

    name: str
    authority: str
    prefix: str = ""
    schemes: tuple[str, ...] = ("https",)
    verify: bool = True
    mirror_of: str = ""

    @property
    def shown(self) -> str:
        """Return the server in the form that messages use."""
        return f"{self.authority}/{self.prefix}".rstrip("/")


class Registries:
    """The settings of all registries.

    settings: settings by host, as in names of images (`docker.io`, `registry.local:5000`). ca: the path of a PEM file
    with CAs that are trusted for every host, besides the system's; "" for none.
    """

    def __init__(self, settings: Mapping[str, RegistrySettings] | None = None, ca: str = "") -> None:
        self._settings = dict(settings or {})
        self._ca = ca

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        insecure: Iterable[str] = (),
        mirrors: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Registries:
        """Return the settings of the file and of options.

        Args:
            path: the file; None for $HATCHWAY_REGISTRIES, else `registries.toml` below $XDG_CONFIG_HOME/hatchway.
            insecure: further hosts without TLS, or without a valid certificate.
            mirrors: `REGISTRY=URL`, tried before the mirrors of the file.

        Raises:
            HatchwayError: the file or an option cannot be used. Only the default file may be absent.
        """
        environment = os.environ if environment is None else environment
        named = str(path) if path is not None else environment.get(VARIABLE, "")
        found = _read(Path(named) if named else default_path(environment), must_exist=bool(named))
        settings = found._settings
        for host in insecure:
            host = _registry(host, "--insecure-registry")
            settings[host] = replace(settings.get(host, RegistrySettings()), insecure=True)
        first: dict[str, tuple[str, ...]] = {}
        for text in mirrors:
            host, equals, url = text.partition("=")
            if not equals or not url:
                raise HatchwayError(f'"{text}" is not a mirror', "write --registry-mirror docker.io=https://HOST")
            host = _registry(host, "--registry-mirror")
            _endpoint(url, host)
            first[host] = (*first.get(host, ()), url)
        for host, urls in first.items():
            known = settings.get(host, RegistrySettings())
            settings[host] = replace(known, mirrors=(*urls, *known.mirrors))
        return found

    def endpoints(self, registry: str) -> list[RegistryServer]:
        """Return the servers that have a registry's images: its mirrors, then the registry itself."""
        known = self._settings.get(registry, RegistrySettings())
        own = HUB_HOST if registry == DEFAULT_REGISTRY else registry
        return [
            *(self._with_schemes(*_endpoint(url, registry)) for url in known.mirrors),
            self._with_schemes(RegistryServer(registry, own), ""),
        ]

    def _with_schemes(self, endpoint: RegistryServer, scheme: str) -> RegistryServer:
        """Choose the schemes for a host by its settings.

        As in Docker, plain HTTP is also tried for a host on this machine.
        """
        insecure = self._settings.get(endpoint.name, RegistrySettings()).insecure
        # A host with a CA of its own must have TLS.
        local = is_local(urlsplit(f"//{endpoint.authority}").hostname or "") and not self.files(endpoint.name).ca
        schemes = (scheme,) if scheme else ("https", "http") if insecure or local else ("https",)
        return replace(endpoint, schemes=schemes, verify=not (insecure or local))

    def files(self, name: str) -> TlsFiles:
        """Return the certificates for a host. name: host and port, without the scheme's default port."""
        known = self._settings.get(DEFAULT_REGISTRY if name == HUB_HOST else name)
        return known.files if known is not None else TlsFiles()

    def has_files(self, name: str) -> bool:
        """Return True when a host has certificates of its own."""
        return self.files(name) != TlsFiles()

    def may_redirect(self, name: str, authority: str) -> bool:
        """Return True when the settings allow the registry `name` to lead to a host with a local or private address."""
        known = self._settings.get(DEFAULT_REGISTRY if name == HUB_HOST else name)
        return known is not None and authority in known.redirects_to

    @property
    def ca(self) -> str:
        """Return the path of the CAs for every host; "" for none."""
        return self._ca


def default_path(environment: Mapping[str, str]) -> Path:
    """Return the path of the default settings file."""
    config = environment.get("XDG_CONFIG_HOME")
    base = Path(config) if config else Path(environment.get("HOME") or Path.home()) / ".config"
    return base / "hatchway" / "registries.toml"


def is_local(host: str) -> bool:
    """Return True for a loopback address, and for `localhost`."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path, *, must_exist: bool) -> Registries:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        if must_exist:
            raise HatchwayError(f"there is no file {path}", _HINT) from None
        return Registries()
    except OSError as error:
        raise HatchwayError(f"{path} cannot be read: {error.strerror}", _HINT) from error
    if len(text) > _LARGEST:
        raise HatchwayError(f"{path} is larger than {_LARGEST} bytes", _HINT)
    try:
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise HatchwayError(f"{path} is not valid TOML: {error}", _HINT) from error
    return _parse(document, path)


def _parse(document: dict[str, Any], path: Path) -> Registries:
    if unknown := sorted(set(document) - {"registry", "ca-file"}):
        raise HatchwayError(f'{path}: unknown key "{unknown[0]}"; known are "registry" and "ca-file"', _HINT)
    tables = document.get("registry", {})
    if not isinstance(tables, dict) or not isinstance(document.get("ca-file", ""), str):
        raise HatchwayError(f'{path}: "registry" must be tables [registry."HOST"], and "ca-file" a path', _HINT)
    settings = {}
    for host, table in tables.items():
        where = f'{path}: [registry."{host}"]'
        host = _registry(host, where)
        if not isinstance(table, dict):
            raise HatchwayError(f"{where} is not a table", _HINT)
        settings[host] = _settings(table, host, where, path.parent)
    return Registries(settings, _path(document.get("ca-file", ""), path.parent))


def _settings(table: dict[str, Any], host: str, where: str, folder: Path) -> RegistrySettings:
    for key, value in table.items():
        if key not in _KEYS:
            raise HatchwayError(f'{where}: unknown key "{key}"; known are {", ".join(_KEYS)}', _HINT)
        if not isinstance(value, _KEYS[key]):
            raise HatchwayError(f"{where}: the value of {key} has the wrong type", _HINT)
    mirrors: Sequence[Any] = table.get("mirrors", [])
    for mirror in mirrors:
        if not isinstance(mirror, str):
            raise HatchwayError(f"{where}: a mirror is not a string", _HINT)
        _endpoint(mirror, host)
    redirects_to: Sequence[Any] = table.get("redirects-to", [])
    for target in redirects_to:
        if not isinstance(target, str) or not is_registry(target):
            raise HatchwayError(f"{where}: redirects-to lists hosts", 'write each as "HOST" or "HOST:PORT"')
    certificate, key = table.get("client-certificate-file", ""), table.get("client-key-file", "")
    if bool(certificate) != bool(key):
        raise HatchwayError(f"{where}: client-certificate-file and client-key-file go together", _HINT)
    files = TlsFiles(_path(table.get("ca-file", ""), folder), _path(certificate, folder), _path(key, folder))
    return RegistrySettings(tuple(mirrors), table.get("insecure", False), files, tuple(redirects_to))


def _path(text: str, folder: Path) -> str:
    """Return an absolute path; a relative path is relative to the settings file's directory."""
    return str(folder / Path(text).expanduser()) if text else ""


def _registry(text: str, where: str) -> str:
    if not is_registry(text):
        raise HatchwayError(f'{where}: "{text}" is not a registry', "write only its host and port, such as HOST:5000")
    return DEFAULT_REGISTRY if text in ("index.docker.io", HUB_HOST) else text


def _endpoint(text: str, registry: str) -> tuple[RegistryServer, str]:
    """Return (the endpoint of a mirror, its scheme or "" when it names none). Raises HatchwayError."""
    url = text if "://" in text else f"//{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("", "http", "https") and parts.port != 0
    except ValueError:
        good = False
    path = parts.path.strip("/") if good else ""
    if (
        not good
        or not is_registry(parts.netloc)
        or parts.query
        or parts.fragment
        or not (not path or is_repository(path))
    ):
        raise HatchwayError(
            f'"{text}" is not the URL of a mirror', "write it as https://HOST, http://HOST:PORT or HOST/PATH"
        )
    endpoint = RegistryServer(parts.netloc, parts.netloc, f"{path}/" if path else "", mirror_of=registry)
    return endpoint, parts.scheme
