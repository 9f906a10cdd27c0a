"""Content-Security-Policy for a page that gets a script of ours (https://www.w3.org/TR/CSP3/).

The script carries the policy's own nonce when there is one. Otherwise its hash is added, and only where it is needed:
next to 'unsafe-inline' a hash would forbid the page's own inline scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hatchway.rewrite.rules import Rule

_NONCE = re.compile(rb"'nonce-([A-Za-z0-9+/_=-]+)'", re.IGNORECASE)
_HASH = re.compile(rb"'sha(?:256|384|512)-[A-Za-z0-9+/_=-]+'", re.IGNORECASE)


@dataclass(slots=True)
class Policy:
    """What a page's policies allow. nonce: for the script's element, or None. hashes: inline scripts are known by their
    hashes, so that their text must not change."""

    nonce: bytes | None = None
    hashes: bool = False


def read_policy(values: list[bytes]) -> Policy:
    """What the `Content-Security-Policy` fields of a response say of inline scripts."""
    policy = Policy()
    for value in values:
        for one in value.split(b","):
            sources = _sources(one)
            if sources is None:
                continue
            nonce = _NONCE.search(sources)
            if nonce is not None:
                policy.nonce = nonce[1]
            if _HASH.search(sources):
                policy.hashes = True
    return policy


def rewrite_policy(value: bytes, script_hash: bytes, rule: Rule) -> bytes:
    """One field's value: the script is allowed (`script_hash`: `'sha256-...'`), `report-uri` is under the rule."""
    return b",".join(_rewrite_one(one, script_hash, rule) for one in value.split(b","))


def _rewrite_one(policy: bytes, script_hash: bytes, rule: Rule) -> bytes:
    sources = _sources(policy)
    needed = sources is not None and not _allows_inline(sources)
    directives = [directive for directive in policy.split(b";") if directive.strip()]
    out: list[bytes] = []
    names = [_name(directive) for directive in directives]
    wanted = {b"script-src", b"script-src-elem"} & set(names)
    for name, directive in zip(names, directives, strict=True):
        if name == b"report-uri":
            parts = directive.split()
            directive = b" " + b" ".join([parts[0], *(rule(url) for url in parts[1:])])
        elif needed and name in wanted:
            directive = _with(directive, script_hash)
        out.append(directive)
        if needed and not wanted and name == b"default-src":
            rest = directive.split()[1:]
            out.append(_with(b" script-src " + b" ".join(rest), script_hash))
    return b";".join(out)


def _with(directive: bytes, script_hash: bytes) -> bytes:
    parts = directive.split()
    kept = [part for part in parts[1:] if part.lower() != b"'none'"]
    return b" " + b" ".join([parts[0], *kept, script_hash])


def _name(directive: bytes) -> bytes:
    return directive.split(maxsplit=1)[0].lower()


def _sources(policy: bytes) -> bytes | None:
    """The source list that decides on `<script>` elements; None when none does."""
    found: dict[bytes, bytes] = {}
    for directive in policy.split(b";"):
        if directive.strip():
            found.setdefault(_name(directive), directive)
    for name in (b"script-src-elem", b"script-src", b"default-src"):
        if name in found:
            return found[name]
    return None


def _allows_inline(sources: bytes) -> bool:
    """Whether our script may run already: by a nonce, which it carries, or by 'unsafe-inline' where that counts."""
    if _NONCE.search(sources):
        return True
    lower = sources.lower()
    return b"'unsafe-inline'" in lower and not _HASH.search(sources) and b"'strict-dynamic'" not in lower
