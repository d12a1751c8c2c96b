"""``fix --prompts``: which prompts are trained on, what each model is given, and what counts as right."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import ExitCode, InputError
from compatcheck.option_models import build
from compatcheck.options import Fix
from compatcheck.references import resolve
from compatcheck_train.examples import prompt_key
from compatcheck_train.fix.phases import Phases
from compatcheck_train.fix.prompts import Reader
from compatcheck_train.fix.request import FixRequest, check, check_strategies
from compatcheck_train.fix.run import _examples, _with_answers, fix
from compatcheck_train.report import render_text, save
from compatcheck_train.report.text import headline
from compatcheck_train.training.models import load_tokenizer
from tests import tiny
from tests.factories import write_rows

OTHER = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """OLD and NEW with templates of their own, and NEW with OLD's."""
    folder = tmp_path_factory.mktemp("models")
    told = {"old": (tiny.CHAT, 0), "new": (OTHER, 1), "alike": (tiny.CHAT, 1), "plain": (None, 1)}
    words = {name: (tiny.tokenizer(chat=chat), seed) for name, (chat, seed) in told.items()}
    return {name: tiny.save(tiny.llama(one, seed), one, folder / name) for name, (one, seed) in words.items()}


def wrote_by(model: Path, file: Path) -> dict[str, str]:
    records = compatcheck.evaluate(model, prompts=file, engine="hf", gen={"max_tokens": 4}).tasks[0].records
    return dict(zip(records["doc_id"], records["prediction"], strict=True))


def rows_of(count: int, seed: int = 5, **further: Any) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    texts = [" ".join(rng.choice(tiny.WORDS) for _ in range(5)) for _ in range(count)]
    return [{"id": f"r{n}", "prompt": text, "target": text.split()[0]} | further for n, text in enumerate(texts)]


def request_of(models: dict[str, Path], root: Path, new: str = "new", **changes: Any) -> FixRequest:
    given: dict[str, Any] = {
        "gen": {"max_tokens": 4}, "store": root / "store", "engine": "hf", "device": "cpu", "preset": "quick",
        "metric": "contains", "force": True, "set": {"max_steps": 4, "cache_folder": root / "cache"},
    }  # fmt: skip
    return FixRequest(str(models["old"]), str(models[new]), build(Fix, given | changes))


def examples_of(request: FixRequest) -> Any:
    return _examples(request, *check(request))


def test_half_of_the_prompts_are_trained_on_and_no_content_is_in_both_halves(
    models: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_of(40)
    again = [row | {"id": f"{row['id']}-again", "prompt": f" {row['prompt']}  "} for row in rows[:10]]
    request = request_of(models, tmp_path, prompts=write_rows(tmp_path / "mine.jsonl", rows + again))
    prompted = request.judge.prompts
    assert prompted is not None
    texts = [{" ".join(each.turns[0]["content"].split()) for each in part.prompts} for part in prompted.parts]
    assert len(texts[0]) == len(texts[1]) == 20 and not texts[0] & texts[1]
    assert sum(len(part.prompts) for part in prompted.parts) == 50
    choosing, tested = request.judge.validation(examples_of(request)), request.judge.test()
    ids = [{each.name_of(number) for number in each.numbers} for each in (choosing, tested)]
    held = {each.id for each in prompted.parts[1].prompts}
    assert not ids[0] & ids[1] and ids[0] | ids[1] == held
    examples = examples_of(request)
    chosen = replace(request.judge, dev="held-out").validation(examples)
    wanted = {each.key for each in examples.validation}
    assert {chosen.name_of(number) for number in chosen.numbers} == {
        each.id for each in prompted.parts[0].prompts if prompt_key(each) in wanted
    }
    other_seed = request_of(models, tmp_path, prompts=tmp_path / "mine.jsonl", seed=7).judge.prompts
    assert other_seed is not None and other_seed.parts == prompted.parts


def test_a_file_of_its_own_to_train_on(models: dict[str, Path], tmp_path: Path) -> None:
    """All of ``--prompts`` is evaluated then; what both files hold is refused, or left out."""
    asked, trained = rows_of(12), rows_of(12, seed=6)
    mixed = [*trained, asked[3] | {"id": "same"}, {"id": "bare", "prompt": "stone stone"}]
    given = {"prompts": write_rows(tmp_path / "asked.jsonl", asked), "data": write_rows(tmp_path / "more.jsonl", mixed)}
    with pytest.raises(
        InputError, match=r"more.jsonl: the test split holds some documents too, 1 in all \(document same"
    ):
        examples_of(request_of(models, tmp_path, **given))
    request = request_of(models, tmp_path, **given, drop_overlap=True)
    found = examples_of(request)
    assert request.judge.test(chooses=False).size == 12
    assert {each.doc_id for each in (*found.train, *found.validation)} == {row["id"] for row in trained}
    assert [(each.doc_id, each.gold) for each in found.unlabelled] == [("bare", None)]


def test_every_model_reads_a_prompt_as_it_is_evaluated(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"id": "text", "prompt": "red blue", "target": "x", "system": "Be brief."}]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    settings = request_of(models, tmp_path, prompts=file).settings
    for name in ("old", "new", "plain"):
        kept = compatcheck.evaluate(models[name], prompts=file, engine="hf", gen={"max_tokens": 2})
        record = kept.tasks[0].records.iloc[0]
        given = record["full_prompt"] if isinstance(record["full_prompt"], str) else record["input"]
        reference = resolve(str(models[name]))
        reader = Reader(reference, load_tokenizer(reference, settings))
        prompted = request_of(models, tmp_path, prompts=file, data=file).judge.prompts
        assert prompted is not None
        assert reader.context(prompted.parts[1].prompts[0]) == given
        assert reader.delimiter == (" " if name == "plain" else "")


