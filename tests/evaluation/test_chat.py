"""Chat templates: the prompts are those of lm-eval's command line, and a template that cannot serve is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compatcheck.cli.app import run
from compatcheck.evaluation.bridge import notes_on_prompts
from compatcheck.evaluation.chat import Chat
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from tests.evaluation.store.conftest import CountingEngine, build_requests

TURNS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS
LEAVES_OUT_SYSTEM = TURNS.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
NEEDS_SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('say who you are') }}{% endif %}" + TURNS
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must "
    "alternate') }}{% endif %}{% endfor %}" + TURNS
)


class Templated(CountingEngine):
    """Renders as transformers does."""

    def __init__(self, base: Path, template: str | None, folder: Path) -> None:
        from transformers import AutoTokenizer

        super().__init__()
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.chat_template = template
        self.folder = folder
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)

    @property
    def tokenizer_name(self) -> str:
        return str(self.folder)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        from lm_eval.models.huggingface import HFLM

        self.chat_template_args: dict[str, Any] = {}
        return HFLM.apply_chat_template(self, chat_history, add_generation_prompt)  # type: ignore[arg-type]


@pytest.fixture
def base(fixtures: Path) -> Path:
    return fixtures / "models" / "base-v1"


def task(fixtures: Path, description: str = "", **options: Any) -> LoadedTask:
    loaded = load_tasks(["piqa"], TaskOptions(data=fixtures / "data", limit=2, **options))[0]
    loaded.task.config.description = description
    return loaded


def test_examples_are_turns_as_on_the_command_line_of_lm_eval(base: Path, fixtures: Path, tmp_path: Path) -> None:
    """Held against lm-eval's own command line, which reads the model from the folder."""
    model = tmp_path / "model"
    shutil.copytree(base, model)
    (model / "chat_template.jinja").write_text(TURNS)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    data = fixtures / "data" / "piqa"
    (tasks / "chatty.yaml").write_text(
        "task: chatty\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    train: {data / 'train.jsonl.gz'}\n    test: {data / 'validation.jsonl.gz'}\n"
        "training_split: train\nfewshot_split: train\ntest_split: test\noutput_type: multiple_choice\nnum_fewshot: 2\n"
        "description: 'Answer well.'\ndoc_to_text: 'Question: {{goal}}'\ndoc_to_target: '{{label}}'\n"
        "doc_to_choice: '{{[sol1, sol2]}}'\nmetric_list:\n  - metric: acc\n    aggregation: mean\n"
    )
    theirs = {}
    for turns in (None, "False"):
        out = tmp_path / f"lm-{turns}"
        option = [] if turns is None else ["--fewshot_as_multiturn", turns]
        subprocess.run(
            [
                sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
                "--tasks", "chatty", "--include_path", str(tasks), "--apply_chat_template", *option, "--limit", "2",
                "--device", "cpu", "--log_samples", "--output_path", str(out),
            ], check=True, capture_output=True,
        )  # fmt: skip
        (file,) = out.rglob("samples_*.jsonl")
        rows = map(json.loads, file.read_text().splitlines())
        theirs[turns] = [row["arguments"][f"gen_args_{n}"]["arg_0"] for row in rows for n in range(2)]
    engine = Templated(base, TURNS, tmp_path / "tokenizer")
    loaded = load_tasks([str(tasks / "chatty.yaml")], TaskOptions(limit=2))[0]
    assert [request.args[0] for request in build_requests(engine, loaded, True)] == theirs[None]
    assert [request.args[0] for request in build_requests(engine, loaded, True, False)] == theirs["False"]
    assert "\nassistant: " in theirs[None][0]


@pytest.mark.parametrize(
    ("template", "said"),
    [(TURNS, False), (NO_SYSTEM, True), (LEAVES_OUT_SYSTEM, True), (NEEDS_SYSTEM, False)],
    ids=["takes", "refuses", "leaves-out", "needs"],
)
def test_a_system_message_that_is_left_out_is_said(
    template: str, said: bool, base: Path, fixtures: Path, tmp_path: Path
) -> None:
    loaded = task(fixtures, "Answer well.", num_fewshot=1)
    (first, *_) = build_requests(Templated(base, template, tmp_path / "t"), loaded, True)
    assert ("Answer well." in first.args[0]) is not said
    notes = notes_on_prompts(loaded)
    assert bool(notes) is said
    assert all("takes no system message" in note and "chat_template.jinja" in note for note in notes)


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (None, "no chat template (chat_template.jinja, chat_template.json, tokenizer_config.json); leave out"),
        (NEEDS_SYSTEM, "does not take this conversation (user): say who you are"),
        ("{% for m in messages %}", "does not take this conversation (user): Unexpected end of template"),
        ("{{ messages[0]['content'] + 1 }}", "does not take this conversation (user): "),
        ("{{ nothing.at.all }}", "does not take this conversation (user): "),
        ("{{ 1 / 0 }}", "does not take this conversation (user): "),
        ("{% include 'secret' %}", "does not take this conversation (user): "),
    ],
)
def test_a_template_that_cannot_serve_is_refused_in_one_line(
    template: str | None, what: str, base: Path, fixtures: Path, tmp_path: Path
) -> None:
    from compatcheck.errors import InputError

    engine = Templated(base, template, tmp_path / "t")
    with pytest.raises(InputError) as refused:
        build_requests(engine, task(fixtures), True)
    assert what in str(refused.value)
    assert str(tmp_path / "t") in str(refused.value)
    if template is not None:
        assert "chat_template.jinja" in str(refused.value)


def test_examples_in_one_turn_where_roles_must_alternate(base: Path, fixtures: Path, tmp_path: Path) -> None:
    engine = Templated(base, ALTERNATES, tmp_path / "t")
    (first, *_) = build_requests(engine, task(fixtures, num_fewshot=2), True)
    assert first.args[0].count("user: ") == 3
    assert Chat(engine)([{"role": "user", "content": "a"}]) == "user: a\nassistant:"


def test_without_a_template_diff_ends_with_2(
    base: Path, fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [
        "diff",
        str(base),
        str(base),
        "--allow-same",
        "--task",
        "piqa",
        "--data",
        str(fixtures / "data"),
        "--limit",
        "2",
    ]
    assert run([*given, "--apply-chat-template", "-q"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "no chat template" in line
    assert str(base) in line
