"""OpenAI-compatible servers as OLD or NEW: the address, the key that opens it, and what it says of its models.

An address is ``http://host:port/v1#model``. It is written into reports, so nothing secret may stand in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from compatcheck.errors import InputError, did_you_mean
from compatcheck.models.keys import api_key, key_hint, key_variable

_PATHS = ("/chat/completions", "/completions", "/models")
_VLLM_LIKE = {"vllm", "sglang"}
"""Servers that list every model they have (a gateway may know more than it lists), and whose ``created`` is the time of
the answer, not of the model."""


@dataclass(frozen=True)
class Endpoint:
    """One model of one server. ``card`` is what ``/models`` says of the model, less what changes between two calls;
    ``key_name`` the environment variable of its key, where the user named one."""

    url: str
    model: str
    card: Mapping[str, Any] = field(default_factory=dict, hash=False)
    key_name: str | None = field(default=None, compare=False)

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


def locate(text: str, key_name: str | None = None) -> Endpoint:
    """Parse an address and ask the server for its models. Raises InputError: not an address, a secret in it, nobody
    there, no access, or several models and none named."""
    url, model = parse(text)
    cards = _list_models(url, key_name)
    names = [str(card["id"]) for card in cards or []]
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    if model is not None:
        whole = names and all(card.get("owned_by") in _VLLM_LIKE for card in cards or [])
        if whole and model not in names:
            raise InputError(f"{url}: has no model {model}{did_you_mean(model, names)}; it lists: {listed}")
        card = next((card for card in cards or [] if card["id"] == model), {})
        return Endpoint(url, model, card, key_name)
    if len(names) == 1:
        return Endpoint(url, names[0], (cards or [])[0], key_name)
    if cards is None:
        raise InputError(
            f"{url}: the server lists no models (no {url}/models), so name one: {url}#MODEL; does the address end as "
            "it should, in most cases with /v1?"
        )
    raise InputError(
        f"{url}: the server has {len(names)} models, name one as {url}#MODEL: {listed}"
        if names
        else f"{url}: the server lists no model; name one as {url}#MODEL"
    )


def parse(text: str) -> tuple[str, str | None]:
    """Address and model name (None where none is given), cleaned. Raises InputError: not an address, or one with a user
    name, password or query: it would be written into reports. The message holds none of these."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InputError("an endpoint is written http://host:port/v1#model: this address cannot be read") from None
    host = parts.hostname
    if not host or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise InputError("an endpoint is written http://host:port/v1#model: this address has no host, or spaces in it")
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    key = f"give the key in the environment, as {key_variable(host)}"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise InputError(f"{shown}: the address holds a user name or password and would stand in reports; {key}")
    if parts.query:
        raise InputError(f"{shown}: the address holds a query (?…) and would stand in reports; leave it away, {key}")
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        if path.endswith(ending):
            raise InputError(f"{shown}{path}: give the address without {ending}: {shown}{path.removesuffix(ending)}")
    return shown + path, parts.fragment or None


def model_names(url: str, key_name: str | None = None) -> list[str]:
    """Names that the server lists; none where it does not say."""
    try:
        return [str(card["id"]) for card in _list_models(url, key_name) or []]
    except InputError:
        return []


def not_found(endpoint: Endpoint, said: str) -> InputError:
    """The error for a page or model that the server does not know, with the models it lists."""
    names = model_names(endpoint.url, endpoint.key_name)
    if endpoint.model in names:
        return InputError(
            f"{endpoint.text}: {said}; the model is listed, so the page is missing: is the address right?"
        )
    listed = (
        f"; it lists: {', '.join(names[:20])}" if names else "; does the address end as it should, mostly with /v1?"
    )
    return InputError(f"{endpoint.text}: {said}{did_you_mean(endpoint.model, names)}{listed}")


def _list_models(url: str, key_name: str | None) -> list[dict[str, Any]] | None:
    """What ``/models`` lists, or None where the server has no such page."""
    from compatcheck.models.client import TROUBLE, Client, RequestFailed, call_once, malformed

    key = api_key(url, key_name)

    async def ask(client: Client) -> list[dict[str, Any]]:
        def read(answer: Any) -> list[dict[str, Any]]:
            try:
                return _cards(answer, client.date)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise malformed("no list of models") from None

        return await client.ask("/models", read)

    try:
        return call_once(lambda: Client(url, key, timeout=20.0, retries=2), ask)
    except RequestFailed as failure:
        status = failure.status or 0
        if status in (401, 403):
            raise InputError(f"{url}: no access (HTTP {status}); {key_hint(url, key_name)}") from None
        if 300 <= status < 400:
            raise InputError(f"{url}: redirects elsewhere (HTTP {status}); give the final address") from None
        if failure.kind == TROUBLE or status >= 500:
            reason = failure.reason.removeprefix("connection failed: ")
            raise InputError(f"{url}: the server does not answer ({reason}); is it running, and here?") from None
        return None


def _cards(listed: Any, date: str | None) -> list[dict[str, Any]]:
    """Cards without what changes from call to call: permissions, and ``created`` where it is the time of the answer."""
    now = time.time()
    if date:
        from email.utils import parsedate_to_datetime

        with contextlib.suppress(ValueError):
            now = parsedate_to_datetime(date).timestamp()
    cards = []
    for card in listed["data"] if isinstance(listed, dict) else listed:
        if not isinstance(card["id"], str):
            raise ValueError("a model without a name")
        kept = {name: value for name, value in card.items() if name not in ("permission", "created", "object")}
        created = card.get("created")
        if created is not None and card.get("owned_by") not in _VLLM_LIKE:
            told = isinstance(created, int | float) and now - 2 <= created <= now + 2
            kept |= {} if told else {"created": created}
        cards.append(kept)
    return cards
