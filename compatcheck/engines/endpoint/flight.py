"""Many asynchronous calls from ordinary code: a bounded number at once, results handed over as they come.

The event loop runs in a thread of its own, so that it works inside a notebook, whose main thread has one already.
Results are taken by the caller's thread: what it does with them (a store, a progress bar) needs no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from compatcheck.engines.endpoint.retry import RequestFailed

C = TypeVar("C")
T = TypeVar("T")
_ENDING_SECONDS = 10.0


class _Over(Generic[T]):
    """The last thing handed over: all is done, or what went wrong."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def fly(
    connect: Callable[[], AbstractAsyncContextManager[C]],
    work: Callable[[C, int], Awaitable[T]],
    count: int,
    in_flight: int,
    first_alone: bool = True,
) -> Generator[tuple[int, T | RequestFailed], None, None]:
    """Yield (number, result or failure) of ``work(client, number)`` for the numbers below ``count``, as they come.

    Args:
        connect: makes the client, opened and closed in the loop.
        in_flight: calls under way at once, at most.
        first_alone: number 0 is finished before the others begin; where it fails, they begin only when the caller
            asks for the next result. So a caller that gives up has spent one request.

    Closing the iterator (or an exception in the caller, Ctrl-C too) cancels what is under way and ends the loop. Any
    exception of ``work`` other than RequestFailed ends everything and is raised here.
    """
    arrivals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    running: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any], asyncio.Event]] = queue.SimpleQueue()

    async def one(client: C, number: int) -> None:
        try:
            arrivals.put((number, await work(client, number)))
        except RequestFailed as failure:
            arrivals.put((number, failure))

    async def worker(client: C, numbers: Iterator[int]) -> None:
        for number in numbers:
            await one(client, number)

    async def main() -> None:
        go_on = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        running.put((asyncio.get_running_loop(), task, go_on))
        async with connect() as client:
            numbers = iter(range(count))
            if first_alone and count:
                await one(client, next(numbers))
                await go_on.wait()
            async with asyncio.TaskGroup() as group:
                for _ in range(min(in_flight, count)):
                    group.create_task(worker(client, numbers))

    def body() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            error = group.exceptions[0]
        except BaseException as raised:
            error = raised
        finally:
            arrivals.put(_Over(error))

    thread = threading.Thread(target=body, name="compatcheck-endpoint", daemon=True)
    thread.start()
    loop, task, go_on = running.get()
    try:
        while not isinstance(arrival := arrivals.get(), _Over):
            yield arrival
            if arrival[0] == 0 and first_alone:
                with contextlib.suppress(RuntimeError):  # the loop ended by an error, which comes next
                    loop.call_soon_threadsafe(go_on.set)
        if arrival.error is not None:
            raise arrival.error
    finally:
        with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
            loop.call_soon_threadsafe(task.cancel)
        thread.join(_ENDING_SECONDS)


def call_once(connect: Callable[[], AbstractAsyncContextManager[C]], work: Callable[[C], Awaitable[T]]) -> T:
    """One call with a client of its own.

    Raises:
        RequestFailed: it failed.
    """
    results = list(fly(connect, lambda client, _: work(client), 1, 1))
    outcome = results[0][1]
    if isinstance(outcome, RequestFailed):
        raise outcome
    return outcome
