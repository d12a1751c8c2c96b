"""Own prompts asked of models that run here: turns through the template where there is one, else plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.evaluation.chat import has_template
from tests import tiny
from tests.factories import write_rows

CHAT_WITH_TOOLS = "{% if tools %}tools: {{ tools | length }}\n{% endif %}" + tiny.CHAT
SAYS = [("user", "red"), ("assistant", "blue"), ("user", "sea")]
TALK = [{"role": role, "content": text} for role, text in SAYS]
ROWS: list[dict[str, Any]] = [
    {"id": "text", "prompt": "red blue green", "target": "stone", "kind": "short"},
    {"id": "talk", "prompt": TALK, "target": ["stone", "river"], "kind": "long"},
    {"id": "ruled", "prompt": "cloud", "system": "Be brief.", "target": "x", "kind": "short"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
GIVEN = {
    "text": ("red blue green", "user: red blue green\nassistant:"),
    "talk": ("User: red\n\nAssistant: blue\n\nUser: sea\n\nAssistant:",
             "user: red\nassistant: blue\nuser: sea\nassistant:"),
    "ruled": ("Be brief.\n\ncloud", "system: Be brief.\nuser: cloud\nassistant:"),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of the same weights, of which one has a chat template."""
    folder = tmp_path_factory.mktemp("models")
    words = {"base": tiny.tokenizer(), "chat": tiny.tokenizer(chat=CHAT_WITH_TOOLS)}
    return {name: tiny.save(tiny.llama(each), each, folder / name) for name, each in words.items()}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "mine.jsonl", ROWS)


