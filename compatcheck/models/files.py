"""The files of a model or adapter folder, before anything is loaded: JSON that can be read, weights that are whole.

Reads headers and small files alone. What the values mean is judged by transformers and PEFT themselves
(:mod:`compatcheck.engines.hf.checking`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, one_line

Shape = tuple[int, ...]
TEMPLATE = "chat_template.jinja"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The file of the weights, or the one that says in which files they are."""
SETTINGS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "preprocessor_config.json", "processor_config.json", "chat_template.json",
)  # fmt: skip
"""Files of a model folder that hold one JSON object each, where they are there."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def times(shape: Iterable[int]) -> str:
    """A shape as it is shown: ``64×32``."""
    return "×".join(map(str, shape))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises InputError where it cannot be read, is no JSON, is nested too deeply, or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of more digits than Python reads
        raise InputError(f"{path}: not JSON that can be read ({one_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def object_in(path: Path) -> dict[str, Any]:
    """The JSON object of a file; empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """Shapes of the tensors in a safetensors file, from its header, which the library checks against the file. Raises
    InputError: no safetensors file, one that is cut off, or whose header contradicts itself."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        told = one_line(error).removeprefix("Error while deserializing header: ")
        raise InputError(
            f"{path}: not a safetensors file, damaged or cut off ({told}); copy or save it again"
        ) from None


def weight_files(text: str, folder: Path) -> list[Path]:
    """The files that transformers reads the weights of a model folder from. Raises InputError: pickles alone, no
    weights, an index that names what is not there, shards without an index."""
    if _is_there(folder / WHOLE):
        return [folder / WHOLE]
    if _is_there(folder / INDEX):
        return _indexed(folder / INDEX)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if found:
        raise InputError(
            f"{text}: neither {WHOLE} nor {INDEX}, which would say what {', '.join(found[:3])} hold; download the "
            "folder again, or save the model again with save_pretrained"
        )
    refuse_pickles(text, folder)
    raise InputError(f"{text}: no *.safetensors weights in the folder")


def refuse_pickles(text: str, folder: Path, what: str = "model") -> None:
    """Raise InputError where a folder holds weights as pickles."""
    pickled = next((path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))), None)
    if pickled:
        raise InputError(
            f"{text}: {pickled} is a pickle, which can run code when loaded; only safetensors are read "
            f"(save the {what} again with save_pretrained)"
        )


def _indexed(index: Path) -> list[Path]:
    content = read_json(index)
    if not isinstance(content.get("metadata"), dict):
        raise InputError(f"{index}: metadata is no JSON object, which transformers asks for; an empty one will do")
    places = content.get("weight_map")
    if not isinstance(places, Mapping) or not places:
        raise InputError(f"{index}: weight_map is missing or empty; it says which file holds which weight")
    for name, file in places.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file:
            raise InputError(f"{index}: {name} is said to be in {file!r}, which is no *.safetensors file of the folder")
    files = [index.parent / file for file in sorted(set(places.values()))]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise InputError(
            f"{index}: names {', '.join(absent[:3])}{' …' if len(absent) > 3 else ''}, {len(absent)} of {len(files)} "
            "files, which are not in the folder; download it again"
        )
    return files


def check_weight_files(text: str, folder: Path) -> dict[str, Shape]:
    """The shapes of all weights of a model folder by name. Raises InputError: as :func:`weight_files`, a file that is
    damaged, an index that names a weight which is in no file, a weight that is in two of them."""
    files = weight_files(text, folder)
    found: dict[str, Shape] = {}
    holders: dict[str, str] = {}
    for file in files:
        for name, shape in tensor_shapes(file).items():
            if name in holders:
                raise InputError(f"{file}: {name} is in {holders[name]} too; which one counts cannot be known")
            found[name], holders[name] = shape, file.name
    if files[0].name != WHOLE:
        for name, file_name in read_json(folder / INDEX)["weight_map"].items():
            if name not in holders:  # transformers reads all files that are named, so which of them does not matter
                raise InputError(
                    f"{folder / INDEX}: {name} is said to be in {file_name}, but is in none of the files that it names"
                )
    return found


def _is_there(path: Path) -> bool:
    """Whether a file is there; a link to nothing is, and is said to be broken when it is read."""
    return path.exists() or path.is_symlink()


def check_model(text: str, folder: Path) -> None:
    """Check that a model folder is whole: its JSON files, its weights, its tokenizer. Raises InputError: what is wrong,
    and in which file."""
    if "model_type" not in read_json(folder / "config.json"):
        raise InputError(f"{folder / 'config.json'}: model_type is missing; not a transformers model")
    for name in SETTINGS[1:]:
        if _is_there(folder / name):
            read_json(folder / name)
    for template in [folder / TEMPLATE, *sorted((folder / "additional_chat_templates").glob("*.jinja"))]:
        if _is_there(template):
            try:
                template.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{template}: cannot be read as UTF-8 text ({error})") from None
    check_weight_files(text, folder)
    if not any(
        (folder / name).is_file()
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        raise InputError(f"{text}: no tokenizer files (tokenizer.json …) beside the weights")


def precision(folder: Path) -> str | None:
    """How the weights in a model's folder are kept, ``gptq 4-bit`` say; None where config.json does not tell."""
    config = read_json(folder / "config.json")
    packed = config.get("quantization_config")
    if not isinstance(packed, dict) or not packed.get("quant_method"):
        text = config.get("text_config")
        found = (
            config.get("dtype") or config.get("torch_dtype") or (text.get("dtype") if isinstance(text, dict) else None)
        )
        return found if isinstance(found, str) else None
    words = [str(packed["quant_method"])]
    bits = packed.get("bits") or (packed.get("load_in_4bit") and 4) or (packed.get("load_in_8bit") and 8)
    words += [f"{bits}-bit"] if bits else []
    inner = packed.get("quant_type")
    default = inner.get("default") if isinstance(inner, dict) else None
    kinds = [packed.get("format"), packed.get("weights")]
    if isinstance(default, dict):  # torchao's configurations, written as objects of objects
        inner = (default.get("_data") or {}).get("weight_dtype")
        kinds += [default.get("_type"), inner.get("_data") if isinstance(inner, dict) else None]
    return " ".join([*words, *(each for each in kinds if isinstance(each, str))])
