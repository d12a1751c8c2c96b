"""OpenAI-compatible servers as OLD or NEW: the address, the key that opens it, and what it says of its models.

An address is ``http://host:port/v1#model``. It is written into reports, so nothing secret may stand in it: the key
comes from the environment and goes nowhere but into the header of a request. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from compatcheck.errors import InputError, did_you_mean

KEY_NAMES = ("COMPATCHECK_API_KEY", "OPENAI_API_KEY")
"""Where the key is looked for, after ``COMPATCHECK_API_KEY_<HOST>``."""
_PATHS = ("/chat/completions", "/completions", "/models")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TELLS_THE_TIME = {"vllm", "sglang"}
"""Servers whose ``created`` is the time of the answer, not of the model."""
_LISTS_ALL = {"vllm", "sglang"}
"""Servers that list every model they have; a gateway may know more than it lists."""
_TIMEOUT, _TRIES, _MOST_BYTES = 20.0, 3, 8 << 20
_SECRET = re.compile(r"(api|access|auth)[-_]?(key|token)|authorization|password|secret|bearer|^header", re.IGNORECASE)
_SHORTEST_QUOTED, _SHORTEST_SECRET = 4, 16


@dataclass(frozen=True)
class Endpoint:
    """One model of one server. ``card`` is what ``/models`` says of the model, less what changes between two calls."""

    url: str
    model: str
    card: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        return f"{self.url}#{self.model}"

    def fingerprint(self) -> str:
        """Fingerprint of address, model and card. It says nothing about weights: no server tells them."""
        told = json.dumps([self.url, self.model, self.card], sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(f'compatcheck.endpoint/1|{told}'.encode()).hexdigest()[:16]}"


def is_endpoint(text: str) -> bool:
    """Whether a reference names a server."""
    return re.match(r"https?:", text, re.IGNORECASE) is not None


def locate(text: str) -> Endpoint:
    """Parse an address and ask the server for its models.

    Raises:
        InputError: not an address, a secret in it, nobody there, no access, or several models and none named.
    """
    url, model = parse(text)
    cards = _list_models(url)
    names = [str(card["id"]) for card in cards or []]
    if model is not None:
        whole = names and all(card.get("owned_by") in _LISTS_ALL for card in cards or [])
        if whole and model not in names:
            raise InputError(
                f"{url}: has no model {model}{did_you_mean(model, names)}; it lists: {', '.join(names[:20])}"
            )
        return Endpoint(url, model, next((card for card in cards or [] if card["id"] == model), {}))
    if len(names) == 1:
        return Endpoint(url, names[0], (cards or [])[0])
    if cards is None:
        raise InputError(
            f"{url}: the server lists no models (no {url}/models), so name one: {url}#MODEL; does the address end as "
            "it should, in most cases with /v1?"
        )
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    raise InputError(
        f"{url}: the server has {len(names)} models, name one as {url}#MODEL: {listed}"
        if names
        else f"{url}: the server lists no model; name one as {url}#MODEL"
    )


def parse(text: str) -> tuple[str, str | None]:
    """Address and model name (None where none is given), cleaned.

    Raises:
        InputError: not an address, or one with a user name, password or query: it would be written into reports. The
            message holds none of these.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InputError("an endpoint is written http://host:port/v1#model: this address cannot be read") from None
    host = parts.hostname
    if not host or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise InputError("an endpoint is written http://host:port/v1#model: this address has no host, or spaces in it")
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    key = f"give the key in the environment, as {KEY_NAMES[0]}"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise InputError(f"{shown}: the address holds a user name or password and would stand in reports; {key}")
    if parts.query:
        raise InputError(f"{shown}: the address holds a query (?…) and would stand in reports; leave it away, {key}")
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        if path.endswith(ending):
            raise InputError(f"{shown}{path}: give the address without {ending}: {shown}{path.removesuffix(ending)}")
    return shown + path, _model_of(parts)


def _model_of(parts: SplitResult) -> str | None:
    return parts.fragment or None


def api_key(url: str) -> str | None:
    """The key for an address: ``COMPATCHECK_API_KEY_<HOST>`` (capitals, ``_`` for what is no letter or digit), with or
    without the port, else ``COMPATCHECK_API_KEY``, else ``OPENAI_API_KEY``, else None.

    Raises:
        InputError: a key with characters that no header can hold.
    """
    parts = urlsplit(url)
    hosts = [parts.netloc, parts.hostname or ""]
    names = [f"{KEY_NAMES[0]}_{re.sub(r'[^A-Za-z0-9]', '_', host).upper()}" for host in hosts]
    for name in dict.fromkeys([*names, *KEY_NAMES]):
        value = os.environ.get(name, "").strip()
        if value:
            if not value.isascii() or not value.isprintable():
                raise InputError(f"{name}: the key holds characters that a header cannot; set it again")
            return value
    return None


