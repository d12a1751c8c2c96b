"""Whether transformers and PEFT take the files of a model, asked of them before any model is loaded.

A side that cannot be loaded is found before the other one is paid for. The values of configuration files are judged by
building transformers' own objects of them, and the weights by its own loading, onto the meta device: names and shapes
are held against the model, no weight is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compatcheck.engines.hf.loading import check_weights
from compatcheck.engines.patches import load_transformers
from compatcheck.errors import InputError, one_line
from compatcheck.models import files as model_files
from compatcheck.models.quiet import quiet

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
    Raises InputError: one line that names the file and says what transformers or PEFT has against it."""
    arguments = dict(engine_args or {})
    engine = str(arguments.get("inner", "hf")) if engine == "ray" else engine
    if engine not in ("auto", "hf", "vllm") or _OTHER_LOADING & arguments.keys():
        return
    load_transformers()
    with quiet(silent=True):  # transformers says what it has to say by exceptions here
        config = None if tokenizer_alone else _config(base, trust_remote_code, known_only=engine == "vllm")
        if config is None and not tokenizer_alone:
            return
        check_tokenizer(tokenizer or base, trust_remote_code)
        if config is None:
            return
        if engine == "vllm" and config.get_text_config().tie_word_embeddings:
            _one_matrix(base)
        if engine != "vllm" and (packed := getattr(config, "quantization_config", None)) is not None:
            _quantizer(base / "config.json", packed)
        _generation_config(base, config, generates)
        if engine != "vllm" and not trust_remote_code and not getattr(config, "quantization_config", None):
            _weights(base, config, bool(arguments.get("unused_weights")))
        for folder in adapters:
            _adapter_config(folder)


def check_tokenizer(folder: Path, trust_remote_code: bool = False) -> None:
    """Check that transformers can make the tokenizer of a folder, and that it encodes and decodes. Raises InputError:
    as :func:`check_loading`."""
    from transformers import AutoTokenizer

    with quiet(silent=True), _refused(lambda: _tokenizer_file(folder), "no tokenizer can be made of it"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        tokenizer.decode(tokenizer("a b")["input_ids"])


@contextlib.contextmanager
def _refused(file: Any, what: str) -> Iterator[None]:
    """Whatever a library raises is that it does not take the file (or what ``file()`` returns), in one line.

    A library written in Rust panics with what is no Exception; interrupts are none either, and go on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, InputError):
        raise
    except BaseException as error:
        kind, told = type(error).__name__, one_line(error)
        place = file() if callable(file) else file
        raise InputError(f"{place}: {what}: {told if told and not told.isdigit() else kind} ({kind})") from error


_BY_VLLM = frozenset(
    {"gptq", "awq", "fp8", "fbgemm_fp8", "compressed-tensors", "bitsandbytes", "torchao", "modelopt", "auto-round",
     "mxfp4", "quark"}
)  # fmt: skip
"""Kinds of quantised folders that vLLM reads, some of them on a GPU alone."""
_TAKES = "transformers does not take it"


def _config(folder: Path, trust_remote_code: bool, known_only: bool) -> Any:
    """The configuration; with ``known_only`` None for an architecture that transformers does not know (vLLM may)."""
    from transformers import AutoConfig

    file = folder / "config.json"
    if not isinstance(model_files.read_json(file).get("quantization_config") or {}, dict):
        raise InputError(f"{file}: quantization_config is no object; take it out, or save the model again")
    try:
        with _refused(file, _TAKES):
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except InputError as error:
        if known_only and "does not recognize this architecture" in str(error.__cause__):
            return None
        raise
    packed = getattr(config, "quantization_config", None)
    if packed is not None and not (packed.get("quant_method") if isinstance(packed, dict) else packed):
        raise InputError(f"{file}: quantization_config has no quant_method; take it out, or save the model again")
    most = len(model_files.check_weight_files(str(folder), folder))
    for name, part in ((name, part) for part in (config, config.get_text_config()) for name in _DEPTHS):
        value = getattr(part, name, None)
        if isinstance(value, int) and value > most:
            raise InputError(f"{file}: {name} is {value}, but the files hold {most} weights in all")
    return config


def _quantizer(file: Path, packed: Any) -> None:
    """Whether what transformers needs for a quantised folder is here: packages, versions, a GPU."""
    import torch
    from transformers import __version__
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    method = packed.get("quant_method") if isinstance(packed, dict) else packed.quant_method
    method = str(getattr(method, "value", method))
    beside = f"; vLLM reads {method} folders too (--engine vllm)" if method in _BY_VLLM else ""
    if not any(name.startswith(method) for name in AUTO_QUANTIZER_MAPPING):
        raise InputError(f"{file}: transformers {__version__} reads no quant_method {method!r}{beside}")
    try:
        with _refused(file, f"a quantised model ({method}) that cannot be loaded here"):
            AutoHfQuantizer.from_config(packed, pre_quantized=True).validate_environment(
                device_map={"": "cuda" if torch.cuda.is_available() else "cpu"}, weights_only=True
            )
    except InputError as error:
        raise InputError(f"{error}{beside}") from error.__cause__


def _generation_config(folder: Path, config: Any, generates: bool) -> None:
    """Where texts are generated, a random model of no size generates a token under these settings."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    with _refused(file, _TAKES), torch.random.fork_rng(devices=[]):
        settings = GenerationConfig.from_pretrained(str(folder))
        settings.validate()
        if not generates:
            return
        settings.update(do_sample=False, max_new_tokens=1, pad_token_id=0, cache_implementation=None)
        small = LlamaConfig(
            vocab_size=config.get_text_config().vocab_size, hidden_size=8, intermediate_size=8,
            num_hidden_layers=1, num_attention_heads=1,
        )  # fmt: skip
        tokens = torch.tensor([[0, 1]])
        model = LlamaForCausalLM(small).eval()
        model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)


