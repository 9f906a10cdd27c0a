"""Errors of queries, with Prometheus' messages."""

from __future__ import annotations


class PromqlError(Exception):
    """A query that cannot be answered. type: Prometheus' errorType. The message is Prometheus' error."""

    type = "execution"


class QueryParseError(PromqlError):
    """A malformed query.

    Args:
        query: the whole query.
        position: the offset of the error in it, in characters.
        message: the text of the error.
    """

    type = "bad_data"

    def __init__(self, query: str, position: int, message: str) -> None:
        before = query[:position]
        line = before.count("\n") + 1
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogatepass")) + 1
        super().__init__(f"{line}:{column}: parse error: {message}")
        self.position = position


class InvalidQueryType(PromqlError):
    """A range query with a value that is not a scalar or an instant vector. kind: the type of its value."""

    type = "bad_data"

    def __init__(self, kind: str) -> None:
        super().__init__(f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector')


class QueryTimeout(PromqlError):
    """A query that took too long."""

    type = "timeout"


class QueryCanceled(PromqlError):
    """A query whose client has disconnected."""

    type = "canceled"


class TooManySamples(PromqlError):
    """A query that would need too much memory."""

    def __init__(self) -> None:
        super().__init__("query processing would load too many samples into memory in query execution")
