"""Whether transformers and PEFT take the files of a model, asked of them before any model is loaded.

A side that cannot be loaded is found before the other one is paid for. The values of configuration files are judged by
building transformers' own objects of them, and the weights by its own loading, onto the meta device: names and shapes
are held against the model, no weight is read.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compatcheck.engines.hf.loading import check_weights, without_bars
from compatcheck.errors import InputError, one_line
from compatcheck.models import files as model_files

_OTHER_LOADING = frozenset(
    {"subfolder", "gguf_file", "backend", "delta", "autogptq", "gptqmodel", "quantization_config", "load_in_4bit",
     "load_in_8bit", "config", "hf_overrides", "load_format", "quantization", "tokenizer", "trust_remote_code"}
)  # fmt: skip
"""Arguments of engines under which a model is loaded in another way than plainly."""
_DEPTHS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
"""Settings that make as many layers as they say. Others count layers too: the first one with a sliding window, say."""


def check_loading(
    base: Path,
    adapters: Iterable[Path] = (),
    *,
    engine: str = "hf",
    trust_remote_code: bool = False,
    engine_args: Mapping[str, Any] | None = None,
    tokenizer: Path | None = None,
    tokenizer_alone: bool = False,
    generates: bool = False,
) -> None:
    """Check that a model's files and those of its adapters will be taken by an engine that reads them by transformers.

    Raises:
        InputError: one line that names the file and says what transformers or PEFT has against it.
    """
    arguments = dict(engine_args or {})
    engine = str(arguments.get("inner", "hf")) if engine == "ray" else engine
    if engine not in ("auto", "hf", "vllm") or _OTHER_LOADING & arguments.keys():
        return
    with _silent():
        if tokenizer_alone:
            check_tokenizer(tokenizer or base, trust_remote_code)
            return
        config = _config(base, trust_remote_code, known_only=engine == "vllm")
        if config is None:
            return
        check_tokenizer(tokenizer or base, trust_remote_code)
        if engine == "vllm" and config.get_text_config().tie_word_embeddings:
            _one_matrix(base)
        _generation_config(base, config, generates)
        if engine != "vllm" and not trust_remote_code and not getattr(config, "quantization_config", None):
            _weights(base, config, bool(arguments.get("unused_weights")))
        for folder in adapters:
            _adapter_config(folder)


def check_tokenizer(folder: Path, trust_remote_code: bool = False) -> None:
    """Check that transformers can make the tokenizer of a folder, and that it encodes and decodes.

    Raises:
        InputError: as :func:`check_loading`.
    """
    from transformers import AutoTokenizer

    try:
        with _silent():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
            tokenizer.decode(tokenizer("a b")["input_ids"])
    except BaseException as error:
        _reraise_interrupt(error)
        raise _refused(_tokenizer_file(folder), "no tokenizer can be made of it", error) from error


def _config(folder: Path, trust_remote_code: bool, known_only: bool) -> Any:
    from transformers import AutoConfig

    file = folder / "config.json"
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except Exception as error:
        if known_only and "does not recognize this architecture" in str(error):
            return None  # vLLM has models of its own
        raise _refused(file, "transformers does not take it", error) from error
    packed = getattr(config, "quantization_config", None)
    if packed is not None and not (packed.get("quant_method") if isinstance(packed, dict) else packed):
        raise InputError(f"{file}: quantization_config has no quant_method; take it out, or save the model again")
    depths = [(name, getattr(part, name, None)) for part in (config, config.get_text_config()) for name in _DEPTHS]
    most = len(model_files.check_weight_files(str(folder), folder))
    for name, value in depths:
        if isinstance(value, int) and value > most:
            raise InputError(f"{file}: {name} is {value}, but the files hold {most} weights in all")
    return config


def _generation_config(folder: Path, config: Any, generates: bool) -> None:
    """Where texts are generated, a random model of no size generates a token under these settings."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    file = folder / "generation_config.json"
    if not file.is_file():
        return
    try:
        settings = GenerationConfig.from_pretrained(str(folder))
        settings.validate()
        if not generates:
            return
        with torch.random.fork_rng(devices=[]):
            settings.update(do_sample=False, max_new_tokens=1, pad_token_id=0, cache_implementation=None)
            small = LlamaConfig(
                vocab_size=config.get_text_config().vocab_size, hidden_size=8, intermediate_size=8,
                num_hidden_layers=1, num_attention_heads=1,
            )  # fmt: skip
            tokens = torch.tensor([[0, 1]])
            LlamaForCausalLM(small).eval().generate(
                tokens, attention_mask=torch.ones_like(tokens), generation_config=settings
            )
    except Exception as error:
        raise _refused(file, "transformers does not take it", error) from error


