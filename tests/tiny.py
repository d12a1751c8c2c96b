"""Models, tokenizers and tasks small enough to be made on the spot, with weights that tell words apart."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

_WORDS = """red blue green stone river cloud mouse table seven nine bread paper light door glass ship wind moon salt
fish tree hand road song star leaf sand rain fire snow"""
WORDS = _WORDS.split()
PROMPT = "Question: {} Answer:"
CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokenizer(
    bos: str | None = "<s>", eos: str | None = "</s>", pad: str | None = "<pad>", chat: str | None = None
) -> Any:
    """A byte-level BPE tokenizer of 400 tokens, with these special tokens (None: without)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    rng = random.Random(0)
    text = [" ".join(rng.choice(WORDS) for _ in range(12)) for _ in range(300)] + [
        "Question: Answer: user: assistant:"
    ] * 20
    special = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[token for token in special.values() if token],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(text, trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=made, **{name: token for name, token in special.items() if token})
    found.chat_template = chat
    return found


def llama(words: Any, seed: int = 0, **settings: Any) -> Any:
    """A Llama of two layers for a tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    plain = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
        "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**(plain | settings))).eval()


def save(model: Any, words: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    words.save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, seed: int = 1, **settings: Any) -> Path:
    """A LoRA adapter with large weights, its base named by a path relative to it."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    kind = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | settings
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(task_type="CAUSAL_LM", **kind)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(2 * torch.randn_like(parameter) * (parameter.abs().mean() + 0.1))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    written = json.loads((folder / "adapter_config.json").read_text())
    written["base_model_name_or_path"] = f"../{base.name}"
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def tasks(
    folder: Path, count: int = 8, text: str = "Question: {{question}} Answer:", **generation: Any
) -> list[dict[str, Any]]:
    """Two tasks, ``tinychoice.yaml`` and ``tinygen.yaml``, and their data in ``folder/data``; returns the rows."""
    rng = random.Random(5)
    rows = [
        {
            "question": " ".join(rng.choice(WORDS) for _ in range(6)),
            "choices": rng.sample(WORDS, 4),
            "label": rng.randrange(4),
        }
        for _ in range(count)
    ]
    metric = "  - metric: {}\n    aggregation: mean\n    higher_is_better: true\n"
    kinds = {
        "tinychoice": 'output_type: multiple_choice\ndoc_to_target: "{{label}}"\ndoc_to_choice: "{{choices}}"\n'
        "metric_list:\n" + metric.format("acc"),
        "tinygen": 'output_type: generate_until\ndoc_to_target: "{{choices[label]}}"\ngeneration_kwargs: '
        + json.dumps({"until": ["\n"], "max_gen_toks": 12, "do_sample": False} | generation)
        + "\nmetric_list:\n" + metric.format("exact_match"),
    }  # fmt: skip
    for name, rest in kinds.items():
        data = folder / "data" / name / "test.jsonl"
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        head = f"task: {name}\ndataset_path: json\ntest_split: test\ndoc_to_text: {json.dumps(text)}\n"
        (folder / f"{name}.yaml").write_text(head + rest)
    return rows


def loglikelihoods(model: Any, words: Any, context: str, choices: list[str], between: str = " ") -> list[float]:
    """Of each choice after a context, by plain forward passes of a model."""
    import torch

    begun = len(words(context)["input_ids"])
    found = []
    for choice in choices:
        whole = words(f"{context}{between}{choice}")["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
        found.append(sum(float(logits[n - 1, whole[n]]) for n in range(begun, len(whole))))
    return found