def without_secret(text: str, key: str | None, *, answer: bool = False) -> str:
    """The text with every occurrence of the key blanked: servers quote it in their messages. In what a model wrote
    (``answer``) only what is long enough to be a secret is: a made-up key like ``EMPTY`` may be a word of the text.
    """
    return text.replace(key, "***") if key and len(key) >= (_SHORTEST_SECRET if answer else _SHORTEST_QUOTED) else text


def refuse_secrets(engine_args: Mapping[str, Any]) -> None:
    """Raises InputError for a key among an engine's arguments: they and the command line are kept in reports."""
    for name in engine_args:
        if _SECRET.search(str(name)):
            raise InputError(
                f"--engine-arg {name}: would stand in reports; set the key in the environment "
                f"({' or '.join(KEY_NAMES)}) instead"
            )


def is_loopback(url: str) -> bool:
    """Whether the server is this machine: no proxy is asked then, and a key travels over no network."""
    return urlsplit(url).hostname in _LOOPBACK


def key_hint(url: str) -> str:
    """What to do about a refused key."""
    return f"set {KEY_NAMES[0]} (or {KEY_NAMES[1]})" if api_key(url) is None else "check the key in the environment"


def model_names(url: str) -> list[str]:
    """Names that the server lists; none where it does not say."""
    try:
        return [str(card["id"]) for card in _list_models(url) or []]
    except InputError:
        return []


def not_found(endpoint: Endpoint, said: str) -> InputError:
    """The error for a page or model that the server does not know, with the models it lists."""
    names = model_names(endpoint.url)
    if endpoint.model in names:
        return InputError(
            f"{endpoint.text}: {said}; the model is listed, so the page is missing: is the address right?"
        )
    listed = (
        f"; it lists: {', '.join(names[:20])}" if names else "; does the address end as it should, mostly with /v1?"
    )
    return InputError(f"{endpoint.text}: {said}{did_you_mean(endpoint.model, names)}{listed}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _list_models(url: str) -> list[dict[str, Any]] | None:
    """What ``/models`` lists, or None where the server has no such page."""
    key = api_key(url)
    request = urllib.request.Request(f"{url}/models", headers={"Accept": "application/json"})
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    handlers: list[Any] = [_NoRedirect()]
    if is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                body, date = _read(response), response.headers.get("Date")
            return _cards(json.loads(without_secret(body.decode("utf-8"), key, answer=True)), date)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise InputError(f"{url}: no access (HTTP {error.code}); {key_hint(url)}") from None
            if 300 <= error.code < 400:
                raise InputError(f"{url}: redirects elsewhere (HTTP {error.code}); give the final address") from None
            if error.code not in (408, 429) and error.code < 500:
                return None
            problem = f"HTTP {error.code}"
        except (ValueError, KeyError, TypeError, RecursionError):  # not JSON, or not the list that it should be
            return None
        except OSError as error:
            problem = _reason(error)
    raise InputError(f"{url}: the server does not answer ({without_secret(problem, key)}); is it running, and here?")


def _read(response: Any) -> bytes:
    """At most 8 MiB within the time limit."""
    until, parts, size = time.monotonic() + _TIMEOUT, [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES or time.monotonic() > until:
            raise ValueError("too long")
    return b"".join(parts)


def _reason(error: OSError) -> str:
    inner = getattr(error, "reason", None) or error
    if isinstance(inner, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(str(text).split())[:200]


def _cards(listed: Any, date: str | None) -> list[dict[str, Any]]:
    """Cards without what changes from call to call: permissions, and ``created`` where it is the time of the answer."""
    now = time.time()
    if date:
        with contextlib.suppress(ValueError):
            now = parsedate_to_datetime(date).timestamp()
    cards = []
    for card in listed["data"] if isinstance(listed, dict) else listed:
        if not isinstance(card["id"], str):
            raise ValueError("a model without a name")
        kept = {name: value for name, value in card.items() if name not in ("permission", "created", "object")}
        created = card.get("created")
        if created is not None and card.get("owned_by") not in _TELLS_THE_TIME:
            told = isinstance(created, int | float) and abs(created - now) <= 2
            kept |= {} if told else {"created": created}
        cards.append(kept)
    return cards
