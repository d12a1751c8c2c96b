"""What OLD and NEW name: parse it, find the files, check that they fit together.

Nothing here loads a model: weights are looked at through their safetensors headers only, and a server is asked for the
names of its models.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from compatcheck import baselines
from compatcheck import models as adapters
from compatcheck.errors import InputError, require
from compatcheck.models import endpoints, gguf, hub
from compatcheck.models import files as model_files
from compatcheck.models import tokenizer as adapter_tokenizer
from compatcheck.models.endpoints import Endpoint
from compatcheck.models.files import read_json
from compatcheck.paths import from_here, user_path

MODEL_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "lm_eval")
RECORDED_SUFFIXES = tuple(
    end + packed
    for end in (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".xlsx", ".xlsm", ".xls", ".ods")
    for packed in ("", ".gz", ".xz", ".zst", ".bz2")
)
RUN_MANIFEST = "manifest.json"
RUN_SCHEMA = "compatcheck.run/1"
"""The file by which a kept run is known, and the schema that it names."""
LAYOUTS = (
    "lighteval", "inspect", "promptfoo", "helm", "alpaca_eval", "fastchat", "openai_evals", "chat_log", "langfuse",
    "langsmith", "braintrust", "deepeval", "nemo_evaluator", "opencompass", "datasets", "rows",
)  # fmt: skip
"""Whose outputs a file or folder holds, where the user says so: ``promptfoo:out.json``; ``rows``: plain rows."""
_MARKS = (
    ("lm-eval", r"samples_.*\.jsonl.*"),
    ("lighteval", r"details_.*\.parquet"),
    ("inspect", r".*\.eval|\d{4}-\d\d-\d\dT.*_.*_.*\.json"),
    ("helm", r"scenario_state\.json|per_instance_stats\.json"),
    ("datasets", r"dataset_dict\.json|state\.json"),
    ("nemo_evaluator", r"eval-\d{8}T\d{6}Z-.*\.json"),
    ("opencompass", r".*/predictions/[^/]+/[^/]+\.json"),
)
"""By the names of which files, or their whole paths, the outputs of a tool are known, the first one that is there."""
_LOOKED_AT = 20_000
"""Files of a folder that are looked at: the whole disk holds no outputs that somebody meant."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?(@[\w.\-/]+)?\Z")
_WHAT = (
    "a reference is a model folder or hub id, a GGUF file, an adapter folder or hub id, BASE+ADAPTER, an endpoint "
    "(http://host:port/v1#model), a blessed baseline (@name), or recorded outputs "
    "(*.jsonl[.gz], *.csv, *.parquet, an lm-eval output folder, outputs of another tool that docs/importers.md "
    "names, a run that `compatcheck run` kept)"
)


@dataclass(frozen=True)
class Reference:
    """One side of the comparison, resolved to local files.

    ``base`` is the folder of the full model (for ``model`` and ``adapter``), ``base_name`` what it was called,
    ``adapter`` the adapter's folder, ``recorded`` the file or folder of recorded outputs or of a kept run (``kind`` is
    ``run`` then). ``gguf`` is a GGUF file that ``base`` was dequantised from. ``tool`` and ``part`` are what
    ``TOOL:PATH#PART`` says of recorded outputs: whose they are, and which of several models, providers or splits.
    """

    text: str
    kind: str
    base: Path | None = None
    base_name: str | None = None
    adapter: Path | None = None
    recorded: Path | None = None
    endpoint: Endpoint | None = None
    gguf: Path | None = None
    tool: str | None = None
    part: str | None = None

    @cached_property
    def tokenizer(self) -> Path | None:
        """Folder of the tokenizer where it is not the base's: one beside the adapter that differs from it."""
        if self.base is None or self.adapter is None:
            return None
        folder = adapter_tokenizer.folder_for(self.base, self.adapter)
        return None if folder == self.base else folder

    def fingerprint(self) -> str:
        """Content fingerprint, equal on every machine that holds the same files. Reads the weights once.

        A kept run has that of the reference it was made of.
        """
        from compatcheck.models import fingerprints

        if self.kind == "run":
            assert self.recorded is not None
            return str(read_json(self.recorded / RUN_MANIFEST).get("fingerprint", ""))
        if self.recorded is not None:
            whole = fingerprints.of_recorded(self.recorded)
            return whole if self.part is None else fingerprints.combine([whole, self.part])
        if self.endpoint is not None:
            return self.endpoint.fingerprint()
        if self.gguf is not None:
            return fingerprints.of_gguf(self.gguf, self.adapter, gguf.REVISION)
        assert self.base is not None
        return fingerprints.of_model(self.base, self.adapter)

    @property
    def quantization(self) -> str | None:
        """How the weights of a GGUF file are kept there, as llama.cpp names it (``Q4_K_M``); None for other models."""
        return None if self.gguf is None or self.base is None else str(gguf.facts_of(self.base)["quantization"])

    @property
    def precision(self) -> str | None:
        """How a local model's weights are kept: ``bfloat16``, ``Q4_0``, ``gptq 4-bit``; None where it is not known."""
        if self.base is None or self.gguf is not None:
            return self.quantization
        return model_files.precision(self.base)


