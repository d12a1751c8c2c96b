"""The files that ``compatcheck init`` writes: commented settings, and workflows of a CI system on request.

Their texts are templates in ``init_files/``. Nothing that a pull request can name is pasted into a script, and the job
that may write a comment runs nothing of the repository: it posts a file that the other job made, as data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.config import FILE
from compatcheck.errors import InputError
from compatcheck.version import __version__

GITHUB = Path(".github", "workflows", "compatcheck.yml")
DRIFT = Path(".github", "workflows", "compatcheck-drift.yml")
GITLAB = Path(".gitlab", "compatcheck.yml")
TEMPLATES: Mapping[str | Path, str] = {GITHUB: "github.yml", DRIFT: "drift.yml", GITLAB: "gitlab.yml"}

PROMPTS = "prompts.jsonl"
INSTALL = f"compatcheck @ git+https://github.com/compatcheck/compatcheck@v{__version__}"
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
    made: list[str | Path] = [FILE]
    made += [PROMPTS] if prompts else []
    made += [GITHUB, DRIFT] if github else []
    made += [GITLAB] if gitlab else []
    values = {"name": name, "old": old, "new": new, "prompts": prompts, "paths": _followed(old, new)}
    files = {folder / file: _filled(TEMPLATES.get(file, str(file)), values) for file in made}
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


def _filled(template: str, values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    texts = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "init_files"), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, variable_start_string="<<", variable_end_string=">>", block_start_string="<%",
        block_end_string="%>", comment_start_string="<#", comment_end_string="#>",
    )  # fmt: skip
    return texts.get_template(f"{template}.j2").render(**values, install=INSTALL, version=__version__)


def _followed(*references: str) -> list[str]:
    """Those of the references that are files or folders here, as a workflow names the paths that start it."""
    found = []
    for one in dict.fromkeys(references):
        path = one.partition("#")[0].removeprefix("./")
        inside = path and not path.startswith(("/", "~", "..", "@")) and ":" not in path and "{" not in path
        if inside and (path.lower().endswith(FOLLOWED) or Path(path).is_dir()):
            found.append(json.dumps(path + "/**" if Path(path).is_dir() else path))
    return found
