"""The files that ``compatcheck init`` writes: commented settings, and workflows of a CI system on request."""

from __future__ import annotations

import json
from pathlib import Path

from compatcheck import workflows
from compatcheck.config import FILE
from compatcheck.errors import InputError
from compatcheck.version import __version__

GITHUB = Path(".github", "workflows", "compatcheck.yml")
DRIFT = Path(".github", "workflows", "compatcheck-drift.yml")
GITLAB = Path(".gitlab", "compatcheck.yml")

SETTINGS_TEXT = """\
# Settings of compatcheck. `compatcheck diff` without arguments runs every check below, with one verdict.
# Every option of `compatcheck diff --help` can stand here, for all checks or in one; the command line overrides it.
# Paths are relative to this file.

# fail_on = ["nfr:2%", "net:-1%"]     # budgets: at most 2 % negative flips; accuracy falls by no more than a point
# format = ["terminal", "html", "junit"]
# out = "compat-report"               # a folder; each check gets one of its own in it
# engine = "auto"                     # auto, hf, vllm, ray, or any lm-eval backend
# batch_size = "auto"
# seed = 1234

[checks.{name}]
old = "{old}"                         # a model, an adapter, BASE+ADAPTER, recorded outputs, http://…/v1#model, @name
new = "{new}"
# task = ["samsum"]                   # needed unless both sides are recorded outputs; see `compatcheck tasks`
{prompts}# num_fewshot = 0
# limit = 500                         # the first N documents; `compatcheck plan` says how many are needed
# fail_on = ["nfr:2%"]
# slice_by = ["category"]

# Recorded outputs (*.jsonl, *.csv, *.parquet) with other field names than id, target and prediction:
# id_field = "meta.id"
# target_field = "answer"
# prediction_field = "output"
# extract = 'Answer: (\\w+)'

# A hosted model against what it said when it was blessed, weekly; the workflow says what to do once.
# [checks.drift]
# old = "@hosted"
# new = "https://api.example/v1#model"
# task = ["gsm8k"]
# noise_run = [".compatcheck/again"]  # a second run of the blessed model: what flips without any change
# fail_on = ["nfr:3%"]
"""

PROMPTS = "prompts.jsonl"
PROMPTS_TEXT = """\
{"id": "capital", "prompt": "What is the capital of France?", "target": "Paris", "topic": "facts"}
{"id": "boiling", "prompt": "At how many degrees Celsius does water boil at sea level?", "target": ["100", "hundred"], "topic": "facts"}
{"id": "sum", "prompt": "What is 17 + 25?", "target": "42", "topic": "sums"}
{"id": "refund", "system": "You answer customers of a shop. Orders can be sent back within 30 days.", "prompt": "My order is 20 days old. Can I send it back? Yes or no?", "target": "yes", "topic": "support"}
{"id": "turns", "prompt": [{"role": "user", "content": "My cat is called Tom."}, {"role": "assistant", "content": "What a nice name!"}, {"role": "user", "content": "What is my cat called?"}], "target": "Tom", "topic": "talk"}
"""  # noqa: E501 - a row of JSONL is one line
PROMPTS_SETTINGS = """\
prompts = "prompts.jsonl"             # your own prompts: prompt, target, id, system, tools …; other fields are slices
# system = "@system.txt"              # in place of the prompts' own; of one side alone: [checks.{name}.new_set]
metric = "contains"                   # the target stands in the answer; exact_match is stricter
metric_args = { contains = { ignore_case = true } }
gen = { temperature = 0, max_tokens = 64 }
"""

FOLLOWED = (".jsonl", ".json", ".csv", ".parquet")


def write(
    folder: Path, *, name: str = "upgrade", old: str = "old.jsonl", new: str = "new.jsonl", github: bool = False,
    gitlab: bool = False, prompts: bool = False, force: bool = False,
) -> list[Path]:  # fmt: skip
    """Write the settings file, and what is asked for besides: the workflows of ``github`` and ``gitlab``, an example of
    ``prompts``; returns what was written.

    Settings that are there already stay when workflows are asked for, without ``force``.
    Raises InputError: a file that is there already, without ``force``; nothing is written then. Or a folder that cannot
    be written, or a name or reference that cannot stand in the file.
    """
    for label, text in (("the name", name), ("OLD", old), ("NEW", new)):
        if not text.isprintable() or '"' in text or "\\" in text:
            raise InputError(f"{label} {text!r}: quotes, backslashes and control characters cannot stand in {FILE}")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise InputError(f"the name {name!r}: letters, digits, - and _ make the name of a check")
    text = SETTINGS_TEXT.replace("{prompts}", PROMPTS_SETTINGS if prompts else "")
    text = text.replace("{name}", name).replace("{old}", old).replace("{new}", new)
    files = {folder / FILE: text}
    if prompts:
        files[folder / PROMPTS] = PROMPTS_TEXT
    if github:
        files[folder / GITHUB] = _filled(workflows.GITHUB, name, (old, new), "      - ")
        files[folder / DRIFT] = _filled(workflows.DRIFT, name, (), "")
    if gitlab:
        files[folder / GITLAB] = _filled(workflows.GITLAB, name, (old, new), "        - ")
    if (github or gitlab) and not (prompts or force) and (folder / FILE).exists():
        del files[folder / FILE]
    there = [path for path in files if path.exists()]
    if there and not force:
        raise InputError(f"{there[0]} is there already; --force replaces it")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from None
    return list(files)


def _filled(text: str, name: str, references: tuple[str, ...], indent: str) -> str:
    """A workflow for the check ``name``, with the references that are files or folders here among its paths."""
    found = []
    for one in dict.fromkeys(references):
        path = one.partition("#")[0].removeprefix("./")
        inside = path and not path.startswith(("/", "~", "..", "@")) and ":" not in path and "{" not in path
        if inside and (path.lower().endswith(FOLLOWED) or Path(path).is_dir()):
            found.append(f"{indent}{json.dumps(path + '/**' if Path(path).is_dir() else path)}\n")
    text = text.replace("{install}", workflows.INSTALL).replace("{version}", __version__)
    return text.replace("{name}", name).replace("{paths}", "".join(found))
