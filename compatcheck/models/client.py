"""The HTTP client for servers of models: JSON in, JSON out, tried again where that helps, no secret in what it says."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import queue
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from anyio.from_thread import start_blocking_portal
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from compatcheck.errors import InputError
from compatcheck.models.events import Reader
from compatcheck.models.keys import is_loopback, without_secret

T = TypeVar("T")
REFUSED = "refused"
"""The server answers every request so: no access, no such page or model, nobody there."""
TROUBLE = "trouble"
"""Busy, broken, silent or cut: another try may succeed."""
REQUEST = "request"
"""This request alone: too long, not understood, an answer that makes no sense."""
MOST_BYTES = 64 << 20
"""Longest answer read; log-probabilities of 100,000 tokens take about 10 MiB."""
LONGEST_WAIT, LONGEST_RETRY_AFTER = 60.0, 300.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_ALWAYS = 1 << 30
_CONNECT_SECONDS = 30.0
_SHOWN = 200
_CONNECTIONS = 16
"""Of one pool: the time that httpcore takes for a request grows with the square of the connections in its pool."""


class RequestFailed(Exception):
    """A request without a usable answer.

    Attributes:
        kind: :data:`REFUSED`, :data:`TROUBLE` or :data:`REQUEST`.
        status: HTTP status, or None where there was none.
        most_retries: how often it may be tried again at most; 0 for what would end the same.
        retry_after: seconds the server asks to wait, or None.
        tries: how often it was tried.
        parameter: the field of the request that the server says it is about, or None.
    """

    def __init__(
        self, reason: str, kind: str = REQUEST, *, status: int | None = None, most_retries: int = 0,
        retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.reason, self.kind, self.status = reason, kind, status
        self.most_retries, self.retry_after, self.tries = most_retries, retry_after, 1
        self.parameter: str | None = None

    @property
    def message(self) -> str:
        """One line, as it stands in the record."""
        if self.retry_after is not None and self.retry_after > LONGEST_RETRY_AFTER:
            return f"{self.reason}; the server asks to wait {self.retry_after:.0f} s"
        return self.reason if self.tries < 2 else f"{self.reason} ({self.tries} tries)"


def malformed(what: str) -> RequestFailed:
    """An answer with status 200 that is none. Tried again twice: a gateway may have put it in the way."""
    return RequestFailed(what, most_retries=2)


def _of_status(status: int, said: str, retry_after: str | None) -> RequestFailed:
    """The failure that an HTTP status other than 200 means. ``said`` is the server's own message."""
    text = f"HTTP {status}" + (f": {said}" if said else "")
    if status == 429 and "insufficient_quota" in said:
        return RequestFailed(text, REFUSED, status=status)
    if status in _AGAIN or status >= 520:
        wait = _read_retry_after(retry_after)
        return RequestFailed(text, TROUBLE, status=status, most_retries=_ALWAYS, retry_after=wait)
    refused = status in (401, 403, 404, 405, 410) or 300 <= status < 400 or status >= 500
    return RequestFailed(text, REFUSED if refused else REQUEST, status=status)


