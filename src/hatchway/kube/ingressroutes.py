"""Finds hosts in the rules of Traefik's IngressRoutes (`ingressroutes.traefik.io`). Pure.

A rule is an expression such as ``Host(`a.example`) && PathPrefix(`/api`)``. Only the names in `Host` are hosts:
a `HostRegexp` contains a pattern, and a negated `Host` excludes a host.
https://doc.traefik.io/traefik/routing/routers/#rule
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hatchway.kube.api import Object

# One token of a rule: a call of a matcher with quoted arguments, or an operator.
_TOKEN = re.compile(
    r"\s*(?:(?P<not>!)|(?P<name>[A-Za-z]+)\s*\(\s*"
    r"(?P<arguments>(?:(?:`[^`]*`|\"(?:[^\"\\]|\\.)*\")\s*(?:,\s*)?)*)\)"
    r"|(?P<other>\(|\)|&&|\|\|))"
)
_ARGUMENT = re.compile(r"`([^`]*)`|\"((?:[^\"\\]|\\.)*)\"")
# The matchers of hosts in rules for HTTP and in rules of an IngressRouteTCP.
_HOST_MATCHERS: Final = ("Host", "HostSNI")
# The maximum number of characters of a rule. Longer rules count as rules without hosts, to limit the time for parsing.
_LONGEST: Final = 4096
# The maximum number of characters of all rules of one object together: other users of the cluster may write many rules.
_LONGEST_TOGETHER: Final = 32768
_MOST_ROUTES: Final = 100


def is_secure(route: Object) -> bool:
    """Return True for an IngressRoute that Traefik serves by TLS."""
    spec = as_mapping(route.get("spec"))
    return isinstance(spec.get("tls"), dict)


def hosts_of(route: Object) -> Iterator[tuple[str, str, str]]:
    """Yield (host, path, SERVICE:PORT) for each host in the rules of an IngressRoute; the path is "/" for any."""
    length = 0
    for entry in as_mappings(as_mapping(route.get("spec")).get("routes"))[:_MOST_ROUTES]:
        rule = entry.get("match")
        length += len(rule) if isinstance(rule, str) else 0
        if length > _LONGEST_TOGETHER:
            return
        services = as_mappings(entry.get("services"))
        first = services[0] if services else {}
        where = f"{first.get('name') or '?'}:{first.get('port') or '?'}"
        hosts, path = parse_rule(rule)
        for host in hosts:
            yield host, path, where


def parse_rule(rule: object) -> tuple[list[str], str]:
    """Return the hosts that a rule names, and its first path; ([], "/") for a rule that cannot be read."""
    hosts: list[str] = []
    paths: list[str] = []
    if not isinstance(rule, str) or len(rule) > _LONGEST:
        return [], "/"
    position, negated = 0, False
    # For each open group: True when it is negated. `excluding` counts the negated groups.
    groups: list[bool] = []
    excluding = 0
    text = rule.rstrip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return [], "/"
        position = token.end()
        if token["not"]:
            negated = not negated
            continue
        if token["other"] == "(":
            groups.append(negated)
            excluding += negated
        elif token["other"] == ")" and groups:
            excluding -= groups.pop()
        elif token["name"] and not negated and not excluding:
            found = [one[0] or one[1] for one in _ARGUMENT.findall(token["arguments"])]
            if token["name"] in _HOST_MATCHERS:
                hosts += found
            elif token["name"] in ("Path", "PathPrefix"):
                paths += found
        negated = False
    return list(dict.fromkeys(hosts)), paths[0] if paths else "/"


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return an unvalidated value if it is a mapping, else {}."""
    return value if isinstance(value, dict) else {}


def as_mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the mappings in an unvalidated value if it is a list, else []."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