def _one_matrix(folder: Path) -> None:
    """vLLM leaves out a head that config.json calls tied, transformers keeps one that differs from the embeddings."""
    import torch
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            found |= {
                name: weights.get_tensor(name)
                for name in weights.keys()  # noqa: SIM118
                if name.endswith(("lm_head.weight", "embed_tokens.weight", "wte.weight"))
            }
    head = next((one for name, one in found.items() if name.endswith("lm_head.weight")), None)
    if head is not None and len(found) == 2 and not all(torch.equal(head, one) for one in found.values()):
        raise InputError(
            f"{folder / 'config.json'}: says that head and embeddings are one (tie_word_embeddings), but the files "
            "hold two that differ, of which vLLM would leave one out; set it to false, or use --engine hf"
        )


def _weights(folder: Path, config: Any, unused: bool) -> None:
    """Load onto the meta device: transformers' own account of names and shapes."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    two_parts = config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES  # as lm-eval's hf decides it
    auto_class = AutoModelForSeq2SeqLM if two_parts else AutoModelForCausalLM
    try:
        _, info = auto_class.from_pretrained(
            str(folder), config=config, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:
        raise _refused(folder / "config.json", "no model can be made of it", error) from error
    for name, stored, wanted in sorted(info.get("mismatched_keys") or (), key=str):
        raise InputError(
            f"{folder / 'config.json'}: makes {name} {_times(wanted)}, but it is {_times(stored)} in the weights; one "
            "of the two is another model's"
        )
    check_weights(str(folder), info, (lambda _: None) if unused else None)


def _adapter_config(folder: Path) -> None:
    from peft import PeftConfig

    file = folder / "adapter_config.json"
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise _refused(file, "PEFT does not take it", error) from error
    tokens = getattr(config, "alora_invocation_tokens", None) or []  # which PEFT looks at in its forward passes
    if not isinstance(tokens, list) or not all(isinstance(token, int) and 0 <= token < 2**31 for token in tokens):
        raise InputError(f"{file}: alora_invocation_tokens is no list of token ids")


def _tokenizer_file(folder: Path) -> Path:
    """The file that is to blame where no tokenizer can be made."""
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if not file.exists():
        others = any(next(folder.glob(name), None) for name in ("vocab.*", "*.model", "*.tiktoken", "merges.txt"))
        return folder / "tokenizer_config.json" if others else file
    try:
        if "added_tokens" not in model_files.read_json(file):  # which transformers takes for granted
            return file
        PreTrainedTokenizerFast(tokenizer_file=str(file))("a b")
    except BaseException as error:
        _reraise_interrupt(error)
        return file
    return folder / "tokenizer_config.json"


def _refused(file: Path, what: str, error: BaseException) -> InputError:
    kind = type(error).__name__
    told = one_line(error)
    return InputError(f"{file}: {what}: {told if told and not told.isdigit() else kind} ({kind})")


def _reraise_interrupt(error: BaseException) -> None:
    """A library written in Rust panics with what is no Exception; interrupts are none either, and go on."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error


def _times(shape: Any) -> str:
    return "×".join(map(str, shape))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """transformers says what it has to say by exceptions here: its own report would be said twice."""
    from transformers.utils import logging as transformers_logging  # which sets its level when it is first asked

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        with without_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
