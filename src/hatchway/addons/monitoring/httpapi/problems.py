"""Errors of the API, in Prometheus' form."""

from __future__ import annotations

from hatchway.addons.monitoring.promql.golang import quote

STATUSES = {
    "bad_data": 400,
    "execution": 422,
    "canceled": 503,
    "timeout": 503,
    "internal": 500,
    "not_found": 404,
    "unavailable": 503,
}


class ApiProblem(Exception):
    """An error of a request.

    Args:
        type: Prometheus' errorType.
        message: the text of the error.
        parameter: the parameter that the message names; "" for none.
    """

    def __init__(self, type: str, message: str, *, parameter: str = "") -> None:
        super().__init__(f"invalid parameter {quote(parameter)}: {message}" if parameter else message)
        self.type = type

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return STATUSES[self.type]
