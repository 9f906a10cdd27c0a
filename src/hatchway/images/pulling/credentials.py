"""Credentials for registries: parses them from Docker's configuration and Secrets, and matches them to images. Pure.

The formats are those of `docker/cli` (`cli/config/configfile`) and of Secrets of the types
`kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`. Entries are matched by the kubelet's rules
(`pkg/credentialprovider/keyring.go`).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hatchway.images.contents import PullGrant

# Docker Hub's key in Docker's configuration; `docker login` writes https://index.docker.io/v1/.
HUB_KEY = "index.docker.io"
HUB_SERVER = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", HUB_KEY)
# The largest configuration, in bytes; a Secret has at most 1 MiB.
LARGEST_CONFIG = 1 << 20
# The user name by which credential helpers mark an identity token.
_TOKEN_USER = "<token>"
_MOST_ENTRIES = 1000
# The most values in a configuration, and the longest key and label pattern: a Secret is untrusted input.
_MOST_VALUES = 20_000
_LONGEST_KEY = 1024
_LONGEST_PATTERN = 128


class BadCredentials(ValueError):
    """Credentials cannot be read. The message contains no secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Credentials for one registry or repository. Its `repr` shows no secret.

    server: the key of its entry, such as `ghcr.io`, `*.example.com/team` or `https://index.docker.io/v1/`.
    username, password: for Basic authentication, and for requests for tokens.
    identity_token: an OAuth 2 refresh token, used in place of username and password.
    registry_token: a bearer token that is sent to the registry itself.
    secret: the uid of the pod's Secret that has the credential; "" for a credential of the user.
    """

    server: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    @property
    def grant(self) -> PullGrant | None:
        """Return the grant for images pulled with this credential; None when everyone may use them."""
        if not self.secret:
            return None
        content = json.dumps([self.server, self.username, self.password, self.identity_token, self.registry_token])
        return PullGrant(self.secret, hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest())

    @property
    def key(self) -> str:
        """Return host and path without the scheme, as the kubelet indexes entries; "" when the server is no URL."""
        if len(self.server) > _LONGEST_KEY:
            return ""
        text = self.server if self.server.startswith(("https://", "http://")) else f"https://{self.server}"
        try:
            parts = urlsplit(text)
        except ValueError:
            return ""
        path = parts.path
        if path.startswith(("/v1/", "/v2/")):
            path = path[3:]
        return parts.netloc.rpartition("@")[2] + (path if path != "/" else "")


def parse_docker_config(text: bytes | str, *, legacy: bool = False) -> list[Credential]:
    """Return the credentials of a Docker configuration.

    Args:
        text: JSON.
        legacy: True for the older format (`.dockercfg`), which is only the map of entries.

    Raises:
        BadCredentials: the configuration cannot be read.
    """
    auths = parse_json(text) if legacy else parse_json(text).get("auths")
    if auths is None:
        return []
    if not isinstance(auths, dict) or len(auths) > _MOST_ENTRIES:
        raise BadCredentials("its auths are not an object with at most 1000 entries")
    return [found for server, entry in auths.items() if (found := _entry(server, entry)) is not None]


def parse_json(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object. Raises BadCredentials."""
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if len(data) > LARGEST_CONFIG:
        raise BadCredentials(f"it is larger than {LARGEST_CONFIG} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise BadCredentials(f"it has more than {_MOST_VALUES} values")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        # The parser's message would show a part of the text, which may be secret.
        raise BadCredentials("it is not valid JSON") from None
    if not isinstance(found, dict):
        raise BadCredentials("it is not a JSON object")
    return found


def _entry(server: str, entry: Any) -> Credential | None:
    """Return one entry's credential; None when the entry has none (a credential helper may have it)."""
    if not isinstance(entry, dict):
        raise BadCredentials(f'its entry "{server}" is not an object')
    values = {
        name: entry.get(name) or "" for name in ("username", "password", "auth", "identitytoken", "registrytoken")
    }
    if not all(isinstance(value, str) for value in values.values()):
        raise BadCredentials(f'its entry "{server}" has a value that is not a string')
    username, password = values["username"], values["password"]
    if values["auth"]:
        username, password = _decode(server, values["auth"])
    return make_credential(server, username, password, values["identitytoken"], values["registrytoken"])


def _decode(server: str, auth: str) -> tuple[str, str]:
    try:
        # Padding may be missing, as the kubelet allows.
        text = base64.b64decode(auth.rstrip("=") + "=" * (-len(auth.rstrip("=")) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadCredentials(f'the auth of its entry "{server}" is not valid base64') from None
    username, colon, password = text.partition(":")
    if not colon:
        raise BadCredentials(f'the auth of its entry "{server}" is not USER:PASSWORD in base64')
    return username, password.strip("\0")


def make_credential(
    server: str, username: str, password: str, identity_token: str = "", registry_token: str = ""
) -> Credential | None:
    """Return a credential, or None when all fields are empty.

    The user name `<token>` marks the password as identity token.

    Raises:
        BadCredentials: a token contains characters that are not allowed in tokens.
    """
    if username == _TOKEN_USER:
        username, password, identity_token = "", "", password
    for token in (identity_token, registry_token):
        if token and not is_token(token):
            raise BadCredentials(f'its entry "{server}" has a token with characters that are not allowed')
    if not (username or password or identity_token or registry_token):
        return None
    return Credential(server, username, password, identity_token, registry_token)


def is_token(text: str) -> bool:
    """Return True when the text can be sent in a header field as a token."""
    return text.isascii() and text.isprintable() and " " not in text


def matching(credentials: Iterable[Credential], name: str) -> list[Credential]:
    """Return the credentials for an image, in the order in which the kubelet tries them.

    name: the image's registry and repository, `docker.io/library/nginx`.

    Entries are tried in reverse alphabetical order of their keys, so longer paths come before shorter paths, and names
    before globs. When no entry matches an image of Docker Hub, the entries for index.docker.io are used.
    """
    indexed: dict[str, list[Credential]] = {}
    for credential in credentials:
        if key := credential.key:
            indexed.setdefault(key, []).append(credential)
    found = [one for key in sorted(indexed, reverse=True) if _key_matches(key, name) for one in indexed[key]]
    if not found and name.partition("/")[0] in _HUB_HOSTS:
        found = indexed.get(HUB_KEY, [])
    return list(dict.fromkeys(found))


def _key_matches(key: str, name: str) -> bool:
    host, _, path = key.partition("/")
    target_host, _, target_path = name.partition("/")
    labels, port = _split_host(host)
    target_labels, target_port = _split_host(target_host)
    if port != target_port or len(labels) != len(target_labels) or not target_path.startswith(path):
        return False
    return all(_glob(label, target) for label, target in zip(labels, target_labels, strict=True))


def _split_host(host: str) -> tuple[Sequence[str], str]:
    if host.startswith("["):
        address, _, rest = host.partition("]")
        return [address + "]"], rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name.split("."), port


def _glob(pattern: str, text: str) -> bool:
    """Match one label of a host name as Go's `filepath.Match` does; an IPv6 address only matches itself."""
    if text.startswith("["):
        return pattern == text
    return len(pattern) <= _LONGEST_PATTERN and fnmatch.fnmatchcase(text, pattern.replace("[^", "[!"))
