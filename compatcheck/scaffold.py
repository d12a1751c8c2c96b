"""The files that ``compatcheck init`` writes: commented settings, and a CI workflow on request."""

from __future__ import annotations

from pathlib import Path

from compatcheck.config import FILE
from compatcheck.errors import InputError

WORKFLOW = Path(".github", "workflows", "compatcheck.yml")

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
# num_fewshot = 0
# limit = 500                         # the first N documents; `compatcheck plan` says how many are needed
# fail_on = ["nfr:2%"]
# slice_by = ["category"]

# Recorded outputs (*.jsonl, *.csv, *.parquet) with other field names than id, target and prediction:
# id_field = "meta.id"
# target_field = "answer"
# prediction_field = "output"
# extract = 'Answer: (\\w+)'
"""

WORKFLOW_TEXT = """\
# Compares the old and the new model on every pull request that touches the models, and fails on a shown regression.
name: compatcheck
on:
  pull_request:
  workflow_dispatch:
permissions:
  contents: read
jobs:
  compatcheck:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      # 'compatcheck[models] @ git+https://…' where OLD and NEW are models that run here
      - run: pip install git+https://github.com/compatcheck/compatcheck
      - run: compatcheck diff --format github --format junit --format html --out compat-report
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: compat-report
          path: compat-report
"""


def write(
    folder: Path, *, name: str = "upgrade", old: str = "old.jsonl", new: str = "new.jsonl", github: bool = False,
    force: bool = False,
) -> list[Path]:  # fmt: skip
    """Write the settings file, and the workflow where ``github`` asks for it; returns what was written.

    Raises:
        InputError: a file that is there already, without ``force``; nothing is written then. Or a folder that cannot be
            written, or a name or reference that cannot stand in the file.
    """
    for label, text in (("the name", name), ("OLD", old), ("NEW", new)):
        if not text.isprintable() or '"' in text or "\\" in text:
            raise InputError(f"{label} {text!r}: quotes, backslashes and control characters cannot stand in {FILE}")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise InputError(f"the name {name!r}: letters, digits, - and _ make the name of a check")
    text = SETTINGS_TEXT.replace("{name}", name).replace("{old}", old).replace("{new}", new)
    files = {folder / FILE: text}
    if github:
        files[folder / WORKFLOW] = WORKFLOW_TEXT
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
