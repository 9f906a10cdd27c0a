"""Runs a few queries at a time on threads, so that scrapes continue. Cancels queries whose client disconnects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from hatchway.addons.monitoring.httpapi.problems import ApiProblem
from hatchway.addons.monitoring.promql.grid import QueryBudget

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The bounds of queries.

    samples: the maximum number of values that one query may compute; each takes 32 bytes.
    seconds: the longest time for one query.
    threads: how many queries are evaluated at the same time.
    waiting: how many more queries may wait.
    """

    samples: int = 4_000_000
    seconds: float = 60.0
    threads: int = 2
    waiting: int = 40


class QueryWorkers:
    """The threads that evaluate queries."""

    def __init__(self, limits: QueryLimits | None = None) -> None:
        self.limits = limits or QueryLimits()
        self._executor = ThreadPoolExecutor(self.limits.threads, "query")
        self._under_way = 0

    async def run(self, request: Request, function: Callable[[QueryBudget], T], seconds: float | None = None) -> T:
        """Call a function with a budget on a thread, and return its result.

        Args:
            request: the request, whose body was read. When its client disconnects, the budget is cancelled.
            function: must check the budget often.
            seconds: the longest time; None, or a longer time, means `QueryLimits.seconds`.

        Raises:
            ApiProblem: too many queries wait.
            PromqlError: raised by the function.
        """
        if self._under_way >= self.limits.threads + self.limits.waiting:
            raise ApiProblem("unavailable", f"{self._under_way} queries are under way or wait; try again later")
        cancelled = threading.Event()
        limit = self.limits.seconds if seconds is None else min(seconds, self.limits.seconds)
        budget = QueryBudget(self.limits.samples, limit, cancelled)
        self._under_way += 1
        work = asyncio.get_running_loop().run_in_executor(self._executor, _checked, function, budget)
        work.add_done_callback(self._ended)
        watch = asyncio.create_task(_gone(request), name="client")
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                cancelled.set()
            return await work
        finally:
            cancelled.set()
            watch.cancel()

    def _ended(self, work: asyncio.Future[T]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            # When the caller no longer waits, asyncio would log that the error was never retrieved.
            work.exception()

    def close(self) -> None:
        """Cancel the queries that wait; each thread ends after the query that it evaluates now."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _checked(function: Callable[[QueryBudget], T], budget: QueryBudget) -> T:
    # The query may have waited for a thread longer than its time allows.
    budget.check()
    return function(budget)


async def _gone(request: Request) -> None:
    """Wait until the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
