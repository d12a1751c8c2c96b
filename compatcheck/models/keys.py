"""Keys of servers: they come from the environment and go nowhere but into the header of a request to their host."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from compatcheck.errors import InputError

KEY, OPENAI_KEY = "COMPATCHECK_API_KEY", "OPENAI_API_KEY"
PLAIN_HOSTS = "COMPATCHECK_HTTP_KEY_HOSTS"
"""Environment variable: hosts, with commas between, that get their key over plain http."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SECRET = re.compile(r"(api|access|auth)[-_]?(key|token)|authorization|password|secret|bearer|^header", re.IGNORECASE)
_SHORTEST_QUOTED, _SHORTEST_SECRET = 4, 16


def api_key(url: str, name: str | None = None) -> str | None:
    """The key for an address, from the environment; None where there is none for its host.

    That of ``name`` where it is given; else ``COMPATCHECK_API_KEY_<HOST>`` (capitals, ``__`` for a hyphen, ``_`` for
    a dot or colon), with or without the port. ``COMPATCHECK_API_KEY`` is for loopback alone, ``OPENAI_API_KEY`` for
    loopback, api.openai.com and the host of ``OPENAI_BASE_URL``. Raises InputError: ``name`` is not set, a key that no
    header can hold, or one that would go over plain http to another machine whose host :data:`PLAIN_HOSTS` does not
    name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    names = [name] if name else [key_variable(one) for one in (parts.netloc, host)]
    if not name and is_loopback(url):
        names.append(KEY)
    if not name and (is_loopback(url) or host in _openai_hosts()):
        names.append(OPENAI_KEY)
    found = next((one for one in names if os.environ.get(one, "").strip()), None)
    if found is None:
        if name:
            raise InputError(f"--api-key-env {name}: this environment variable is not set")
        return None
    value = os.environ[found].strip()
    if not value.isascii() or not value.isprintable():
        raise InputError(f"{found}: the key holds characters that a header cannot; set it again")
    allowed = [one.strip().lower() for one in os.environ.get(PLAIN_HOSTS, "").split(",")]
    if parts.scheme == "http" and not is_loopback(url) and host not in allowed:
        raise InputError(
            f"{url}: {found} would go over the network unencrypted; name the server with https, or allow it with "
            f"{PLAIN_HOSTS}={host}"
        )
    return value


def key_variable(host: str) -> str:
    """Name of the environment variable with the key of a host: ``a-b.com`` has another than ``a.b.com``, which may be
    somebody else's."""
    told_apart = host.replace("_", "___").replace("-", "__")
    return f"{KEY}_{re.sub(r'[^A-Za-z0-9]', '_', told_apart).upper()}"


def _openai_hosts() -> set[str]:
    with contextlib.suppress(ValueError):
        return {"api.openai.com", urlsplit(os.environ.get("OPENAI_BASE_URL", "")).hostname or "api.openai.com"}
    return {"api.openai.com"}


def key_hint(url: str, name: str | None = None) -> str:
    """What to do about a refused key."""
    if api_key(url, name) is not None:
        return "check the key in the environment"
    if is_loopback(url):
        return f"set {KEY} (or {OPENAI_KEY})"
    unused = [one for one in (KEY, OPENAI_KEY) if os.environ.get(one)]
    return f"set {key_variable(urlsplit(url).hostname or '')}" + (
        f" ({' and '.join(unused)} are not sent to this host)" if unused else ""
    )


def without_secret(text: str, key: str | None, *, answer: bool = False) -> str:
    """The text with every occurrence of the key blanked: servers quote it in their messages. In what a model wrote
    (``answer``) only what is long enough to be a secret is: a made-up key like ``EMPTY`` may be a word of the text."""
    return text.replace(key, "***") if key and len(key) >= (_SHORTEST_SECRET if answer else _SHORTEST_QUOTED) else text


def refuse_secrets(engine_args: Mapping[str, Any]) -> None:
    """Raises InputError for a key among an engine's arguments: they and the command line are kept in reports."""
    for name in engine_args:
        if _SECRET.search(str(name)):
            raise InputError(
                f"--engine-arg {name}: would stand in reports; set the key in the environment "
                f"({KEY}_<HOST>, {KEY} or {OPENAI_KEY}) instead"
            )


def is_loopback(url: str) -> bool:
    """Whether the server is this machine: no proxy is asked then, and a key travels over no network."""
    return urlsplit(url).hostname in _LOOPBACK
