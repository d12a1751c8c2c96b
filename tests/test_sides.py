"""Settings of one side: read as their options are, laid over what holds for both, refused where they mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck import config, sides
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.option_models import build
from compatcheck.options import Diff


def test_a_value_is_read_as_that_of_its_option() -> None:
    written = ["dtype=float16", "num_fewshot=2", "batch-size=8", "apply-chat-template=TRUE", "device="]
    written += ["engine-arg.quantization=fp8", "engine_args.max_model_len=20", "engine-arg.extra_body={top_k: 3}"]
    assert sides.parse("--new-set", written) == {
        "dtype": "float16", "num_fewshot": 2, "batch_size": 8, "apply_chat_template": True, "device": None,
        "engine_args": {"quantization": "fp8", "max_model_len": 20, "extra_body": {"top_k": 3}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("dtype", "write it as KEY=VALUE"),
        ("=x", "write it as KEY=VALUE"),
        ("dtyp=x", r"no such setting \(did you mean 'dtype'\?\); there are"),
        ("dtype=f16", "is an unknown dtype"),
        ("num-fewshot=two", "must be a whole number"),
        ("apply-chat-template=maybe", "must be true or false"),
        ("batch-size=0", "must be a whole number of at least 1"),
        ("engine-arg=x", r"write engine-arg.NAME=VALUE"),
        ("dtype.x=1", "dtype has no entries"),
        ("limit=3", "both sides answer the same documents; set it with --limit"),
        ("task=piqa", "both sides answer the same documents; set it with --task"),
        ("metric-arg.exact_match.ignore_case=true", "both sides are scored alike; set it with --metric-arg"),
        ("store=x", "one store serves both sides"),
        ("noise-floor=2", "is of the whole comparison"),
        ("new-set=x", "is of the whole comparison"),
        ("out=x", "is of the whole comparison"),
    ],
)
def test_what_one_side_cannot_have_is_one_line(pair: str, why: str) -> None:
    with pytest.raises(InputError, match=f"^--old-set {pair}: .*{why}" if "=" in pair else why):
        sides.parse("--old-set", [pair])


def test_a_side_has_what_holds_for_both_and_its_own() -> None:
    common: dict[str, Any] = {"dtype": "float32", "num_fewshot": 5, "engine_args": {"a": 1, "b": 2}}
    chosen = build(Diff, common | {"new_set": {"num-fewshot": None, "engine-arg.b": 3, "engine_args": {"c": 4}}})
    old, new = sides.of_side(chosen, "old"), sides.of_side(chosen, "new")
    assert (old.num_fewshot, old.engine_args) == (5, {"a": 1, "b": 2})
    assert (new.dtype, new.num_fewshot, new.engine_args) == ("float32", None, {"a": 1, "b": 3, "c": 4})
    with pytest.raises(InputError, match="--new-set limit=3: both sides answer the same documents"):
        sides.of_side(build(Diff, {"new_set": {"limit": 3}}), "new")
    with pytest.raises(InputError, match="--new-set seed: with --sample it draws the documents"):
        sides.of_side(build(Diff, {"sample": 3, "new_set": {"seed": 3}}), "new")
    with pytest.raises(InputError, match="--new-set dtype: must be a table of settings"):
        build(Diff, {"new_set": "dtype"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, answer in (("old", "a"), ("new", "b")):
        row = {"id": 1, "target": "a", "prediction": answer, "said": f"({answer})"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def write(project: Path, text: str) -> Path:
    (project / config.FILE).write_text(text)
    return project / config.FILE


def test_tables_of_the_settings_file_and_above_them_the_check_and_the_command_line(project: Path) -> None:
    write(
        project,
        """
        dtype = "float32"
        [old]
        engine-arg.quantization = "fp8"
        [new]
        dtype = "bfloat16"
        batch-size = 4
        [checks.a]
        old = "x"
        new = "y"
        new_set = {batch_size = 8, seed = 7}
        """,
    )
    loaded = config.load()
    assert loaded.options["old_set"] == {"engine_args": {"quantization": "fp8"}}
    (check,) = loaded.checks
    assert check.options["new_set"] == {"dtype": "bfloat16", "batch_size": 8, "seed": 7}
    settled = config.settle(check.options, {"new_set": {"seed": 9}})
    assert settled["new_set"] == {"dtype": "bfloat16", "batch_size": 8, "seed": 9}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[new]\ndtyp = 'x'", r"new.dtyp: no such setting \(did you mean 'dtype'\?\)"),
        ("[new]\nlimit = 3", "new.limit: both sides answer the same documents"),
        ("[old]\nbatch_size = 0", "old.batch_size: 0 must be a whole number of at least 1"),
        ("old = 3", "old: 3 must be a table of settings"),
        ("new_set = {}\n[new]\nseed = 1", "new: is given twice"),
        ("[checks.a]\nold = 'x'\nnew = {dtype = 'x'}", r"settings of one side stand in \[checks.a.new_set"),
        ("[new]\ntrust-remote-code = true", "new.trust-remote-code: is taken from the command line alone"),
        ("[new]\napi_key_env = 'SECRET'", "new.api_key_env: is taken from the command line alone"),
        ("[new]\nengine-arg.trust_remote_code = true", "new.engine-arg: is taken from the command line alone"),
    ],
)  # fmt: skip
def test_a_settings_file_says_where_it_is_wrong(project: Path, text: str, why: str) -> None:
    write(project, text)
    with pytest.raises(InputError, match=why):
        config.load()


def test_a_recorded_side_has_fields_of_its_own_and_no_engine(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pair in ("dtype=float16", "num-fewshot=2", "engine-arg.x=1", "apply-chat-template=true"):
        assert run(["diff", "old.jsonl", "new.jsonl", "--new-set", pair]) == 2
        key = pair.partition("=")[0]
        assert f"--new-set {key}: new.jsonl is recorded, so it is as it was made" in capsys.readouterr().err
    c = compatcheck.diff(
        "old.jsonl", "old.jsonl", new_set={"prediction_field": "said", "extract": r"\((.)\)"}, metric="exact_match"
    )
    assert c.only.quadrants["both_correct"] == 1
    assert c.differences is not None
    assert c.differences.sentence.startswith("OLD and NEW differ in: --extract")
    assert r"|extract:none/\((.)\)|" in c.only.signature
    again = compatcheck.diff("old.jsonl", "old.jsonl", old_set={"prediction_field": "said"}, metric="exact_match")
    assert again.only.quadrants["positive_flip"] == 1
