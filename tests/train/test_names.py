"""What the card of an adapter calls models: nothing of the machine that trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck_train.report.names import elsewhere, on_hub
from tests.models.gguf.writing import write_gguf


def test_a_folder_has_its_own_name(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = fixtures / "models" / "base-v2", fixtures / "adapters" / "piqa-v2"
    assert elsewhere(str(adapter)) == "piqa-v2"
    assert elsewhere(f"{base}+{adapter}") == "base-v2+piqa-v2"
    monkeypatch.chdir(adapter)
    assert elsewhere(".") == "piqa-v2"


def test_a_gguf_file_has_what_its_metadata_say(fixtures: Path, tmp_path: Path) -> None:
    base = fixtures / "models" / "base-v2"
    plain, named = tmp_path / "plain.gguf", tmp_path / "model.Q8_0.gguf"
    write_gguf(base, plain)
    write_gguf(base, named, kind="Q8_0", change={"general.name": "Tiny Llama"})
    assert elsewhere(str(plain)) == "plain.gguf (F32)"
    assert elsewhere(str(named)) == "model.Q8_0.gguf (Tiny Llama, Q8_0)"


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("org/model", "org/model"),
        ("org/model@v1", "org/model"),
        ("org/repo/file.gguf", "org/repo"),
        ("org/repo/file.gguf@main", "org/repo"),
        ("/models/there", None),
        ("./here", None),
    ],
)
def test_what_a_hub_takes_as_a_base(text: str, repository: str | None) -> None:
    assert on_hub(text) == repository
    assert elsewhere(text) == text
