"""Changes the Content-Security-Policy of a page that gets Hatchway's script (https://www.w3.org/TR/CSP3/).

The script carries the policy's own nonce when there is one. Otherwise the script's hash is added to the policy, unless
the policy allows the script already: together with 'unsafe-inline', a hash would block the page's own inline scripts.

A policy may allow inline scripts and styles by their hashes. Hatchway rewrites inline scripts and styles, so their
hashes no longer match, and the header is sent before new hashes can be computed. Therefore the policy gets a nonce (a
fresh one for each response, unless the policy has one), and each element whose original text matched a hash gets the
same nonce. So elements that were allowed stay allowed, and no others become allowed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from hatchway.rewrite.urlrules import UrlRule

ElementKind = Literal["script", "style"]

_NONCE = re.compile(rb"'nonce-([A-Za-z0-9+/_=-]+)'", re.IGNORECASE)
_HASH = re.compile(rb"'(sha(?:256|384|512))-([A-Za-z0-9+/_-]+=*)'", re.IGNORECASE)
_ALGORITHMS: Final = (b"sha256", b"sha384", b"sha512")
# The maximum number of policies of a page. Normal pages have two or three.
_MOST_POLICIES: Final = 64
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
# The directives for each kind of element. The first one that is in the policy applies.
_DECIDING: Final[dict[ElementKind, tuple[bytes, ...]]] = {
    "script": (b"script-src-elem", b"script-src", b"default-src"),
    "style": (b"style-src-elem", b"style-src", b"default-src"),
}
_KINDS: Final[tuple[ElementKind, ...]] = ("script", "style")
# Hatchway removes the `integrity` of files that it changes, so this directive would block the files.
_DROPPED: Final = frozenset((b"require-sri-for",))

Hashes = frozenset[tuple[bytes, bytes]]


@dataclass(slots=True)
class InlinePermissions:
    """The permissions for inline scripts and styles in the policies of one page.

    nonce: the policies' own nonce, for the element of Hatchway's script; None when the policies have no nonce.
    fresh: the nonce that is added to policies that need one.
    known: by kind of element, one entry for each policy with hashes: (hashes, True if the policy is enforced).
    given: by kind of element, the policies' nonces; None for a policy that has hashes but no nonce.
    scripts: the policies' source lists for script elements.
    """

    nonce: bytes | None = None
    fresh: bytes = field(default_factory=lambda: secrets.token_urlsafe(16).encode())
    known: dict[ElementKind, list[tuple[Hashes, bool]]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    given: dict[ElementKind, set[bytes | None]] = field(default_factory=lambda: {kind: set() for kind in _KINDS})
    scripts: list[bytes] = field(default_factory=list)

    def read(self, value: bytes, *, enforced: bool = True) -> None:
        """Add the policies of one field, or of a `<meta>`. enforced: False for a Report-Only policy."""
        for one in value.split(b","):
            for kind in _KINDS:
                sources = _sources(one, kind)
                if sources is None:
                    continue
                if kind == "script":
                    self.scripts.append(sources)
                nonce = _NONCE.search(sources)
                hashes = frozenset((name.lower(), _normal(digest)) for name, digest in _HASH.findall(sources))
                if nonce is not None and kind == "script" and enforced:
                    self.nonce = nonce[1]
                if hashes:
                    self.known[kind].append((hashes, enforced))
                if hashes or nonce is not None:
                    self.given[kind].add(None if nonce is None else nonce[1])

    def has_hashes(self, kind: ElementKind, *, enforced: bool = False) -> bool:
        """Return True when a policy has hashes for elements of this kind.

        enforced: count only enforced policies.
        """
        return any(counts or not enforced for _, counts in self.known[kind])

    @property
    def allows_own_address_script(self) -> bool:
        """Return True when every policy, even a report-only one, already allows an inline script with `nonce`."""
        return len(self.scripts) <= _MOST_POLICIES and all(_allows_inline(one, self.nonce) for one in self.scripts)

    @property
    def adds_nonce(self) -> bool:
        """Return True when a fresh nonce is added.

        The caller then drops the validators, so that no cached page with an older nonce is used.
        """
        return any(self.known[kind] and self.nonce_for(kind) == self.fresh for kind in _KINDS)

    def nonce_for(self, kind: ElementKind) -> bytes | None:
        """Return the nonce for an element whose text matches a hash; None when the policies have no common nonce."""
        given = self.given[kind]
        if not given or (len(given) == 1 and None in given):
            return self.fresh
        return next(iter(given)) if len(given) == 1 else None

    def allows_by_hash(self, kind: ElementKind, text: bytes) -> bool:
        """Return True when every policy that has hashes has a hash of this text.

        Return False without a check when more than `_MOST_POLICIES` policies have hashes.
        """
        if len(self.known[kind]) > _MOST_POLICIES:
            return False
        digests: dict[bytes, bytes] = {}

        def has_digest(hashes: Hashes, algorithm: bytes) -> bool:
            if algorithm not in digests:
                digests[algorithm] = base64.b64encode(hashlib.new(algorithm.decode(), text).digest())
            return (algorithm, digests[algorithm]) in hashes

        return all(any(has_digest(hashes, one) for one in _ALGORITHMS) for hashes, _ in self.known[kind])


def read_policy(values: Iterable[bytes], reported: Iterable[bytes] = ()) -> InlinePermissions:
    """Read the permissions for inline elements in the policies of a response.

    values: the values of the `Content-Security-Policy` fields.
    reported: the values of the `Content-Security-Policy-Report-Only` fields.
    """
    policy = InlinePermissions()
    for value in values:
        policy.read(value)
    for value in reported:
        policy.read(value, enforced=False)
    return policy


def rewrite_policy(value: bytes, script_hash: bytes, rule: UrlRule, policy: InlinePermissions | None = None) -> bytes:
    """Change the policies of a field: allow Hatchway's script, add nonces, and change the URLs of `report-uri`.

    rule: changes one URL.
    script_hash: `'sha256-...'` of the script, or b"".
    policy: the result of `read_policy`; None if the response is not a page.
    """
    return b",".join(_rewrite_one(one, script_hash, rule, policy) for one in value.split(b","))


def _rewrite_one(text: bytes, script_hash: bytes, rule: UrlRule, policy: InlinePermissions | None) -> bytes:
    sources = _sources(text, "script")
    carried = policy.nonce if policy is not None else None
    needed = bool(script_hash) and sources is not None and not _allows_inline(sources, carried)
    directives = [directive for directive in text.split(b";") if directive.strip()]
    out: list[bytes] = []
    names = [_name(directive) for directive in directives]
    wanted = {b"script-src", b"script-src-elem"} & set(names)
    nonces = _nonces(text, policy)
    for name, directive in zip(names, directives, strict=True):
        if name in _DROPPED:
            continue
        if name in nonces:
            directive = _with(directive, b"'nonce-" + nonces[name] + b"'")
        if name == b"report-uri":
            parts = directive.split()
            directive = b" " + b" ".join([parts[0], *(rule(url) for url in parts[1:])])
        elif name == b"trusted-types":
            directive = _with(directive, b"hatchway")
        elif needed and name in wanted:
            directive = _with(directive, script_hash)
        out.append(directive)
        if needed and not wanted and name == b"default-src":
            rest = directive.split()[1:]
            out.append(_with(b" script-src " + b" ".join(rest), script_hash))
    return b";".join(out)


def _nonces(text: bytes, policy: InlinePermissions | None) -> dict[bytes, bytes]:
    """Return the nonces that are added to directives of a policy, by the directive's name."""
    found: dict[bytes, bytes] = {}
    for kind in _KINDS if policy is not None else ():
        sources = _sources(text, kind)
        if policy is None or sources is None or not _HASH.search(sources) or _NONCE.search(sources):
            continue
        nonce = policy.nonce_for(kind)
        if nonce is not None:
            found.setdefault(_name(sources), nonce)
    return found


