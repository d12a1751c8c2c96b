"""Adapters of every kind that PEFT saves, on tiny random bases, and what transformers and PEFT alone make of them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from compatcheck.evaluation.evaluate import evaluate_jobs
from compatcheck.evaluation.grouping import EngineOptions, Job
from compatcheck.references import resolve
from compatcheck.tasks.load import TaskOptions, load_tasks
from tests.factories import write_rows

PROMPT = "Question: {question} Answer:"
WORDS = ["red", "blue", "green", "stone", "river", "cloud", "mouse", "table", "seven", "nine", "bread", "paper"]
LINEAR = ["q_proj", "v_proj"]

KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "lora-patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 16}},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}},
    "bias-all": {"bias": "all"},
    "bias-lora": {"bias": "lora_only"},
    "lora-bias": {"lora_bias": True},
    "saves-embedding": {"modules_to_save": ["embed_tokens"]},
    "saves-head": {"modules_to_save": ["lm_head"]},
    "saves-both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saves-norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": {"embed_tokens": [7, 8, 300, 301]}},
    "resized": {"rows": 6},
    "resized-saves-embedding": {"rows": 6, "modules_to_save": ["embed_tokens"]},
    "resized-saves-both": {"rows": 6, "modules_to_save": ["embed_tokens", "lm_head"]},
    "resized-tokens": {"rows": 6, "trainable_token_indices": {"embed_tokens": [7, 317, 318]}},
    "activated": {"alora_invocation_tokens": None},
    "on-embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "on-head": {"target_modules": ["q_proj", "lm_head"]},
    "on-head-alone": {"target_modules": ["lm_head"]},
    "ia3": {"kind": "IA3Config", "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"]},
    "loha": {"kind": "LoHaConfig", "target_modules": LINEAR, "r": 4},
    "lokr": {"kind": "LoKrConfig", "target_modules": LINEAR, "r": 4},
    "oft": {"kind": "OFTConfig", "target_modules": LINEAR, "oft_block_size": 8},
    "layer-norm": {"kind": "LNTuningConfig", "target_modules": ["input_layernorm"]},
    "vera": {"kind": "VeraConfig", "target_modules": ["q_proj"], "r": 8},
    "vb-lora": {"kind": "VBLoRAConfig", "target_modules": LINEAR, "num_vectors": 16, "vector_length": 8, "topk": 2},
    "lily": {"kind": "LilyConfig", "target_modules": LINEAR, "r": 4},
    "prompt": {"kind": "PromptTuningConfig", "num_virtual_tokens": 5},
    "prefix": {"kind": "PrefixTuningConfig", "num_virtual_tokens": 5},
    "p-tuning": {"kind": "PromptEncoderConfig", "num_virtual_tokens": 5, "encoder_hidden_size": 16},
}  # fmt: skip
"""Settings of PEFT's configuration by a name for the kind; ``kind`` is its class, ``rows`` grows the vocabulary."""


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    rng = random.Random(0)
    text = [" ".join(rng.choices(WORDS, k=12)) for _ in range(200)] + ["Question: Answer:"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", "</s>", "<pad>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def save_base(
    folder: Path, *, tied: bool = False, spare: int = 0, experts: bool = False, seed: int = 0, nan: bool = False
) -> Path:
    """A random Llama, or a Mixtral, with ``spare`` more embedding rows than its tokenizer has tokens."""
    import torch
    import transformers as t

    tok = tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tok) + spare, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256,
        "initializer_range": 0.2, "tie_word_embeddings": tied, "attention_bias": True,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(seed)
    if experts:
        settings.pop("attention_bias")
        model = t.MixtralForCausalLM(t.MixtralConfig(**settings, num_local_experts=4, num_experts_per_tok=2))
    else:
        model = t.LlamaForCausalLM(t.LlamaConfig(**settings))
    if nan:
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def save_adapter(
    base: Path,
    folder: Path,
    *,
    seed: int = 1,
    kind: str = "LoraConfig",
    rows: int = 0,
    moved: float = 2.0,
    **given: Any,
) -> Path:
    """An adapter whose every weight was moved at random, by ``moved`` times their size: 2 surely changes answers."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if given.get("init_lora_weights") == "loftq":
        pytest.importorskip("bitsandbytes", reason="PEFT quantises for LoftQ with bitsandbytes")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    tok = AutoTokenizer.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] + rows)
    if kind == "LoraConfig":
        given = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, **given}
    if "alora_invocation_tokens" in given:
        given["alora_invocation_tokens"] = tok(" Answer:")["input_ids"]
    wrapped = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **given))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * moved * (parameter.abs().mean() + 0.1))
        if rows:
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight.add_(0.2 * torch.randn_like(layer.weight))
    shutil.rmtree(folder, ignore_errors=True)
    wrapped.save_pretrained(folder, **({"save_embedding_layers": True} if rows else {}))
    edit(folder / "adapter_config.json", base_model_name_or_path=str(base.resolve()))
    return folder


def with_own_tokenizer(base: Path, adapter: Path) -> None:
    """Put a tokenizer beside an adapter that reads other tokens than its base's: all letters as small ones."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(base)
    own.backend_tokenizer.normalizer = normalizers.Lowercase()
    own.save_pretrained(adapter)


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object in a file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def save_task(folder: Path, documents: int = 12, generates: bool = False) -> tuple[Path, Path]:
    """A task of choices, or of texts, in lm-eval's format, and its rows."""
    rng = random.Random(5)
    rows = [
        {"question": " ".join(rng.choices(WORDS, k=6)), "choices": rng.sample(WORDS, 4), "label": rng.randrange(4)}
        for _ in range(documents)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    data = write_rows(folder / "rows.jsonl", rows)
    task = folder / "choice.yaml"
    text = PROMPT.replace("{question}", "{{question}}")
    ask = 'output_type: multiple_choice\ndoc_to_target: "{{label}}"\ndoc_to_choice: "{{choices}}"'
    if generates:
        ask = (
            'output_type: generate_until\ndoc_to_target: "{{choices[label]}}"\n'
            'generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}'
        )
    metric = "exact_match" if generates else "acc"
    task.write_text(
        f'task: choice\ndataset_path: json\ntest_split: test\ndoc_to_text: "{text}"\n{ask}\n'
        f"metric_list:\n  - metric: {metric}\n    aggregation: mean\n    higher_is_better: true\n",
        encoding="utf-8",
    )
    return task, data


def plain(
    base: Path, adapter: Path | None, data: Path, *, rows: int | None = None, tok: Path | None = None
) -> list[list[float]]:
    """Log-likelihoods of every document's choices by transformers and PEFT alone, one text at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if rows is not None:
        model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] + rows)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    reader = AutoTokenizer.from_pretrained(tok or base)
    found = []
    with torch.inference_mode():
        for row in map(json.loads, data.read_text().splitlines()):
            prompt = PROMPT.format(**row)
            start, sums = len(reader(prompt)["input_ids"]), []
            for choice in row["choices"]:
                tokens = reader(f"{prompt} {choice}")["input_ids"]
                # lm-eval reads all but the last token, which decides where an activated adapter begins
                logits = model(torch.tensor([tokens[:-1]])).logits[0].float().log_softmax(-1)[1 - len(tokens) :]
                sums.append(sum(float(logits[at - 1, tokens[at]]) for at in range(start, len(tokens))))
            found.append(sums)
    return found


def scored(sides: list[Path], task: tuple[Path, Path], engine: str = "hf", **options: Any) -> list[list[list[float]]]:
    """Log-likelihoods of each side's choices, evaluated together as `diff` does."""
    (loaded,) = load_tasks([str(task[0])], TaskOptions(data=task[1]))
    how = EngineOptions(engine=engine, **options)
    jobs = [Job(f"side {n}", resolve(str(folder)), loaded, how) for n, folder in enumerate(sides)]
    done = {one.job.side: one for one in evaluate_jobs(jobs)}
    return [[list(values) for values in done[job.side].runs[0].records["loglikelihoods"]] for job in jobs]
