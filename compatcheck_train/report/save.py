"""Write every form of a finished fix, and the adapter's model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.references import read_json
from compatcheck_train.fix.run import Fixed
from compatcheck_train.report.card import render_card
from compatcheck_train.report.data import fix_to_dict
from compatcheck_train.report.html import render_html
from compatcheck_train.report.markdown import render_markdown


def save(fixed: Fixed, out: Path, command: str = "") -> dict[str, Any]:
    """Write fix_report.json, .md and .html to ``out`` and README.md to the adapter; returns the report.

    Raises:
        InputError: the folder cannot be written.
    """
    report = fix_to_dict(fixed, command)
    base = str(read_json(fixed.adapter / "adapter_config.json").get("base_model_name_or_path", ""))
    files = {
        out / "fix_report.json": json.dumps(report, indent=1, ensure_ascii=True, allow_nan=False) + "\n",
        out / "fix_report.md": render_markdown(report),
        out / "fix_report.html": render_html(report),
        fixed.adapter / "README.md": render_card(report, base),
    }
    try:
        for path, text in files.items():
            temporary = path.with_name(f".{path.name}.partial")
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    return report
