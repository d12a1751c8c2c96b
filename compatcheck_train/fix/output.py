"""The folder of a training: whose it is, and what is in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck_train.fix.folders import holds_other_things, partial_of, write_json

SCHEMA = "compatcheck.train/1"


class Output:
    """``run.json`` (what decides the result, and the result), ``adapter/``, ``checkpoints/``, ``metrics.jsonl``."""

    def __init__(self, folder: Path, accelerator: Any) -> None:
        self.folder = folder
        self.adapter = folder / "adapter"
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"
        self.best = folder / "best.safetensors"
        self._run = folder / "run.json"
        self._accelerator = accelerator

    def claim(self, identity: dict[str, Any]) -> None:
        """Take the folder for a training, or go on with the one that is there.

        Raises:
            InputError: it holds something else, or cannot be written.
        """
        identity = json.loads(json.dumps(identity))
        if self._accelerator.is_main_process:
            known = self._read()
            if known is None:
                if holds_other_things(self.folder, [self._run, partial_of(self._run)]):
                    raise InputError(f"--out {self.folder}: holds something that is no training; choose another folder")
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    write_json(self._run, {"schema": SCHEMA, "identity": identity, "result": None})
                except OSError as error:
                    raise InputError(f"--out {self.folder}: cannot be written ({error.strerror or error})") from None
            elif known.get("identity") != identity:
                raise InputError(
                    f"--out {self.folder}: holds a training with other {_difference(known.get('identity'), identity)}; "
                    "choose another folder, or remove it"
                )
        self._accelerator.wait_for_everyone()

    def finished(self) -> dict[str, Any] | None:
        """The result that was written before, or None."""
        known = self._read() or {}
        result = known.get("result")
        if result is None or not (self.adapter / "adapter_model.safetensors").is_file():
            return None
        self._tidy()
        return {**result, "history": tuple(result["history"]), "notes": tuple(result["notes"])}

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result and remove what only a resumed run would need."""
        write_json(self._run, {**(self._read() or {}), "result": result})
        self._tidy()

    def _tidy(self) -> None:
        if self._accelerator.is_main_process:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            self.best.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            known = json.loads(self._run.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and known.get("schema") == SCHEMA else None


def _difference(before: Any, now: dict[str, Any]) -> str:
    if not isinstance(before, dict):
        return "contents"
    parts = [key for key in now if key != "settings" and before.get(key) != now[key]]
    old, new = before.get("settings") or {}, now["settings"]
    parts += [f"setting {key}" for key in new if old.get(key) != new[key]]
    return ", ".join(parts) or "contents"
