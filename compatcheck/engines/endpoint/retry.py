"""Which failures are tried again, how often, and after how long."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime
from typing import Any

REFUSED = "refused"
"""The server answers every request so: no access, no such page or model, nobody there."""
TROUBLE = "trouble"
"""Busy, broken, silent or cut: another try may succeed."""
REQUEST = "request"
"""This request alone: too long, not understood, an answer that makes no sense."""

LONGEST_WAIT = 60.0
LONGEST_RETRY_AFTER = 300.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_FEW = 2


class RequestFailed(Exception):
    """A request without a usable answer.

    Attributes:
        kind: ``refused``, ``trouble`` or ``request``.
        status: HTTP status, or None where there was none.
        most_retries: how often it may be tried again at most; 0 for what would end the same.
        retry_after: seconds the server asks to wait, or None.
    """

    def __init__(
        self,
        message: str,
        kind: str,
        *,
        status: int | None = None,
        most_retries: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.most_retries = most_retries
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        """One line, as it stands in the record."""
        return str(self.args[0])

    def after(self, tries: int) -> RequestFailed:
        """The same, saying how often it was tried."""
        if tries < 2:
            return self
        return RequestFailed(f"{self.message} ({tries} tries)", self.kind, status=self.status)


def of_status(status: int, said: str, headers: Any) -> RequestFailed:
    """The failure that an HTTP status other than 200 means. ``said`` is the server's own message."""
    text = f"HTTP {status}" + (f": {said}" if said else "")
    if status == 429 and "insufficient_quota" in said:
        return RequestFailed(text, REFUSED, status=status)
    if status in _AGAIN or status >= 520:
        return RequestFailed(
            text, TROUBLE, status=status, most_retries=1 << 30, retry_after=read_retry_after(headers.get("Retry-After"))
        )
    if status in (401, 403, 404, 405, 410) or 300 <= status < 400 or status >= 500:
        return RequestFailed(text, REFUSED, status=status)
    return RequestFailed(text, REQUEST, status=status)


def malformed(what: str) -> RequestFailed:
    """An answer with status 200 that is none. Tried again a few times: a gateway may have put it in the way."""
    return RequestFailed(what, REQUEST, most_retries=_FEW)


def timed_out(seconds: float) -> RequestFailed:
    """Tried again once only: each try costs the whole time limit."""
    return RequestFailed(f"no answer within {seconds:g} s", TROUBLE, most_retries=1)


def cut(what: str) -> RequestFailed:
    """The connection broke, or could not be made."""
    return RequestFailed(what, TROUBLE, most_retries=1 << 30)


def read_retry_after(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` header: a number, or a date. None where it says nothing usable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None


def wait_before(retry: int, first: float, retry_after: float | None) -> float:
    """Seconds before retry number 0, 1, …: doubled each time up to a minute, of which a random half is left away so
    that requests that failed together do not come back together; at least what the server asks for.
    """
    longest = min(LONGEST_WAIT, first * 2 ** min(retry, 30))
    return max(longest * random.uniform(0.5, 1.0), retry_after or 0.0)
