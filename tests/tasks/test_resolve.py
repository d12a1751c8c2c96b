from __future__ import annotations

from pathlib import Path

import pytest
from lm_eval.tasks._yaml_loader import load_yaml

from compatcheck.errors import InputError
from compatcheck.tasks import bundled_names, catalogue, resolve_task
from compatcheck.tasks.index import lm_eval_tasks_dir
from compatcheck.tasks.resolve import BUNDLED


def test_bundled_names() -> None:
    assert bundled_names() == ["gsm8k", "hellaswag", "piqa", "samsum"]


@pytest.mark.parametrize("name", ["gsm8k", "hellaswag", "piqa"])
def test_bundled_yaml_says_what_lm_eval_says(name: str) -> None:
    """Scores equal lm-eval's only if the definitions do; a change there must be seen here."""
    ours = load_yaml(BUNDLED / f"{name}.yaml")
    theirs = load_yaml(lm_eval_tasks_dir() / name / f"{name}.yaml")
    theirs.pop("tag", None)
    for config in (ours, theirs):
        for key in [key for key, value in config.items() if value is None]:
            config.pop(key)
    process = (ours.pop("process_docs", None), theirs.pop("process_docs", None))
    assert ours == theirs
    if name == "hellaswag":
        assert process[0].__name__ == process[1].__name__


def test_samsum_decodes_as_in_the_paper() -> None:
    config = load_yaml(BUNDLED / "samsum.yaml")
    assert config["generation_kwargs"]["no_repeat_ngram_size"] == 2
    assert config["generation_kwargs"]["until"] == ["Dialogue:", "Summary:", "</s>", "\n\n"]
    assert [entry["metric"] for entry in config["metric_list"]] == ["rouge1"]


def test_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: mine\ndataset_path: json\noutput_type: generate_until\ntest_split: test\ndoc_to_text: x\n")
    (source,) = resolve_task(str(path))
    assert (source.name, source.path, source.origin) == ("mine", path, "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: mine\nmetrc_list: []\n", r"mine\.yaml:2: unknown key 'metrc_list' \(did you mean 'metric_list'\?\)"),
        ("task: mine\n  bad: indent\n", r"mine\.yaml:2: not valid YAML"),
        ("dataset_path: json\n", "the key 'task'"),
        ("- a list\n", "Expected YAML dict"),
    ],
)
def test_bad_yaml_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        resolve_task(str(path))


def test_missing_yaml() -> None:
    with pytest.raises(InputError, match="no such file"):
        resolve_task("gone.yaml")


@pytest.mark.slow
def test_lm_eval_names_groups_and_tags_through_the_kept_index(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path))
    assert resolve_task("arc_easy")[0].path.name == "arc_easy.yaml"
    assert "indexing lm-eval's tasks" in capsys.readouterr().err
    monkeypatch.delattr("compatcheck.tasks.index._scan")  # from here on only the kept index can answer
    assert [source.name for source in resolve_task("ai2_arc")] == ["arc_challenge", "arc_easy"]
    assert len(resolve_task("mmlu")) == 57
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"unknown task \(did you mean 'arc_easy'\?\)"):
        resolve_task("arc_eassy")
    with pytest.raises(InputError, match=r"unknown task \(did you mean 'samsum'\?\)"):
        resolve_task("samsun")
    assert any(line.startswith("arc_easy ") for line in catalogue.listing("arc_"))
    assert "57 tasks" in catalogue.show("mmlu")


def test_show_and_overview() -> None:
    assert "no_repeat_ngram_size" in catalogue.show("samsum")
    assert "filter_list: strict-match, flexible-extract" in catalogue.show("gsm8k")
    for name in bundled_names():
        assert f"  {name}" in catalogue.overview()
