"""The recipes of docs/recipes.md are valid as far as that can be known without the hub and without training."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import validate_repo_id

from compatcheck_train.fix.request import MUCH_WORSE
from recipes import estimate
from tests.docs.pages import check_command, shell_commands

ROOT = Path(__file__).parent.parent.parent
TASKS = tuple(estimate.DOCUMENTS)
LOADED = {family: estimate.load(family) for family in estimate.FAMILIES}


def commands(family: str) -> list[list[str]]:
    return shell_commands((ROOT / "recipes" / f"{family}.sh").read_text(encoding="utf-8"))


@pytest.mark.parametrize("family", estimate.FAMILIES)
def test_every_command_and_setting_is_understood(family: str) -> None:
    for words in commands(family):
        given = check_command(words)
        assert given["preset"] == "paper"
        assert given["set"] == ["bf16=true"]
        assert given["task"] in TASKS
        if words[1] == "fix":
            assert (given["strategy"], given["blend"], given["control"]) == ("muscle", "none", "continue-ce")


@pytest.mark.parametrize("family", estimate.FAMILIES)
def test_one_command_for_each_model_pair_and_task(family: str) -> None:
    """The adapters that a fix names are those that the lines above it make, and no two lines share a folder."""
    models, pairs = LOADED[family]
    given = [(words[1], check_command(words)) for words in commands(family)]
    adapters = [(g["base"], g["task"], str(g["out"])) for name, g in given if name == "train-task"]
    assert adapters == [(m.hub, task, f"adapters/{m.name}/{task}") for m in models for task in TASKS]
    fixes = [(g["old"], g["new"], g["task"], str(g["out"])) for name, g in given if name == "fix"]
    assert fixes == [
        (
            f"adapters/{p.old.name}/{task}/adapter",
            f"adapters/{p.new.name}/{task}/adapter",
            task,
            f"fixed/{p.old.name}-to-{p.new.name}/{task}",
        )
        for p in pairs
        for task in TASKS
    ]
    assert len(adapters) + len(fixes) == len(given)


def test_an_old_model_that_fix_would_refuse_is_forced_and_no_other() -> None:
    """By the paper's own scores, as far as they are known."""
    for family, (_, pairs) in LOADED.items():
        scores = {}
        for pair in pairs:
            for task, one in pair.paper.items():
                scores |= {(pair.old.name, task): one["old"], (pair.new.name, task): one["new"]}
        for words in commands(family):
            if words[1] != "fix":
                continue
            given = check_command(words)
            old, new = (given[side].split("/")[1] for side in ("old", "new"))
            known = [scores.get((side, given["task"])) for side in (old, new)]
            refused = None not in known and known[0] < MUCH_WORSE * known[1]
            assert given["force"] is refused, words


def test_hub_ids_are_ids() -> None:
    for models, _ in LOADED.values():
        for model in models:
            validate_repo_id(model.hub)
            assert model.hub.count("/") == 1


def test_other_tokenizers_are_flagged_everywhere() -> None:
    others = {(p.old.name, p.new.name) for _, pairs in LOADED.values() for p in pairs if p.other_tokens}
    assert others == {("llama-2", "llama-3"), ("llama-1", "llama-3")}
    shell = (ROOT / "recipes" / "llama.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"^# (\S+) and (\S+) tokenize differently", shell, re.MULTILINE)) == others
    page = estimate.PAGE.read_text(encoding="utf-8")
    for old, new in others:
        assert f"| {old} → {new} | all four | other tokenizer" in page


def test_pairs_are_in_version_order_and_complete() -> None:
    for models, pairs in LOADED.values():
        names = [model.name for model in models]
        steps = {(p.old.name, p.new.name) for p in pairs}
        assert steps == {(a, b) for place, a in enumerate(names) for b in names[place + 1 :]}
        for pair in pairs:
            assert set(pair.paper) in (set(), set(TASKS))


def test_figures_of_the_paper_agree_with_each_other() -> None:
    """ΔNFR over NFR is the relative change, and a model's score is the same in every pair it is in."""
    seen: dict[tuple[str, str], float] = {}
    count = 0
    for _, pairs in LOADED.values():
        for pair in pairs:
            for task, one in pair.paper.items():
                count += 1
                assert one["percent"] == pytest.approx(100 * one["change"] / one["nfr"], abs=0.35)
                for model, value in ((pair.old, one["old"]), (pair.new, one["new"])):
                    assert seen.setdefault((model.name, task), value) == value
    assert count == 16


def test_figures_are_those_of_the_reference() -> None:
    reference = ROOT.parent / "shared" / "reference" / "muscle.md"
    if not reference.is_file():
        pytest.skip("the reference with the paper's tables is not here")
    text = reference.read_text(encoding="utf-8")
    for _, pairs in LOADED.values():
        for pair in pairs:
            for one in pair.paper.values():
                change = f"{one['change']:+.2f} {one['percent']:+.1f}".replace("-", "−")
                assert f"{one['old']:.2f} {one['new']:.2f} {one['compat']:.2f} / {one['nfr']:.2f} {change}" in text


def test_sizes_are_those_that_are_published() -> None:
    """In billions: 1.3 and 2.7 of Phi leave out the embeddings; LoRA by hand for one model."""
    sizes = {model.name: model.parameters / 1e9 for models, _ in LOADED.values() for model in models}
    assert sizes["llama-1"] == pytest.approx(6.738, abs=0.001)
    assert sizes["llama-3"] == pytest.approx(8.030, abs=0.001)
    assert sizes["phi-2"] == pytest.approx(2.78, abs=0.01)
    assert LOADED["llama"][0][0].adapter == 32 * 128 * (4 * 8192 + 3 * 15104)


def test_the_page_has_the_tables_as_they_are_computed() -> None:
    page = estimate.PAGE.read_text(encoding="utf-8")
    assert estimate.written(page) == page
    with pytest.raises(ValueError, match="one <!-- models -->"):
        estimate.written("nothing")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.name)
def test_files_hold_nothing_that_is_not_read(path: Path) -> None:
    read: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    assert set(read) == {"models", "pairs"}
    assert all(set(one) <= {"old", "new", "paper"} for one in read["pairs"])
