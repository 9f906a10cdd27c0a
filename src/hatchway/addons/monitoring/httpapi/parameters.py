"""Reads the parameters of a request: those in its URL and, with POST, in a form."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from urllib.parse import parse_qs

from starlette.datastructures import QueryParams
from starlette.requests import Request

from hatchway.addons.monitoring.httpapi.problems import ApiProblem
from hatchway.addons.monitoring.promql.errors import QueryParseError
from hatchway.addons.monitoring.promql.golang import parse_duration, parse_float, quote
from hatchway.addons.monitoring.promql.parser import parse_selector
from hatchway.addons.monitoring.tsdb.matchers import Matcher

_LONGEST_FORM = 1 << 20
_MOST_FIELDS = 1000
# Go's time has 64 bits of nanoseconds.
_LATEST = (1 << 63) / 1e9
_whole = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
FIRST, LAST = -(1 << 53), 1 << 53


class Parameters:
    """The parameters of one request. A form's parameters have priority over those in the URL."""

    def __init__(self, query: QueryParams, form: dict[str, list[str]]) -> None:
        self._query = query
        self._form = form

    @classmethod
    async def of(cls, request: Request) -> Parameters:
        """Read a request's parameters. Raises ApiProblem for a form that is too long or malformed."""
        form: dict[str, list[str]] = {}
        if request.method == "POST":
            body = bytearray()
            async for piece in request.stream():
                body += piece
                if len(body) > _LONGEST_FORM:
                    raise ApiProblem("bad_data", f"the form is longer than {_LONGEST_FORM} bytes")
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/x-www-form-urlencoded":
                try:
                    text = body.decode("utf-8", "replace")
                    form = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
                except ValueError as error:
                    raise ApiProblem("bad_data", f"error parsing form values: {error}") from error
        return cls(request.query_params, form)

    def get(self, name: str) -> str:
        """Return a parameter's first value; "" when there is none."""
        values = self._form.get(name) or self._query.getlist(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return [*self._form.get(name, []), *self._query.getlist(name)]

    def time(self, name: str, default: int | None = None) -> int:
        """Return a time in milliseconds. default: the result when the parameter is missing. Raises ApiProblem."""
        text = self.get(name)
        if default is not None:
            if not text:
                return default
            what = f"Invalid time value for '{name}': "
        else:
            what = ""
        found = _time(text)
        if found is None:
            raise ApiProblem("bad_data", f"{what}cannot parse {quote(text)} to a valid timestamp", parameter=name)
        return found

    def duration(self, name: str) -> float:
        """Return a duration in milliseconds. Raises ApiProblem."""
        text = self.get(name)
        try:
            seconds = parse_float(text)
        except ValueError:
            try:
                return float(parse_duration(text))
            except ValueError:
                message = f"cannot parse {quote(text)} to a valid duration"
                raise ApiProblem("bad_data", message, parameter=name) from None
        if not abs(seconds) < _LATEST:
            message = f"cannot parse {quote(text)} to a valid duration. It overflows int64"
            raise ApiProblem("bad_data", message, parameter=name)
        return seconds * 1000

    def limit(self) -> int:
        """Return the parameter `limit` (Prometheus 3): the maximum number of results, 0 for all. Raises ApiProblem."""
        text = self.get("limit")
        if not text:
            return 0
        if not _whole(text):
            raise ApiProblem("bad_data", f"cannot parse {quote(text)} to a number", parameter="limit")
        found = int(text)
        if found < 0:
            raise ApiProblem("bad_data", "limit must be non-negative", parameter="limit")
        return found

    def selectors(self, *, in_series: bool = False) -> list[list[Matcher]]:
        """Return the selectors in `match[]`. in_series: True to name the parameter in errors. Raises ApiProblem."""
        found = []
        for text in self.all("match[]"):
            parameter = "match[]" if in_series else ""
            try:
                matchers = parse_selector(text)
            except QueryParseError as error:
                raise ApiProblem("bad_data", str(error), parameter=parameter) from error
            if all(matcher.matches_empty for matcher in matchers):
                message = "match[] must contain at least one non-empty matcher"
                raise ApiProblem("bad_data", message, parameter=parameter)
            found.append(matchers)
        return found


def _time(text: str) -> int | None:
    try:
        seconds = parse_float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text) if "T" in text else None
        except ValueError:
            return None
        if found is None or found.tzinfo is None:
            return None
        return math.floor((found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if not abs(seconds) < _LATEST:
        return None
    return round(seconds * 1000)