def _read_retry_after(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` header, a number or a date; None where it says nothing usable."""
    try:
        seconds = float(value or "nan")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None


class Client:
    """Asks one server: ``async with Client(url) as client``.

    Redirects are not followed, cookies not kept, netrc not read; proxies are the environment's, none on loopback."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 300.0, retries: int = 5, backoff: float = 0.5,
        in_flight: int = 16,
    ) -> None:  # fmt: skip
        """``timeout``: seconds for one answer, from sending to its last byte; ``retries``: how often a request is sent
        again at most, ``backoff`` seconds before the first one, doubled each time, of which a random part is waited.
        Raises InputError: the environment names a proxy that cannot be used."""
        self._url, self._key, self._timeout, self._retries = url, key, timeout, retries
        self._backoff = wait_random_exponential(multiplier=backoff, max=LONGEST_WAIT)
        self._not_before = 0.0
        self.date: str | None = None
        """What the server's clock said with the last answer."""
        host = urlsplit(url)
        proxy = None
        if not is_loopback(url) and not urllib.request.proxy_bypass(host.hostname or ""):
            proxies = urllib.request.getproxies()
            proxy = proxies.get(host.scheme) or proxies.get("all")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        verify = ssl.create_default_context() if host.scheme == "https" else False
        try:
            self._pools = [
                httpx.AsyncClient(
                    headers=headers,
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    timeout=httpx.Timeout(None, connect=min(_CONNECT_SECONDS, timeout)),
                    limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
                    verify=verify,
                    proxy=proxy,
                    trust_env=False,
                )
                for _ in range(0, in_flight, _CONNECTIONS)
            ]
            self._busy = [0] * len(self._pools)
        except (ImportError, ValueError) as error:  # SOCKS without its package, an address that is none
            raise InputError(f"{url}: the proxy that the environment names cannot be used: {error}") from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools:
            await pool.aclose()

    async def ask(self, path: str, read: Callable[[Any], T], body: Mapping[str, Any] | None = None) -> T:
        """What ``read`` takes from the JSON answer to a JSON body, or to a GET without one. ``path`` is below the
        server's address, or a whole URL on it; ``read`` may raise RequestFailed where the answer makes no sense, which
        is tried again like any failure. Raises RequestFailed: after as many tries as are worth it."""
        return await self.ask_timed(path, lambda answer, _: read(answer), body)

    async def ask_timed(self, path: str, read: Callable[[Any, float], T], body: Mapping[str, Any] | None = None) -> T:
        """As :meth:`ask`; ``read`` also gets the seconds that the answer took, without those of earlier tries. What a
        server streams (``text/event-stream``) is :class:`~compatcheck.models.events.Events`."""
        url = path if path.startswith("http") else self._url + path
        retrying = AsyncRetrying(retry=self._worth_another, wait=self._wait)

        async def once() -> T:
            while (left := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(left)
            return read(*await self._once(url, body))

        try:
            return await retrying(once)
        except RequestFailed as failure:
            failure.tries = retrying.statistics["attempt_number"]
            raise

    def _worth_another(self, state: RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        if not isinstance(failure, RequestFailed) or (failure.retry_after or 0) > LONGEST_RETRY_AFTER:
            return False
        return state.attempt_number <= min(self._retries, failure.most_retries)

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, RequestFailed) else None
        if asked is not None:  # meant for everyone who has the same key
            self._not_before = max(self._not_before, time.monotonic() + asked)
        return max(self._backoff(state), asked or 0.0)

    async def _once(self, url: str, body: Mapping[str, Any] | None) -> tuple[Any, float]:
        """The answer, and the seconds from asking to its last byte."""
        parts: list[bytes] = []
        stream = Reader(lambda text: without_secret(text, self._key, answer=True))
        streams, began = False, time.perf_counter()
        place = self._busy.index(min(self._busy))
        self._busy[place] += 1
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._pools[place].stream("GET" if body is None else "POST", url, json=body) as response,
            ):
                size = 0
                kind = response.headers.get("Content-Type", "no type").partition(";")[0].strip()
                streams = response.status_code == 200 and kind == "text/event-stream"
                async for part in response.aiter_bytes(None if streams else 1 << 16):
                    size += len(part)
                    if size > MOST_BYTES:
                        raise RequestFailed(f"the answer is longer than {MOST_BYTES >> 20} MiB")
                    if streams:
                        stream.feed(part, time.perf_counter() - began)
                    else:
                        parts.append(part)
            seconds = time.perf_counter() - began
        except (TimeoutError, httpx.TimeoutException):  # tried again once only: each try costs the whole time limit
            raise RequestFailed(f"no answer within {self._timeout:g} s", TROUBLE, most_retries=1) from None
        except (httpx.HTTPError, OSError) as error:
            reason = self._clean(_reason(error))
            raise RequestFailed(f"connection failed: {reason}", TROUBLE, most_retries=_ALWAYS) from None
        finally:
            self._busy[place] -= 1
        self.date = response.headers.get("Date")
        if streams:
            if (events := stream.finish(seconds)) is None:
                raise malformed("a piece of the streamed answer is not JSON")
            return events, seconds
        text = without_secret(b"".join(parts).decode("utf-8", errors="replace"), self._key, answer=True)
        if response.status_code != 200:
            failure = _of_status(response.status_code, self._said(text), response.headers.get("Retry-After"))
            failure.parameter = _parameter(text)
            raise failure
        try:
            return json.loads(text), seconds
        except (ValueError, RecursionError):
            raise malformed(f"the answer is not JSON ({self._clean(kind)})") from None

    def _said(self, text: str) -> str:
        """The message in an error answer, in whichever of the usual places it stands."""
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            return "" if text.lstrip().startswith("<") else self._clean(text)
        code = ""
        for _ in range(3):
            if isinstance(found, dict):
                code = code or str(found.get("code") or "")
                found = next((found[name] for name in ("error", "message", "detail", "msg") if found.get(name)), "")
            elif isinstance(found, list):
                found = found[0] if found else ""
        message = self._clean(str(found))
        return f"{message} ({code})" if code and not code.isdigit() and code not in message else message

    def _clean(self, text: str) -> str:
        """One printable line without the key."""
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        line = without_secret(line, self._key)
        return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _parameter(text: str) -> str | None:
    """The field that an error answer names: ``param`` of OpenAI's, the end of ``loc`` of a validation error."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(3):
        if isinstance(found, list):
            found = found[0] if found else None
        if not isinstance(found, dict):
            return None
        place = found.get("param") or found.get("loc")
        if place:
            return str(place[-1] if isinstance(place, list) else place)
        found = found.get("error") or found.get("detail")
    return None


def _reason(error: BaseException) -> str:
    """What the operating system says of a connection, below what the libraries make of it."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if isinstance(inner, OSError) and inner.errno is not None:
            return os.strerror(inner.errno) if inner.errno in errno.errorcode else str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return str(error).removesuffix(".") or type(error).__name__


def run_concurrently(
    connect: Callable[[], Client], work: Callable[[Client, int], Awaitable[T]], count: int, in_flight: int
) -> Generator[tuple[int, T | RequestFailed], None, None]:
    """Yield (number, result or failure) of ``work(client, number)`` for the numbers below ``count``, as they come.

    At most ``in_flight`` are under way or wait to be taken. Number 0 comes first: the others begin when the caller asks
    for the next result, so a caller that gives up has spent one request. Closing the iterator (or an exception in the
    caller, Ctrl-C too) cancels what is under way. Any exception of ``work`` other than RequestFailed is raised here.

    The event loop runs in a thread of its own, so that this works inside a notebook, whose main thread has one already;
    results are taken by the caller's thread: what it does with them needs no locks."""
    arrived: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
    numbers = iter(range(count))
    pending: dict[Future[T], int] = {}
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connect()) as client:

        def start(most: int) -> None:
            while len(pending) < most and (number := next(numbers, None)) is not None:
                future = portal.start_task_soon(work, client, number)
                pending[future] = number
                future.add_done_callback(arrived.put)

        try:
            start(1)
            while pending:
                done = arrived.get()
                number = pending.pop(done)
                if number:
                    start(in_flight)
                failure = done.exception()
                yield number, failure if isinstance(failure, RequestFailed) else done.result()
                start(in_flight)
        finally:
            for future in pending:
                future.cancel()


def call_once(connect: Callable[[], Client], work: Callable[[Client], Awaitable[T]]) -> T:
    """One call with a client of its own. Raises RequestFailed: it failed."""
    ((_, outcome),) = run_concurrently(connect, lambda client, _: work(client), 1, 1)
    if isinstance(outcome, RequestFailed):
        raise outcome
    return outcome