def _one_matrix(folder: Path) -> None:
    """vLLM leaves out a head that config.json calls tied, transformers keeps one that differs from the embeddings."""
    import torch
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if name.endswith(("lm_head.weight", "embed_tokens.weight", "wte.weight")):
                    found[name] = weights.get_tensor(name)
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
    with _refused(folder / "config.json", "no model can be made of it"):
        _, info = auto_class.from_pretrained(
            str(folder), config=config, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    for name, stored, wanted in sorted(info.get("mismatched_keys") or (), key=str):
        made, held = model_files.times(wanted), model_files.times(stored)
        raise InputError(
            f"{folder / 'config.json'}: makes {name} {made}, but it is {held} in the weights; one of the two is "
            "another model's"
        )
    check_weights(str(folder), info, (lambda _: None) if unused else None)


def _adapter_config(folder: Path) -> None:
    from peft import PeftConfig

    file = folder / "adapter_config.json"
    with _refused(file, "PEFT does not take it"):
        config = PeftConfig.from_pretrained(str(folder))
    tokens = getattr(config, "alora_invocation_tokens", None) or []  # which PEFT looks at in its forward passes
    if not isinstance(tokens, list) or not all(isinstance(token, int) and 0 <= token < 2**31 for token in tokens):
        raise InputError(f"{file}: alora_invocation_tokens is no list of token ids")


def _tokenizer_file(folder: Path) -> Path:
    """The file that is to blame where no tokenizer can be made."""
    from transformers import PreTrainedTokenizerFast

    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.exists():
        others = any(next(folder.glob(name), None) for name in ("vocab.*", "*.model", "*.tiktoken", "merges.txt"))
        return settings if others else file
    try:
        with _refused(file, ""):
            if "added_tokens" not in model_files.read_json(file):  # which transformers takes for granted
                return file
            PreTrainedTokenizerFast(tokenizer_file=str(file))("a b")
    except InputError:
        return file
    return settings