def test_strategies_over_tokens_want_one_reading(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", rows_of(20))
    apart, alike = (examples_of(request_of(models, tmp_path, new, prompts=file)) for new in ("new", "alike"))
    assert all(each.of_old and each.of_old != each.pairs[0][0] for each in apart.train)
    assert all(each.of_old is None for each in alike.train)
    request = request_of(models, tmp_path, prompts=file, strategy="muscle")
    with pytest.raises(InputError, match=r"strategy muscle: follows OLD token by token, and OLD reads"):
        check_strategies(request, apart)
    check_strategies(request, alike)
    paper = request_of(models, tmp_path, prompts=file, preset="paper")
    assert [each.strategy for each in paper.candidates(apart)] == ["sequence-ensemble"] * 2


def test_a_fix_on_prompts_with_templates_of_their_own(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", rows_of(40))
    out = tmp_path / "out"
    code = run(
        ["fix", str(models["old"]), str(models["new"]), "--prompts", str(file), "--metric", "contains", "--gen",
         "max_tokens=4", "--preset", "quick", "--strategy", "sequence-ensemble", "--set", "max_steps=4", "--force",
         "--engine", "hf", "--device", "cpu", "--store", str(tmp_path / "store"), "--out", str(out)]
    )  # fmt: skip
    report = json.loads((out / "fix_report.json").read_text())
    assert code == report["exit_code"] in (ExitCode.OK, ExitCode.REGRESSION, ExitCode.INCONCLUSIVE)
    assert (report["task"], report["proof"][0]["metric"], report["documents"]["train"]) == ("mine", "contains", 16)
    assert report["proof"][0]["n"] == report["documents"]["test"] == 15
    with pytest.raises(InputError, match=r"holds a fix with other prompts"):  # a row of the file is another
        write_rows(file, [*rows_of(39), {"id": "r39", "prompt": "another one", "target": "x"}])
        fix(request_of(models, tmp_path, prompts=file, strategy="sequence-ensemble"), out)


def test_old_answers_stand_in_for_targets(models: dict[str, Path], tmp_path: Path) -> None:
    """Held against OLD's run: what it wrote is trained on, what counts of it is the target."""
    rows = [{"id": row["id"], "prompt": row["prompt"]} for row in rows_of(24)]
    file, further = tmp_path / "mine.jsonl", tmp_path / "more.jsonl"
    write_rows(file, rows)
    write_rows(further, [{"id": "more", "prompt": "red red red"}])
    wrote = wrote_by(models["old"], file) | wrote_by(models["old"], further)
    request = request_of(models, tmp_path, prompts=file, unlabelled=further, reference="old", extract=r"(\w+)")
    with pytest.raises(InputError, match=r"mine.jsonl: no prompt has a `target`.*--reference old"):
        request.judge.test(chooses=False)
    old, _ = check(request)
    noted: list[str] = []
    request = _with_answers(request, old, lambda _: None, noted.append, Phases())
    found = examples_of(request)
    labels = {each.pairs[0][0]: each.pairs[0][1] for each in (*found.train, *found.validation)}
    prompted = request.judge.prompts
    assert prompted is not None
    counted = [prompt for prompt in prompted.parts[0].prompts if re.search(r"\w", wrote[prompt.id])]
    texts = {f"<user>{each.turns[0]['content']}<a>": wrote[each.id].strip() for each in counted}
    assert labels == texts | {"<user>red red red<a>": wrote["more"].strip()}
    assert len(found.unlabelled) == len(prompted.parts[0].prompts) - len(counted)
    lost = sum(not re.search(r"\w", text) for text in wrote.values())
    assert noted == [f"OLD gave no answer that counts to {lost} of 25 prompts: they are inputs alone."] and lost
    scores = request.judge.run(request.judge.test(chooses=False), {"old": old})["old"].tasks[0].records
    assert set(scores["score:contains"]) == {1.0}


def test_a_fix_with_old_answers_has_no_control(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"id": row["id"], "prompt": row["prompt"]} for row in rows_of(40)]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    request = request_of(
        models, tmp_path, prompts=file, reference="old", metric="chrf", correct_at=0.3, blend="none",
        set={"max_steps": 8, "cache_folder": tmp_path / "cache"},
    )  # fmt: skip
    (candidate,) = request_of(models, tmp_path, prompts=file, reference="old", set={}).candidates(
        examples_of(_with_answers(request, check(request)[0], lambda _: None, lambda _: None, Phases()))
    )
    assert (candidate.strategy, candidate.first, candidate.changes["epochs"]) == ("continue-ce", "", 12)
    fixed = fix(request, tmp_path / "out")
    report = save(fixed, tmp_path / "out")
    assert not any("as the control was" in note for note in fixed.notes)
    assert (fixed.control, report["reference"], report["strategy"]) == (None, "old", "continue-ce, answer")
    assert report["proof"][0]["sides"]["new"]["metrics"]["accuracy_old"]["value"] == 1.0
    assert render_text(report).splitlines()[1].startswith("Answers that are no longer OLD's, of 20 test documents: ")
    assert (report["chosen_by"], report["trials"]) == ("auto", []), (
        "one candidate: nothing is chosen, every prompt proves"
    )
    assert headline(report | {"verdict": "better"}) == "✓ PROVEN BETTER than NEW at answering as OLD did"
    page = (tmp_path / "out" / "fix_report.html").read_text()
    assert ">changed 20<" in page and "got worse" not in page
    card = (tmp_path / "out" / "adapter" / "README.md").read_text()
    assert "was trained on answers of <code>old</code>, to give back what the update changed" in card
    assert "MUSCLE" not in card
    with pytest.raises(InputError, match=r"--control continue-ce: with --reference old labels are OLD's answers"):
        check(request.with_(control="continue-ce"))


def test_correct_at_makes_a_score_right_or_wrong(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", rows_of(30))
    given: dict[str, Any] = {"prompts": file, "metric": "chrf"}
    request = request_of(models, tmp_path, **given, correct_at=0.1)
    old, new = check(request)
    tested = request.judge.test(chooses=False)
    runs = request.judge.run(tested, {"old": old, "new": new})
    scores = request.judge.scores(runs["old"], runs["new"], runs)
    right = {side: runs[side].tasks[0].records["score:chrf"] >= 0.1 for side in runs}
    assert 0 < right["new"].mean() < 1
    assert scores["new"].score == right["new"].mean() and scores["old"].score == right["old"].mean()
    assert scores["new"].nfr == (right["old"] & ~right["new"]).mean()
    assert scores["old"].score_error == pytest.approx(
        (right["old"] * 1 - right["new"]).std() / len(right["old"]) ** 0.5
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "piqa"}, "--task and --prompts: an adapter is trained on one of them"),
        ({"split": "test"}, "--split: is for --task; prompts have none"),
        ({"metric": "acc"}, "--metric acc: cannot score answers here"),
        ({"metric": "judge"}, "--metric judge: cannot score answers here"),
        ({"unlabelled": Path("gone.jsonl")}, "--unlabelled gone.jsonl: must be a file of prompts"),
        ({"dev": "test"}, "--dev test: no such file; with --prompts it is one of prompts, or held-out"),
        ({"system": "@gone.txt"}, "--system @gone.txt: no such file"),
        ({"extract": "("}, "--extract"),
        ({"prompts": None, "task": "piqa", "reference": "old"}, "--reference: is for --prompts"),
        ({"prompts": None, "task": "piqa", "extract": "x"}, "--extract: is for --prompts"),
    ],
)
def test_what_does_not_go_together(
    models: dict[str, Path], tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    file = write_rows(tmp_path / "mine.jsonl", rows_of(20))
    with pytest.raises(InputError, match=message):
        check(request_of(models, tmp_path, **{"prompts": file, "gen": None} | given))


def test_too_few_prompts(models: dict[str, Path], tmp_path: Path) -> None:
    """Are refused before OLD is asked."""
    few = request_of(models, tmp_path, prompts=write_rows(tmp_path / "few.jsonl", rows_of(4)), reference="old")
    with pytest.raises(InputError, match=r"--prompts .*few.jsonl: too few \(different ones: 4\): half are"):
        _with_answers(few, check(few)[0], lambda _: pytest.fail("asked"), lambda _: None, Phases())
    bare = [{"id": str(n), "prompt": f"red {n}"} for n in range(8)]
    given = {"prompts": write_rows(tmp_path / "a.jsonl", rows_of(8)), "data": write_rows(tmp_path / "b.jsonl", bare)}
    with pytest.raises(InputError, match=r"b.jsonl: 0 of the prompts to train on have a `target`; at least 3 are"):
        examples_of(request_of(models, tmp_path, **given))


def test_targets_that_extract_does_not_read_are_not_trained_on(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", rows_of(20))
    with pytest.raises(InputError, match=r"--extract finds nothing in the targets, so a model that learns to write"):
        examples_of(request_of(models, tmp_path, prompts=file, extract=r"answer: (\w+)"))
    whole = [row | {"target": f"well, answer: {row['target']}"} for row in rows_of(20)]
    found = examples_of(
        request_of(models, tmp_path, prompts=write_rows(tmp_path / "w.jsonl", whole), extract=r"answer: (\w+)")
    )
    assert all(each.pairs[0][1].startswith("well, answer: ") for each in found.train)