def resolve(text: str, trust_remote_code: bool = False, key_name: str | None = None) -> Reference:
    """Resolve OLD or NEW; of a hub id the model's own code is fetched only where it is trusted. ``key_name`` is the
    environment variable of a server's key.
    Raises InputError: it names nothing usable; the message says what was found and what is accepted.
    """
    if not text.strip():
        raise InputError(f"empty reference; {_WHAT}")
    if endpoints.is_endpoint(text):
        endpoint = endpoints.locate(text, key_name)
        return Reference(endpoint.text, "endpoint", endpoint=endpoint)
    if text.startswith("@"):
        return Reference(text, "run", recorded=baselines.locate(text))
    path = user_path(text)
    if not path.exists() and ((before := text.partition(":")[0]) in LAYOUTS or "#" in text):
        outputs = _resolve_outputs(text, before if before in LAYOUTS else None)
        if outputs is not None:
            return outputs
    file = gguf.locate(text)
    if file is not None:
        return Reference(text, "model", base=gguf.folder_of(file), base_name=text, gguf=file)
    if path.is_dir():
        return _resolve_folder(text, path, trust_remote_code)
    if path.is_file():
        if not path.name.lower().endswith((*RECORDED_SUFFIXES, ".eval")):
            known = ", ".join(RECORDED_SUFFIXES[::5])
            raise InputError(f"{text}: not a file of recorded outputs; known are {known}, also packed")
        return Reference(text, "recorded", recorded=path)
    if "+" in text:
        return _resolve_base_plus_adapter(text, trust_remote_code)
    if not _is_hub_id(text):
        raise InputError(f"{text}: no such file or folder, and no hub id; {_WHAT}")
    require(text, *MODEL_LIBRARIES)
    return _resolve_folder(text, hub.snapshot(text, trust_remote_code), trust_remote_code)


