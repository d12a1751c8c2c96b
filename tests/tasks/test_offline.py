"""Where the hub has no address, its clients are told so at once."""

from __future__ import annotations

import datasets.config
import pytest
from huggingface_hub import constants

from compatcheck.tasks import patches


@pytest.mark.parametrize(("address", "offline"), [("http://hub.invalid", True), ("http://127.0.0.1:9", False)])
def test_clients_are_offline_where_the_name_is_not_known(
    address: str, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    patches._has_address.cache_clear()
    with patches.offline_where_unreachable():
        assert (offline, offline) == (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False)


def test_behind_a_proxy_the_proxy_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub-behind-proxy.invalid")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    patches._has_address.cache_clear()
    with patches.offline_where_unreachable():
        assert constants.HF_HUB_OFFLINE is False
