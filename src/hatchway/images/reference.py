"""Names of images: `nginx`, `ghcr.io/org/app:1.2`, `registry.local:5000/a/b@sha256:...`. Pure.

The grammar and the short forms are those of `github.com/distribution/reference` (`regexp.go`, `normalize.go`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
# The maximum number of characters of registry and repository together.
_LONGEST = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class ImageNameError(ValueError):
    """The text is not the name of an image."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image, with all its parts.

    registry: its host name, with a port if it has one; Docker Hub is "docker.io". repository: the path in the registry.
    tag: "" when the name has a digest and no tag. digest: `sha256:` and 64 digits; "" when there is none.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Return registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """Return the name as people write it: `nginx` for docker.io/library/nginx."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        return self.repository.removeprefix(_OFFICIAL) if self.repository.count("/") == 1 else self.repository

    @property
    def familiar(self) -> str:
        """Return the whole reference as people write it: `nginx:1.27`."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        """Return the whole reference with its registry: `docker.io/library/nginx:1.27`."""
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Return the reference that a person or a manifest has written.

    A name without a registry is a name at Docker Hub. A name without tag and digest gets the tag `latest`.

    Raises:
        ImageNameError: with Docker's words, such as "invalid reference format".
    """
    rest, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise ImageNameError("invalid reference format" if not digest else "invalid checksum digest format")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and _TAG.fullmatch(tag) is None:
        raise ImageNameError("invalid reference format")
    registry, repository = _split(head + slash + last)
    if repository != repository.lower():
        raise ImageNameError("invalid reference format: repository name must be lowercase")
    if _REGISTRY.fullmatch(registry) is None or _REPOSITORY.fullmatch(repository) is None:
        raise ImageNameError("invalid reference format")
    if len(registry) + 1 + len(repository) > _LONGEST:
        raise ImageNameError(f"repository name must not be more than {_LONGEST} characters")
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Return True for a whole digest with its algorithm."""
    return _DIGEST.fullmatch(text) is not None


def is_registry(text: str) -> bool:
    """Return True for a host name or address, with or without a port."""
    return _REGISTRY.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Return True for a path in a registry."""
    return _REPOSITORY.fullmatch(text) is not None


def _split(name: str) -> tuple[str, str]:
    """Split a name into registry and repository.

    The part before the first slash is a registry if it has a dot, a port or a capital letter, or is `localhost`.
    """
    first, slash, rest = name.partition("/")
    if not slash or not (any(sign in first for sign in ".:") or first == "localhost" or first != first.lower()):
        registry, repository = DEFAULT_REGISTRY, name
    else:
        registry, repository = first, rest
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository
