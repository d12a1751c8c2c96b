from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines import choose, engine_names, open_engine
from compatcheck.engines.answers import about
from compatcheck.engines.progress import BarProgress, SilentProgress
from compatcheck.errors import InputError
from tests.engines.conftest import choices, prompts

REQUESTS = [("the red bird", [" sings", " runs over", " falls"]), ("a house", [" under the river", " and"])]
TEXTS: list[tuple[str, dict[str, Any]]] = [("the red bird", {"until": ["\n"], "max_gen_toks": 10})]


def test_names_are_auto_hf_and_the_backends_of_lm_eval() -> None:
    names = engine_names()
    assert names[:2] == ["auto", "hf"]
    assert {"vllm", "dummy", "gguf", "local-completions"} < set(names)
    assert len(names) == len(set(names))


def test_importing_the_engines_and_naming_them_loads_no_torch() -> None:
    code = (
        "import sys, compatcheck.engines as e; e.engine_names(); e.choose('auto');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_error_with_the_closest_one() -> None:
    with pytest.raises(InputError, match=r"--engine vlm: no such engine \(did you mean 'vllm'\?\)"):
        open_engine("vlm", "nowhere")
    assert choose("auto")[0] == "hf"


def test_two_adapters_on_one_base_give_what_lm_eval_gives_for_each(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"), adapter_folders)
    seen = []
    for name in ("old", "new", None, "old"):
        engine.activate(name)
        reference = lm_eval_hf("llama", **({"peft": str(adapter_folders[name])} if name else {}))
        found = engine.loglikelihood(choices(REQUESTS))
        expected = reference.loglikelihood(choices(REQUESTS), disable_tqdm=True)
        assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
        assert engine.generate_until(prompts(TEXTS)) == reference.generate_until(prompts(TEXTS), disable_tqdm=True)
        seen.append(found[0][0])
    assert seen[0] == pytest.approx(seen[3], abs=1e-6)
    assert len({round(value, 2) for value in seen[:3]}) == 3, "the adapters and the base differ"
    assert not [note for note in engine.notes if "own path" in note]


def test_the_first_adapter_is_active_at_once(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"), {"new": adapter_folders["new"]})
    expected = lm_eval_hf("llama", peft=str(adapter_folders["new"])).loglikelihood(choices(REQUESTS), disable_tqdm=True)
    assert [v for v, _ in engine.loglikelihood(choices(REQUESTS))] == pytest.approx([v for v, _ in expected], abs=1e-4)
    with pytest.raises(InputError, match="no adapter named 'old' is loaded; loaded: 'new'"):
        engine.activate("old")


def test_rows_that_pad_the_vocabulary_count_under_an_adapter_as_they_do_without(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    """As in transformers and PEFT alone. lm-eval cuts the embeddings to the tokenizer, under an adapter only."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    shutil.copytree(model_folder("llama"), tmp_path / "padded")
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.resize_token_embeddings(model.config.vocab_size + 9)
    with torch.no_grad():
        model.lm_head.weight[-9:] = torch.randn(9, 32)
    model.save_pretrained(tmp_path / "padded")
    engine: Any = open_engine("hf", tmp_path / "padded", {"new": adapter_folders["new"]})
    for name in ("new", None):
        engine.activate(name)
        alone = AutoModelForCausalLM.from_pretrained(tmp_path / "padded")
        if name:
            alone = PeftModel.from_pretrained(alone, adapter_folders[name])
        reference = HFLM(pretrained=alone.eval(), tokenizer=str(tmp_path / "padded"), batch_size=1)
        expected = reference.loglikelihood(choices(REQUESTS), disable_tqdm=True)
        found = engine.loglikelihood(choices(REQUESTS))
        assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)


def test_prompt_tuning_takes_the_own_path(
    model_folder: Callable[[str], Path], tmp_path: Path, lm_eval_hf: Callable[..., Any]
) -> None:
    import torch
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    get_peft_model(base, PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    engine: Any = open_engine("hf", model_folder("llama"), {"tuned": tmp_path})
    expected = lm_eval_hf("llama", peft=str(tmp_path)).loglikelihood(choices(REQUESTS), disable_tqdm=True)
    assert [v for v, _ in engine.loglikelihood(choices(REQUESTS))] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert [note for note in engine.notes if "(PROMPT_TUNING) works in the call of the whole model" in note]
    with pytest.raises(InputError, match="the base cannot be used beside tuned: load it by itself"):
        engine.activate(None)


def test_an_adapter_of_another_shape_is_an_error(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path]
) -> None:
    with pytest.raises(InputError, match="adapter cannot be put on its base") as caught:
        open_engine("hf", model_folder("gpt2"), {"new": adapter_folders["new"]})
    assert "\n" not in str(caught.value)


def test_an_adapter_with_weights_left_out_is_an_error(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter_folders["new"], tmp_path / "cut")
    weights = load_file(tmp_path / "cut" / "adapter_model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "q_proj" not in name}
    save_file(kept, tmp_path / "cut" / "adapter_model.safetensors")
    with pytest.raises(InputError, match="adapter does not fit its base"):
        open_engine("hf", model_folder("llama"), {"cut": tmp_path / "cut"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": "many"}, "batch size 'many'"),
        ({"dtype": "float33"}, "cannot be loaded"),
        ({"engine_args": {"no_such_argument": 1}}, "cannot be loaded"),
    ],
    ids=str,
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str, model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=message):
        open_engine("hf", model_folder("llama"), **options)


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        open_engine("hf", tmp_path)
    assert "\n" not in str(caught.value)


def test_identity_and_notes_say_what_was_used(model_folder: Callable[[str], Path]) -> None:
    engine: Any = open_engine("hf", model_folder("llama"), engine_args={"max_length": 100})
    assert engine.identity["engine"] == "hf"
    assert (engine.identity["dtype"], engine.identity["device"]) == ("float32", "cpu")
    assert engine.identity["max_length"] == 100
    assert set(engine.identity["versions"]) == {"torch", "transformers", "lm_eval", "peft"}
    assert engine.notes == ["On the CPU the weights are computed in float32 (--dtype auto)."]
    json.dumps(engine.identity)


def test_closing_frees_the_weights(model_folder: Callable[[str], Path], adapter_folders: dict[str, Path]) -> None:
    import weakref

    engine: Any = open_engine("hf", model_folder("llama"), adapter_folders)
    engine.loglikelihood(choices(REQUESTS))
    weight = weakref.ref(engine.model.get_base_model().lm_head)
    engine.close()
    assert weight() is None


def test_loading_and_working_print_nothing(
    model_folder: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder("llama")
    capfd.readouterr()  # making the model may print
    engine: Any = open_engine("hf", folder)
    engine.loglikelihood(choices(REQUESTS))
    engine.generate_until(prompts(TEXTS))
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_any_backend_of_lm_eval_is_an_engine() -> None:
    engine: Any = open_engine("dummy", "nothing")
    assert len(engine.loglikelihood(choices(REQUESTS))) == 5
    assert engine.generate_until(prompts(TEXTS)) == ["lol"]
    assert engine.identity["engine"] == "dummy"
    assert engine.notes == ["Requests are answered by lm-eval's 'dummy' backend."]
    engine.activate(None)
    with pytest.raises(InputError, match="no adapter named 'new'"):
        engine.activate("new")
    engine.close()


def test_lm_eval_s_own_hf_switches_adapters_by_loading_again(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine(
        "hf-auto", model_folder("llama"), adapter_folders, batch_size=1, dtype="float32", device="cpu"
    )
    for name in ("old", "new", None):
        engine.activate(name)
        reference = lm_eval_hf("llama", **({"peft": str(adapter_folders[name])} if name else {}))
        expected = reference.loglikelihood(choices(REQUESTS), disable_tqdm=True)
        assert engine.loglikelihood(choices(REQUESTS)) == expected
    assert engine.tokenizer_name == reference.tokenizer_name


def test_a_backend_without_adapters_refuses_them(adapter_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="--engine dummy: this backend takes no adapters"):
        open_engine("dummy", "nothing", adapter_folders)


def test_a_backend_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(InputError, match="--engine trtllm: ") as caught:
        open_engine("trtllm", "nothing")
    assert "\n" not in str(caught.value)


class _Counter(SilentProgress):
    def __init__(self) -> None:
        self.stages: list[list[Any]] = []

    def start(self, label: str, total: float, done: float = 0) -> None:
        self.stages.append([label, total, 0.0, 0])

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self.stages[-1][2] += instances
        self.stages[-1][3] = None if tokens is None else self.stages[-1][3] + tokens


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_progress_counts_documents_on_both_paths(kind: str, model_folder: Callable[[str], Path]) -> None:
    counter = _Counter()
    engine = open_engine("hf", model_folder(kind), progress=counter)
    engine.loglikelihood(choices(REQUESTS))
    texts = engine.generate_until(prompts(TEXTS * 3))
    assert [tuple(stage[:2]) for stage in counter.stages] == [("scoring choices", 2), ("generating", 3)]
    assert [stage[2] for stage in counter.stages] == pytest.approx([2, 3])
    read = sum(len(engine.tok_encode(context)) for context, _ in REQUESTS)
    read += sum(len(engine.tok_encode(choice)) for _, answers in REQUESTS for choice in answers)
    written = [about(text).output_tokens for text in texts]
    assert [stage[3] for stage in counter.stages] == (
        [read, sum(each or 0 for each in written)] if kind == "llama" else [None] * 2
    )


def test_the_bar_shows_labels_as_they_are() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    bar = BarProgress(terminal)
    bar.start("[/red] task", 4)
    bar.advance(2)
    bar.finish()
    bar.advance(1)
    assert "[/red] task" in terminal.getvalue()
