"""One HTTP client: JSON in, JSON out, retries, and no secret in anything that leaves it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import aiohttp

from compatcheck import endpoints
from compatcheck.engines.endpoint import retry
from compatcheck.engines.endpoint.options import Options
from compatcheck.engines.endpoint.retry import RequestFailed

T = TypeVar("T")
MOST_BYTES = 64 << 20
"""Longest answer read; log-probabilities of 100,000 tokens take about 10 MiB."""
_CONNECT_SECONDS = 30.0
_MESSAGE = 200


class Client:
    """Asks one server. Lives in one event loop: ``async with Client(url, options) as client``."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._options = options
        self._key = endpoints.api_key(url)
        self._not_before = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._options.in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=self._options.timeout, sock_connect=min(_CONNECT_SECONDS, self._options.timeout)
            ),
            headers=headers,
            trust_env=not endpoints.is_loopback(self._url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """What ``read`` takes from the JSON answer to a JSON body.

        Args:
            path: below the server's address, or a whole URL on it.
            read: may raise RequestFailed where the answer makes no sense; that is tried again like any failure.

        Raises:
            RequestFailed: after as many tries as are worth it.
        """
        url = path if path.startswith("http") else self._url + path
        tries = 0
        while True:
            await self._pause()
            tries += 1
            try:
                return read(await self._once(url, body))
            except RequestFailed as failure:
                if tries > min(self._options.retries, failure.most_retries):
                    raise failure.after(tries) from None
                asked = failure.retry_after
                if asked is not None and asked > retry.LONGEST_RETRY_AFTER:
                    raise RequestFailed(
                        f"{failure.message}; the server asks to wait {asked:.0f} s", failure.kind, status=failure.status
                    ) from None
                wait = retry.wait_before(tries - 1, self._options.backoff, asked)
                if asked is not None:  # meant for everyone who has the same key
                    self._not_before = max(self._not_before, time.monotonic() + asked)
            await asyncio.sleep(wait)

    async def _pause(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _once(self, url: str, body: Mapping[str, Any]) -> Any:
        assert self._session is not None, "the client is not open"
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                text = await self._read(response)
                if response.status != 200:
                    raise retry.of_status(response.status, self._said(text), response.headers)
                kind = response.content_type
        except TimeoutError:
            raise retry.timed_out(self._options.timeout) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise retry.cut(f"connection failed: {self._clean(reason)}") from None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise retry.malformed(f"the answer is not JSON ({self._clean(kind)})") from None

    async def _read(self, response: aiohttp.ClientResponse) -> str:
        parts, size = [], 0
        async for part in response.content.iter_chunked(1 << 16):
            size += len(part)
            if size > MOST_BYTES:
                raise RequestFailed(f"the answer is longer than {MOST_BYTES >> 20} MiB", retry.REQUEST)
            parts.append(part)
        return endpoints.without_secret(b"".join(parts).decode("utf-8", errors="replace"), self._key, answer=True)

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
        line = endpoints.without_secret(line, self._key)
        return line if len(line) <= _MESSAGE else line[: _MESSAGE - 1] + "…"
