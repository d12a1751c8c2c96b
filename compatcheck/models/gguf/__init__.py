"""GGUF files: each is read by transformers once and kept, dequantised, as a folder like any other model's.

From then on every engine, adapter and training reads that folder. It lies in the user's cache under the digest of the
file, and may be thrown away: it is made again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.models import fingerprints
from compatcheck.paths import cache_dir, user_path
from compatcheck.version import installed

SUFFIX = ".gguf"
_ON_HUB = re.compile(r"(?P<repo>[\w\-][\w.\-]*/[\w.\-]+)/(?P<file>[\w.\-/]+\.gguf)(@(?P<revision>[\w.\-/]+))?", re.I)
REVISION = 1
"""Counted up when a change of ours makes another folder of the same file: neither what was made before nor what was
answered with it is used any more."""
_FACTS = "gguf.json"
"""What the folder was made of; written last, so a folder with it is whole."""


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file that is here."""
    return path.name.lower().endswith(SUFFIX) and path.is_file()


def locate(text: str) -> Path | None:
    """The GGUF file that a text names: one that is here, or ``org/repo/file.gguf[@revision]`` of the model hub, of
    which that file alone is fetched. None for a text that names none. Raises InputError: there is no such file."""
    path = user_path(text)
    if is_gguf(path):
        return path
    named = _ON_HUB.fullmatch(text)
    if named is None and not text.lower().endswith(SUFFIX):
        return None
    if named is None or Path(text.partition("/")[0]).is_dir():
        raise InputError(f"{text}: no such file; a GGUF file of the model hub is org/repo/file.gguf")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(named["repo"], named["file"], revision=named["revision"]))
    except Exception as error:  # the hub client raises many kinds: network, permission, missing repository
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"{text}: not a file here, and the model hub did not give it ({type(error).__name__}: {first[:160]})"
        ) from None


def folder_of(file: Path) -> Path:
    """The folder with the dequantised model of a GGUF file; made the first time, which takes seconds to minutes.

    Weights are float32, the values that transformers dequantises; the tokenizer begins and splits texts as the file's
    metadata says. Raises InputError: no GGUF file of a causal language model, one that is cut off, one that
    transformers reads only in part, or no room for the folder."""
    try:
        made_by = {name: installed(name) for name in ("gguf", "transformers")}
        import transformers.integrations.gguf  # noqa: F401
    except ImportError:
        raise InputError("reading GGUF files takes more packages: pip install 'compatcheck[gguf]'") from None
    digest = fingerprints.of_file(file)
    target = cache_dir("gguf") / f"{digest[:24]}-{made_by['transformers']}-{REVISION}"
    if (target / _FACTS).is_file():
        return target
    from compatcheck.models.gguf.convert import convert

    if sys.stderr.isatty():
        print(f"{file.name}: dequantising, once on this machine", file=sys.stderr)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        facts = convert(file, temporary) | {"versions": made_by}
        (temporary / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        temporary.rename(target)
    except OSError as error:
        if not (target / _FACTS).is_file():  # else another process was faster
            raise InputError(
                f"{target}: cannot be written ({error}); COMPATCHECK_CACHE names another folder"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def facts_of(folder: Path) -> dict[str, Any]:
    """``quantization`` (``Q4_K_M`` …), ``architecture``, ``versions`` and, where the file says it, ``name`` of a folder
    that :func:`folder_of` made."""
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return facts
