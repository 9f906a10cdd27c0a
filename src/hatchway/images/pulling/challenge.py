"""Parse `WWW-Authenticate` (RFC 9110 section 11.6.1), for registries. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# The most bytes that are read of all challenges together, and the most parameters of one challenge.
_LONGEST = 8192
_MOST_PARAMETERS = 32
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)(?!\s*=)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_PAIR = re.compile(r"\\(.)")
# Schemes such as `Negotiate` may have one value (token68) in place of parameters.
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """One authentication challenge. scheme: in lower case. parameters: values by their names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(values: Iterable[bytes]) -> list[AuthChallenge]:
    """Return the challenges of a response's `WWW-Authenticate` fields.

    A field is read up to its first malformed part.
    """
    found: list[AuthChallenge] = []
    left = _LONGEST
    for value in values:
        text = value[:left].decode("latin-1")
        left -= len(text)
        at = 0
        while match := _SCHEME.match(text, at):
            challenge = AuthChallenge(match[1].lower())
            at = match.end()
            while len(challenge.parameters) < _MOST_PARAMETERS and (parameter := _PARAMETER.match(text, at)):
                quoted, plain = parameter[2], parameter[3]
                challenge.parameters[parameter[1].lower()] = _PAIR.sub(r"\1", quoted) if plain is None else plain
                at = parameter.end()
            if not challenge.parameters and (lone := _TOKEN68.match(text, at)):
                at = lone.end()
            found.append(challenge)
    return found
