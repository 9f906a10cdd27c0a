"""Parses label and field selectors of a query (apimachinery `pkg/labels`, `pkg/fields`, `selector.go`). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hatchway.kube.selectors import requirement_matches

__all__ = ["FieldSelection", "LabelSelection"]

_MOST = 1000
_SET = re.compile(r"\s*([^\s!=(),]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUALITY = re.compile(r"\s*([^\s!=(),<>]+)\s*(==|=|!=)\s*([^\s!=(),]*)\s*")
_NUMBER = re.compile(r"\s*([^\s!=(),<>]+)\s*([<>])\s*(-?[0-9]+)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([^\s!=(),<>]+)\s*")


class LabelSelection:
    """A label selector. Raises ValueError for one that cannot be parsed."""

    def __init__(self, text: str) -> None:
        self._requirements: list[dict[str, Any]] = []
        at, text = 0, text.strip()
        while at < len(text):
            at = self._parse(text, at)
            if at < len(text):
                if text[at] != "," or at + 1 == len(text):
                    raise ValueError(f"unable to parse requirement: found '{text[at:]}'")
                at += 1
            if len(self._requirements) > _MOST:
                raise ValueError("too many requirements")

    def _parse(self, text: str, at: int) -> int:
        if match := _SET.match(text, at):
            values = [one.strip() for one in match[3].split(",")]
            self._add(match[1], "In" if match[2] == "in" else "NotIn", values)
        elif match := _EQUALITY.match(text, at):
            self._add(match[1], "NotIn" if match[2] == "!=" else "In", [match[3]])
        elif match := _NUMBER.match(text, at):
            self._add(match[1], "Gt" if match[2] == ">" else "Lt", [match[3]])
        elif match := _EXISTS.match(text, at):
            self._add(match[2], "DoesNotExist" if match[1] else "Exists", [])
        else:
            raise ValueError(f"unable to parse requirement: found '{text[at:]}'")
        return match.end()

    def _add(self, key: str, operator: str, values: list[str]) -> None:
        self._requirements.append({"key": key, "operator": operator, "values": values})

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return True when the labels meet all requirements."""
        return all(requirement_matches(one, labels) for one in self._requirements)


class FieldSelection:
    """A field selector over metadata.name and metadata.namespace. Raises ValueError for any other."""

    def __init__(self, text: str) -> None:
        self._terms: list[tuple[str, bool, str]] = []
        for term in filter(None, (one.strip() for one in text.split(","))):
            match = re.fullmatch(r"([^!=]+?)(==|=|!=)(.*)", term)
            if match is None:
                raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
            if match[1] not in ("metadata.name", "metadata.namespace"):
                raise ValueError(f"field label not supported: {match[1]}")
            self._terms.append((match[1].partition(".")[2], match[2] != "!=", match[3]))

    def matches(self, namespace: str, name: str) -> bool:
        """Return True when an object of this namespace and name is selected."""
        found = {"namespace": namespace, "name": name}
        return all((found[field] == value) is equal for field, equal, value in self._terms)