def _resolve_outputs(text: str, tool: str | None) -> Reference | None:
    """``TOOL:PATH#PART``; None where a text without a tool names no path before its ``#``."""
    name = text if tool is None else text.partition(":")[2]
    path, part = user_path(name), None
    if not path.exists() and "#" in name:
        name, _, part = name.partition("#")
        path = user_path(name)
    if not name or not path.exists():
        if tool is None:
            return None
        raise InputError(f"{text}: no such file or folder: {name or '(nothing after the colon)'}")
    if part == "":
        raise InputError(f"{text}: nothing after the '#', which names a model, provider or split")
    if is_kept_run(path) or (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        raise InputError(f"{text}: '#' and a tool before ':' are for outputs that a tool recorded; name {name} alone")
    return Reference(text, "recorded", recorded=path, tool=tool, part=part)


def tool_of_folder(folder: Path) -> str | None:
    """The tool that wrote a folder of outputs; None for lm-eval's, and where there are none."""
    tool = _outputs_in(folder)
    return None if tool == "lm-eval" else tool


def _outputs_in(folder: Path) -> str | None:
    found, looked_at = set(), 0
    for root, _, files in os.walk(folder.absolute()):
        names = [*files, *(f"{root}/{name}" for name in files)] if "/predictions/" in f"{root}/" else files
        found |= {tool for tool, mark in _MARKS if any(re.fullmatch(mark, name) for name in names)}
        looked_at += len(files) + 1
        if "lm-eval" in found or looked_at > _LOOKED_AT:
            break
    return next((tool for tool, _ in _MARKS if tool in found), None)


def _is_hub_id(text: str) -> bool:
    path = text.startswith((".", "/", "~")) or text.endswith(("/", *RECORDED_SUFFIXES)) or text.count("/") > 1
    return not path and _HUB_ID.match(text) is not None


def _resolve_base_plus_adapter(text: str, trust_remote_code: bool) -> Reference:
    base_text, _, adapter_text = text.partition("+")
    if not base_text or not adapter_text:
        raise InputError(f"{text}: BASE+ADAPTER needs a name on both sides of the '+'")
    require(text, *MODEL_LIBRARIES)
    file = gguf.locate(base_text)
    base = gguf.folder_of(file) if file else _locate(base_text, trust_remote_code)
    adapter = _locate(adapter_text)
    if not (adapter / "adapter_config.json").is_file():
        raise InputError(f"{text}: {adapter_text} has no adapter_config.json, so it is no adapter")
    if not (base / "config.json").is_file() or (base / "adapter_config.json").is_file():
        raise InputError(f"{text}: {base_text} is not a full model (no config.json); the base stands before the '+'")
    model_files.check_model(base_text, base)
    adapters.check(adapter_text, adapter, base)
    return Reference(text, "adapter", base=base, base_name=base_text, adapter=adapter, gguf=file)


def is_kept_run(folder: Path) -> bool:
    """Whether a folder holds a kept run, of whatever version; a damaged manifest counts when records lie beside it."""
    try:
        value = json.loads((folder / RUN_MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        return False
    except (ValueError, RecursionError):
        return (folder / "records.parquet").is_file()
    return isinstance(value, dict) and str(value.get("schema")).startswith(RUN_SCHEMA.partition("/")[0] + "/")


def _resolve_folder(text: str, folder: Path, trust_remote_code: bool) -> Reference:
    if is_kept_run(folder):
        return Reference(text, "run", recorded=folder)
    if (folder / "adapter_config.json").is_file():
        require(text, *MODEL_LIBRARIES)
        base_name, base = _base_of_adapter(text, folder, trust_remote_code)
        file = base if base.is_file() else None
        base = gguf.folder_of(file) if file else base
        model_files.check_model(base_name, base)
        adapters.check(text, folder, base)
        return Reference(text, "adapter", base=base, base_name=base_name, adapter=folder, gguf=file)
    if (folder / "config.json").is_file():
        require(text, *MODEL_LIBRARIES)
        model_files.check_model(text, folder)
        return Reference(text, "model", base=folder, base_name=text)
    if _outputs_in(folder) is not None:
        return Reference(text, "recorded", recorded=folder)
    if (found := next(iter(sorted(folder.glob(f"*{gguf.SUFFIX}"))), None)) is not None:
        raise InputError(f"{text}: a folder of GGUF files; name the file: {found}")
    raise InputError(
        f"{text}: neither a model (config.json), nor an adapter (adapter_config.json), nor an lm-eval output folder "
        "(samples_*.jsonl), nor a kept run (manifest.json of `compatcheck run`), nor outputs of lighteval, inspect_ai, "
        "HELM, OpenCompass, NeMo Evaluator or datasets"
    )


def _base_of_adapter(text: str, folder: Path, trust_remote_code: bool) -> tuple[str, Path]:
    """What the base is called, ``@REVISION`` included, and its folder or GGUF file."""
    file = folder / "adapter_config.json"
    config = read_json(file)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not name or not isinstance(name, str):
        raise InputError(f"{file}: base_model_name_or_path is missing; name the base as BASE+{text}")
    for candidate in (folder / name, user_path(name)):
        if candidate.is_dir() or gguf.is_gguf(candidate):
            found = candidate.resolve()
            return str(from_here(found)), found
    if revision is not None and not (isinstance(revision, str) and revision):
        raise InputError(f"{file}: revision is {revision!r}; it names a revision of the base, or is null")
    named = name if revision is None or "@" in name else f"{name}@{revision}"
    if not Path(name).is_absolute() and (packed := gguf.locate(named)) is not None:
        return named, packed
    if not _is_hub_id(name):
        raise InputError(
            f"{file}: base model '{name}' does not exist (looked beside the adapter and in "
            f"the working directory); name it as BASE+{text}"
        )
    try:
        return named, hub.snapshot(named, trust_remote_code)
    except InputError as error:
        raise InputError(f"{file}: names a base that cannot be had: {error}") from None


def _locate(text: str, trust_remote_code: bool = False) -> Path:
    path = user_path(text)
    if path.is_dir():
        return path
    if not _is_hub_id(text):
        raise InputError(f"{text}: no such folder")
    return hub.snapshot(text, trust_remote_code)
