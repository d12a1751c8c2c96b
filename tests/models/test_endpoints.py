from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck.models.client import Client, call_once
from compatcheck.models.endpoints import Endpoint, locate, model_names, not_found, parse
from compatcheck.models.keys import api_key, key_hint, without_secret
from compatcheck.references import resolve
from tests.engines.endpoint.servers import Handler, serving

SECRET = "sk-do-not-show-0123456789"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost:8000/v1#tiny", ("http://localhost:8000/v1", "tiny")),
        ("https://API.Example.com/v1/#org/name:free@2", ("https://api.example.com/v1", "org/name:free@2")),
        ("HTTP://[::1]:80/v1", ("http://[::1]:80/v1", None)),
        ("http://host", ("http://host", None)),
    ],
)
def test_addresses(text: str, expected: tuple[str, str | None]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"http://me:{SECRET}@host/v1#m", "holds a user name or password .* COMPATCHECK_API_KEY"),
        (f"https://{SECRET}@host:9/v1", "https://host:9: the address holds a user name"),
        (f"http://host/v1?api_key={SECRET}#m", "holds a query"),
        ("http://host/v1/chat/completions#m", "give the address without /chat/completions: http://host/v1"),
        ("http://host/v1/models", "without /models"),
        ("http://host:port/v1", "cannot be read"),
        ("http:///v1", "no host"),
        ("http:host", "no host"),
        ("http://ho st/v1", "spaces"),
        ("http://host/v1\n", "spaces"),
    ],
)
def test_addresses_that_are_none_or_would_show_a_secret(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as told:
        resolve(text)
    assert SECRET not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPATCHECK_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "COMPATCHECK_HTTP_KEY_HOSTS"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_goes_to_its_host_alone(no_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    url, here = "https://api.example.com:8443/v1", "http://127.0.0.1:8000/v1"
    monkeypatch.setenv("OPENAI_API_KEY", " openai \n")
    assert api_key(here) == api_key("https://api.openai.com/v1") == "openai"
    assert api_key(url) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.example.com/v1")
    assert api_key(url) == api_key("https://api.openai.com/v1") == "openai"
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("COMPATCHECK_API_KEY", "ours")
    assert (api_key(here), api_key(url)) == ("ours", None)
    assert api_key("https://api.openai.com/v1") == "openai"
    assert key_hint(url) == (
        "set COMPATCHECK_API_KEY_API_EXAMPLE_COM (COMPATCHECK_API_KEY and OPENAI_API_KEY are not sent to this host)"
    )
    for name in ("COMPATCHECK_API_KEY_API_EXAMPLE_COM", "COMPATCHECK_API_KEY_API_EXAMPLE_COM_8443"):
        monkeypatch.setenv(name, name.lower())
        assert api_key(url) == name.lower()
    for other in ("https://other.example.com/v1", "https://api-example.com:8443/v1", "https://api_example.com/v1"):
        assert api_key(other) is None
    monkeypatch.setenv("COMPATCHECK_API_KEY_API__EXAMPLE_COM", "of the hyphen")
    assert (api_key("https://api-example.com/v1"), api_key(url)) == ("of the hyphen", name.lower())
    monkeypatch.setenv("ITS_KEY", "two\nlines")
    with pytest.raises(InputError, match="ITS_KEY: the key holds characters") as told:
        api_key("https://other.example.com/v1", "ITS_KEY")
    assert "lines" not in str(told.value)
    with pytest.raises(InputError, match="--api-key-env NO_KEY: this environment variable is not set"):
        api_key(url, "NO_KEY")


def test_a_key_travels_over_plain_http_only_where_that_is_allowed(
    no_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPATCHECK_API_KEY_GATEWAY", SECRET)
    with pytest.raises(InputError, match=r"unencrypted; name the server with https, or .*HOSTS=gateway") as told:
        api_key("http://gateway:8000/v1")
    assert SECRET not in str(told.value)
    monkeypatch.setenv("COMPATCHECK_HTTP_KEY_HOSTS", "other, Gateway")
    assert api_key("http://gateway:8000/v1") == api_key("https://gateway/v1") == SECRET


def test_netrc_is_not_read_and_cookies_are_not_kept(
    no_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(f"default login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with listing(200, {"data": [{"id": "m"}]}, headers={"Set-Cookie": "a=b"}) as server:
        locate(server.url)

        async def twice(client: Client) -> None:
            for _ in range(2):
                await client.ask("/models", str)

        call_once(lambda: Client(server.url), twice)
        assert not [one for one in server.headers if {"authorization", "cookie"} & {name.lower() for name in one}]


def test_a_proxy_is_the_one_of_the_environment(no_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with listing(200, {"data": [{"id": "far"}]}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "elsewhere.example.com")
        assert locate("http://far.example.com/v1").model == "far"
        assert [path for path, _ in proxy.asked] == ["http://far.example.com/v1/models"]
        with listing(200, {"data": [{"id": "near"}]}) as server:
            assert locate(server.url).model == "near", "none on loopback"
    monkeypatch.setenv("http_proxy", "gopher://proxy")
    with pytest.raises(InputError, match="the proxy that the environment names cannot be used"):
        locate("http://far.example.com/v1")


def test_secrets_are_blanked_but_words_of_an_answer_are_not() -> None:
    assert without_secret(f"wrong key {SECRET}!", SECRET) == "wrong key ***!"
    assert without_secret("key EMPTY is wrong", "EMPTY") == "key *** is wrong"
    assert without_secret("the box is EMPTY", "EMPTY", answer=True) == "the box is EMPTY"
    assert without_secret(f"echo {SECRET}", SECRET, answer=True) == "echo ***"
    assert without_secret("as it is", None) == "as it is"


def listing(status: int, body: Any, **more: Any) -> Any:
    class Listing(Handler):
        def get(self) -> None:
            given = body() if callable(body) else body
            self.send(status, given, **more)

    return serving(Listing)


def test_a_whole_number_beyond_all_floats() -> None:
    with listing(200, {"data": [{"id": "one", "created": 10**400}]}) as server:
        assert locate(f"{server.url}#one").card["created"] == 10**400


def test_the_only_model_is_taken_and_several_are_listed() -> None:
    with listing(200, {"data": [{"id": "one", "root": "/models/one", "created": 5, "permission": [1]}]}) as server:
        found = locate(server.url)
        assert found == Endpoint(server.url, "one", {"id": "one", "root": "/models/one", "created": 5})
        assert locate(f"{server.url}#two") == Endpoint(server.url, "two", {})
        reference = resolve(f"{server.url}/")
        assert (reference.kind, reference.text, reference.endpoint) == ("endpoint", f"{server.url}#one", found)
        assert reference.fingerprint() == found.fingerprint()
    with listing(200, {"data": [{"id": "one"}, {"id": "two"}]}) as server:
        with pytest.raises(InputError, match=r"has 2 models, name one as http.*#MODEL: one, two$"):
            locate(server.url)
        assert model_names(server.url) == ["one", "two"]
        assert "(did you mean 'two'?); it lists: one, two" in str(not_found(Endpoint(server.url, "tow"), "HTTP 404"))
    told = pytest.raises(InputError, match=r"has no model ona \(did you mean 'one'\?\); it lists: one")
    with listing(200, {"data": [{"id": "one", "owned_by": "vllm"}]}) as server, told:
        locate(f"{server.url}#ona")
    with listing(200, {"data": []}) as server, pytest.raises(InputError, match="lists no model; name one"):
        locate(server.url)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"detail": "Not Found"}, "application/json"),
        (200, b"<html>", "text/html"),
        (200, {"models": 3}, "application/json"),
        (200, {"data": [{"name": "x"}]}, "application/json"),
        (200, {"data": [{"id": 3}]}, "application/json"),
        (200, b"[" * 100_000, "application/json"),
    ],
)
def test_a_server_without_a_list_needs_a_name(status: int, body: Any, kind: str) -> None:
    with listing(status, body, kind=kind) as server:
        assert locate(f"{server.url}#m") == Endpoint(server.url, "m", {})
        with pytest.raises(InputError, match=r"the server lists no models .* with /v1"):
            locate(server.url)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "no access .HTTP 401.; check the key in the environment"),
        (403, "no access .HTTP 403."),
        (302, "redirects elsewhere .HTTP 302."),
    ],
)
def test_no_access_and_redirects(status: int, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_API_KEY", SECRET)
    with listing(200, {"data": [{"id": "elsewhere"}]}) as other:
        headers = {"Location": f"{other.url}/models"}
        with listing(status, {}, headers=headers) as server, pytest.raises(InputError, match=why) as told:
            locate(f"{server.url}#m")
        assert not other.asked, "the key is carried nowhere else"
    assert SECRET not in str(told.value)


def test_without_a_key_the_variable_is_named(no_keys: None) -> None:
    with listing(401, {}) as server, pytest.raises(InputError, match=r"set COMPATCHECK_API_KEY .or OPENAI_API_KEY."):
        locate(server.url)


def test_nobody_there_and_trouble() -> None:
    with listing(503, {}) as server:
        with pytest.raises(InputError, match=r"the server does not answer .HTTP 503.; is it running"):
            locate(f"{server.url}#m")
        assert len(server.asked) == 3
    with pytest.raises(InputError, match=r"the server does not answer .Connection refused."):
        locate(f"{server.url}#m")


def test_the_fingerprint_does_not_change_with_the_clock_but_with_what_is_told() -> None:
    def card(**more: Any) -> Any:
        return lambda: {"data": [{"id": "m", "created": int(time.time()), "permission": [time.time_ns()]} | more]}

    prints = []
    for more in ({}, {}, {"owned_by": "vllm", "created": 1}, {"max_model_len": 5}, {"created": 1}, {"created": 2}):
        with listing(200, card(**more)) as server:
            found = locate(server.url)
            prints.append(Endpoint("http://host/v1", found.model, found.card).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5