def _with(directive: bytes, source: bytes) -> bytes:
    parts = directive.split()
    kept = [part for part in parts[1:] if part.lower() != b"'none'"]
    return b" " + b" ".join([parts[0], *kept, source])


def _name(directive: bytes) -> bytes:
    return directive.split(maxsplit=1)[0].lower()


def _normal(digest: bytes) -> bytes:
    """Return a digest in Base64's standard alphabet; a policy may use the URL-safe alphabet (RFC 4648 section 5)."""
    return digest.translate(_URL_SAFE)


def _sources(policy: bytes, kind: ElementKind) -> bytes | None:
    """Return the policy's source list for elements of this kind; None when there is none."""
    found: dict[bytes, bytes] = {}
    for directive in policy.split(b";"):
        if directive.strip():
            found.setdefault(_name(directive), directive)
    for name in _DECIDING[kind]:
        if name in found:
            return found[name]
    return None


def _allows_inline(sources: bytes, carried: bytes | None) -> bool:
    """Return True when the policy allows Hatchway's script already, by its nonce or by an effective 'unsafe-inline'."""
    nonces = _NONCE.findall(sources)
    if nonces:
        return carried in nonces
    lower = sources.lower()
    return b"'unsafe-inline'" in lower and not _HASH.search(sources) and b"'strict-dynamic'" not in lower