def test_each_model_is_given_what_it_reads(models: dict[str, Path], prompts: Path) -> None:
    """Held against plain transformers on the text that each was given."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"prompts": prompts, "gen": {"max_tokens": 6}, "engine": "hf"}
    for number, name in enumerate(("base", "chat")):
        found = compatcheck.evaluate(models[name], **options)
        records = found.tasks[0].records.set_index("doc_id")
        words = AutoTokenizer.from_pretrained(models[name])
        model = AutoModelForCausalLM.from_pretrained(models[name], dtype="float32").eval()
        for row in ROWS:
            record, text = records.loc[row["id"]], GIVEN[row["id"]][number]
            given = record["full_prompt"] if isinstance(record["full_prompt"], str) else record["input"]
            assert given == text
            inputs = words(text, return_tensors="pt", add_special_tokens=name == "base")
            with torch.inference_mode():
                out = model.generate(**inputs, max_new_tokens=6, do_sample=False)
            written = words.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            said = record["response"] if isinstance(record["response"], str) else record["prediction"]
            assert said == written
        plain = any("given as plain text, without a chat template" in note for note in found.notes)
        assert plain == (name == "base")
        assert ("chat_template" in found.tasks[0].settings) == (name == "chat")
    told = compatcheck.evaluate(models["chat"], apply_chat_template=False, **options).tasks[0].records
    assert told["input"].tolist()[0] == GIVEN["text"][0]


def test_what_was_sent_is_in_the_report(models: dict[str, Path], prompts: Path, tmp_path: Path) -> None:
    result = compatcheck.diff(models["base"], models["chat"], prompts=prompts, gen={"max_tokens": 2}, engine="hf")
    shown = result.instances.set_index("doc_id")
    assert {name: tuple(shown.loc[name, ["prompt_old", "prompt_new"]]) for name in GIVEN} == GIVEN
    again = compatcheck.diff(models["chat"], models["chat"], prompts=prompts, allow_same=True, engine="hf",
                             gen={"max_tokens": 2}).instances.set_index("doc_id")  # fmt: skip
    assert again.loc["talk", "prompt_old"] == again.loc["talk", "prompt_new"] == GIVEN["talk"][1]
    compatcheck.evaluate(models["chat"], prompts=prompts, gen={"max_tokens": 2}, engine="hf").save(tmp_path / "kept")
    kept = compatcheck.diff(
        tmp_path / "kept", models["base"], prompts=prompts, gen={"max_tokens": 2}, engine="hf", limit=2
    )
    assert kept.instances["doc_id"].tolist() == ["text", "talk"], "the first two, whatever their ids"


def test_one_difference_alone_stands_in_the_header(models: dict[str, Path], prompts: Path, tmp_path: Path) -> None:
    """The prompt, the system message and the decoding of one side, on one model that is loaded once."""
    second = write_rows(tmp_path / "second.jsonl", (row | {"prompt": "moon"} for row in ROWS))
    chat, names = models["chat"], {}
    for setting, value in (("prompts", second), ("system", "Be kind."), ("gen", {"temperature": 0.9})):
        result = compatcheck.diff(
            chat, chat, prompts=prompts, gen={"max_tokens": 4}, engine="hf", new_set={setting: value}
        )
        (found,) = result.comparisons
        assert (found.task, found.n) == ("mine", 3), setting
        names[setting] = [each.name for each in result.differences.found]
        assert "/" in found.signature.partition("versions")[2]
    assert names == {
        "prompts": ["prompt"], "system": ["prompt", "system prompt"], "gen": ["temperature", "do_sample"]
    }  # fmt: skip


def test_a_template_that_is_null_is_none(tmp_path: Path) -> None:
    assert not has_template(tmp_path)
    for value, there in ((None, False), ("", False), ("{{ messages }}", True), ([{"name": "default"}], True)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
        assert has_template(tmp_path) is there
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert has_template(tmp_path)


def test_tools_go_through_the_template_or_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    row = {"prompt": "red", "tools": TOOLS, "response_format": {"type": "json_object"}, "target": "x"}
    file.write_text(json.dumps(row))
    options: dict[str, Any] = {"prompts": file, "gen": {"max_tokens": 3}, "engine": "hf"}
    found = compatcheck.evaluate(models["chat"], **options)
    assert found.tasks[0].records["full_prompt"].tolist() == ["tools: 1\nuser: red\nassistant:"]
    assert any("response_format of 1 prompts is not enforced" in note for note in found.notes)
    with pytest.raises(InputError, match=r"p\.jsonl:1: has `tools`, which plain text cannot carry"):
        compatcheck.evaluate(models["base"], **options)
    words = tiny.tokenizer(chat=tiny.CHAT)
    deaf = tiny.save(tiny.llama(words), words, tmp_path / "deaf")
    with pytest.raises(InputError, match="the chat template leaves out `tools`"):
        compatcheck.evaluate(deaf, **options)


def test_what_cannot_be_asked_is_said_before_anything_is_loaded(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, base = tmp_path / "p.jsonl", str(models["base"])
    args = ["diff", base, base, "--allow-same", "--prompts", str(file)]

    def said(rows: list[dict[str, Any]], *further: str) -> str:
        write_rows(file, rows)
        assert run([*args, *further]) == 2
        err = capsys.readouterr().err
        assert "loading" not in err
        return err.strip().splitlines()[-1]

    assert "p.jsonl: no prompt has a `target`, which exact_match needs" in said([{"prompt": "a"}])
    some = [{"prompt": "a", "target": "b"}, {"prompt": "a"}]
    assert "p.jsonl:2: 1 of 2 prompts have no `target`, which rouge1 needs" in said(some, "--metric", "rouge1")
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    row = {"prompt": [{"role": "user", "content": image}], "target": "b"}
    assert "p.jsonl:1: holds image_url" in said([row])
    assert "--gen presence_penalty=1.0: the engine hf has no such setting" in said(
        some[:1], "--gen", "presence_penalty=1", "--engine", "hf"
    )
    assert "--gen tempratur: no such setting" in said(some[:1], "--gen", "tempratur=1")
    assert "--task or --prompts is missing" in _refused(capsys, ["diff", base, base, "--allow-same"])
    old = tmp_path / "old.jsonl"
    old.write_text('{"id": 0, "target": "b", "prediction": "b"}\n')
    file.write_text(json.dumps(some[0]))
    assert "both sides are recorded" in _refused(
        capsys, ["diff", str(old), str(old), "--allow-same", "--prompts", str(file)]
    )


def _refused(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    assert run(args) == 2
    return capsys.readouterr().err


def test_rows_without_targets_are_kept_and_compared_later(models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "red"}\n{"prompt": "blue", "target": "x"}\n')
    found = compatcheck.evaluate(models["base"], prompts=file, gen={"max_tokens": 3}, engine="hf")
    found.save(tmp_path / "run")
    kept = compatcheck.load_run(tmp_path / "run")
    assert kept.tasks[0].records["doc_id"].tolist() == ["0", "1"] and not kept.tasks[0].metrics
    with pytest.raises(InputError):
        compatcheck.diff(tmp_path / "run", models["base"], prompts=file, gen={"max_tokens": 3}, engine="hf")


def test_a_recorded_side_is_paired_with_the_prompts(models: dict[str, Path], prompts: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "old.jsonl"
    rows = [{"id": row["id"], "target": "stone", "prediction": "stone"} for row in ROWS[:1]]
    write_rows(recorded, rows)
    result = compatcheck.diff(recorded, models["base"], prompts=prompts, gen={"max_tokens": 3}, engine="hf")
    (found,) = result.comparisons
    assert (found.task, found.n, found.pairing.only_new) == ("mine", 1, 2)
