"""What two runs differ in besides the model is said, and is in the signature; equal settings give equal signatures."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare.differences import Differences, differences

TASK = """
task: sums
output_type: generate_until
test_split: test
fewshot_split: train
doc_to_text: "{prompt}"
doc_to_target: "{{{{answer}}}}"
num_fewshot: {shots}
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: {most}
  do_sample: {sample}
  temperature: {temperature}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
PLAIN: dict[str, Any] = {
    "prompt": "Question: {{question}} Answer:", "shots": 0, "most": 4, "sample": "false", "temperature": 0.0,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
Kept = Callable[..., Path]


@pytest.fixture(scope="module")
def keep(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Keeps a run of a tiny model with some settings; one with the same settings is made once."""
    folder = tmp_path_factory.mktemp("differences")
    model = folder / "model"
    shutil.copytree(fixtures / "models" / "base-v1", model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    data = folder / "data" / "sums"
    data.mkdir(parents=True)
    for split in ("test", "train"):
        rows = [{"question": f"{n} + {n} = ?", "answer": str(2 * n)} for n in range(6)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: dict[str, Path] = {}
    numbers = itertools.count()

    def kept(task: dict[str, Any] | None = None, number: int = 0, **options: Any) -> Path:
        name = json.dumps([task, number, options], sort_keys=True, default=str)
        if name not in made:
            place = folder / f"run-{next(numbers)}"
            place.mkdir()
            (place / "sums.yaml").write_text(TASK.format(**(PLAIN | (task or {}))))
            run = compatcheck.evaluate(
                model, task=str(place / "sums.yaml"), data=folder / "data", store=False, **options
            )
            made[name] = run.save(place / "kept")
        return made[name]

    return kept


def told(old: Path, new: Path) -> tuple[list[str], str, compatcheck.Diff]:
    c = compatcheck.diff(old, new, allow_same=True)
    assert c.differences is not None
    return [one.name for one in c.differences.found], c.comparisons[0].signature, c


def test_equal_settings_give_equal_signatures(keep: Kept) -> None:
    found, signature, c = told(keep(), keep(number=1))
    assert found == []
    assert c.differences == Differences(same=True)
    assert c.differences.sentence == "OLD and NEW are the same"
    assert Differences().sentence == "OLD and NEW differ in the model alone"
    again = told(keep(number=1), keep())[1]
    assert signature == again
    assert signature == compatcheck.diff(keep(), keep(), allow_same=True).comparisons[0].signature
    for part in ("prompt:", "engine:hf", "dtype:float32", "generation:", "filters:", "versions:", "task_file:"):
        assert f"|{part}" in signature
    assert "/" not in signature.partition("|prompt:")[2].partition("|")[0]


@pytest.mark.parametrize(
    ("task", "options", "name"),
    [
        ({"prompt": "Q: {{question}} A:"}, {}, "prompt"),
        ({"temperature": 0.5, "sample": "true"}, {}, "temperature"),
        ({"most": 5}, {}, "max_gen_toks"),
        ({"shots": 2}, {}, "few-shot"),
        ({}, {"apply_chat_template": True}, "chat template"),
        ({}, {"dtype": "bfloat16"}, "dtype"),
        ({}, {"limit": 3}, "choice of documents"),
    ],
    ids=["prompt", "temperature", "most", "few-shot", "template", "dtype", "limit"],
)
def test_each_setting_alone_is_said(keep: Kept, task: dict[str, Any], options: dict[str, Any], name: str) -> None:
    found, signature, c = told(keep(), keep(task, **options))
    expected = {"temperature": ["do_sample", "temperature"]}.get(name, [name])
    assert sorted(found) == sorted(expected)
    assert signature != told(keep(), keep(number=1))[1]
    assert f"OLD and NEW differ in: {', '.join(found)}" == c.differences.sentence if c.differences else False


def test_another_engine_is_said(keep: Kept, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(keep(), other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["engine"]["engine"] = "vllm"
    (other / "manifest.json").write_text(json.dumps(manifest))
    found, signature, _ = told(keep(), other)
    assert found == ["engine"]
    assert "|engine:hf/vllm|" in signature


def test_one_template_or_another(keep: Kept, tmp_path: Path) -> None:
    found, signature, _ = told(keep(apply_chat_template=True), keep(apply_chat_template=True, number=1))
    assert found == []
    assert "|chat_template:" in signature


@pytest.mark.parametrize("task", [{"prompt": "Q: {{question}} A:"}, {"shots": 2}], ids=["prompt", "few-shot"])
def test_both_prompts_can_be_seen(
    keep: Kept, task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    c = told(keep(), keep(task))[2]
    first = c.instances.iloc[0]
    assert first["prompt_old"] == "Question: 0 + 0 = ? Answer:"
    assert first["prompt_new"].endswith("Q: 0 + 0 = ? A:" if "prompt" in task else "Question: 0 + 0 = ? Answer:")
    assert first["prompt_new"] != first["prompt_old"]
    kept = c.save(tmp_path / "report")
    again = compatcheck.load(kept)
    assert again.instances.iloc[0]["prompt_new"] == first["prompt_new"]
    assert run(["show", str(kept), "0"]) == 0
    shown = capsys.readouterr().out
    assert "old prompt" in shown
    assert "new prompt" in shown
    assert "prompt_old=" not in shown  # no slice field
    streamed = compatcheck.diff(keep(), keep(task), stream=True)
    assert streamed.instances.iloc[0]["prompt_new"] == first["prompt_new"]
    assert streamed.differences == c.differences
    assert streamed.comparisons[0].signature == c.comparisons[0].signature


def test_equal_prompts_are_kept_nowhere(keep: Kept) -> None:
    assert "prompt_old" not in told(keep(), keep(number=1))[2].instances


def test_a_run_of_the_version_before_says_what_is_not_known(keep: Kept, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(keep({"prompt": "Q: {{question}} A:"}), older)
    manifest = json.loads((older / "manifest.json").read_text())
    for task in manifest["tasks"]:
        for name in ("prompt", "generation", "filters", "scoring", "task_file"):
            task["settings"].pop(name)
        task["columns"].pop("full_prompt")
    (older / "manifest.json").write_text(json.dumps(manifest))
    c = compatcheck.diff(keep(), older)
    assert c.differences == Differences((), ("prompt", "decoding"), same=True)
    assert c.differences.sentence == "OLD and NEW are the same, as far as is known; not known: prompt, decoding"
    other = compatcheck.diff(keep(dtype="bfloat16"), older)
    assert other.differences is not None
    assert other.differences.sentence == "OLD and NEW differ in: dtype; not known: prompt, decoding"


def test_two_kept_runs_of_one_model_and_its_settings_are_the_same(keep: Kept) -> None:
    with pytest.raises(compatcheck.InputError, match="OLD and NEW are the same"):
        compatcheck.diff(keep(), keep(number=1))
    assert compatcheck.diff(keep(), keep({"prompt": "Q: {{question}} A:"})).comparisons  # another prompt: no error


def test_one_model_is_refused_before_it_is_loaded(fixtures: Path) -> None:
    said: list[str] = []
    same = fixtures / "models" / "base-v1"
    with pytest.raises(compatcheck.InputError, match=r"OLD and NEW are the same.*--allow-same"):
        compatcheck.diff(same, f"{same}/", task="piqa", data=fixtures / "data", limit=2, say=said.append)
    assert said == []


def test_how_answers_ended_is_recorded_and_stored(keep: Kept, fixtures: Path, tmp_path: Path) -> None:
    """Answers from the store know it as those of the model do."""
    counts = []
    for _ in range(2):
        run = compatcheck.evaluate(
            fixtures / "adapters" / "gsm8k-v1", task="gsm8k", data=fixtures / "data", limit=4, num_fewshot=0,
            store=tmp_path / "store",
        )  # fmt: skip
        records = run.tasks[0].records
        counts.append(records[["finish_reason", "prompt_tokens", "output_tokens"]].values.tolist())
        kept = compatcheck.load_run(run.save(tmp_path / "run")).tasks[0].records
        assert kept["output_tokens"].tolist() == records["output_tokens"].tolist()
    assert counts[0] == counts[1]
    assert {reason for reason, _, _ in counts[0]} <= {"stop", "length"}
    tokenizer = AutoTokenizer.from_pretrained(fixtures / "models" / "base-v1")
    asked = [len(tokenizer(prompt)["input_ids"]) for prompt in records["full_prompt"].fillna(records["input"])]
    assert [prompt for _, prompt, _ in counts[0]] == asked
    texts = records["response"].fillna(records["prediction"])
    for (reason, _, tokens), text in zip(counts[0], texts, strict=True):
        # the token that ends a text is one, too, and a stop string is cut away
        assert tokens >= len(tokenizer(text, add_special_tokens=False)["input_ids"]) + (reason == "stop")


def test_numbers_and_defaults_are_the_same_however_they_are_written() -> None:
    whole = {"prompt": "a", "engine": "hf", "dtype": "float32"}
    greedy = whole | {"generation": {"do_sample": False, "temperature": 0.0, "max_gen_toks": 8}}
    assert differences([(greedy, whole | {"generation": {"max_gen_toks": 8.0}})]) == Differences()
