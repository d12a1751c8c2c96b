"""Folders and files that a kill at any moment leaves whole, or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.models.files import object_in


def put(made: Path, target: Path) -> None:
    """Move a finished folder to its place: at every moment there is the one before, none, or this one, never a part."""
    gone = target.with_name(f".{target.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if target.exists():
        target.replace(gone)
    made.replace(target)
    shutil.rmtree(gone, ignore_errors=True)


def partial_of(path: Path) -> Path:
    """Beside a file or folder, where it is written first."""
    return path.with_name(f".{path.name}.partial")


def write(path: Path, text: str) -> None:
    partial_of(path).write_text(text, encoding="utf-8", newline="\n")
    partial_of(path).replace(path)


def write_json(path: Path, content: Any) -> None:
    write(path, json.dumps(content, indent=1, default=str) + "\n")


@dataclass(frozen=True)
class Claim:
    """The file by which a folder belongs to one piece of work: ``kind`` names it, ``identity`` decides its result;
    ``why`` says of parts of that what they would change."""

    path: Path
    schema: str
    kind: str
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What the work that is there was asked for; empty where there is none."""
        return dict(object_in(self.path).get("identity") or {}) if self.path.is_file() else {}

    def check(self, identity: dict[str, Any]) -> None:
        """Refuse (InputError) a folder that holds something else, or other work of the kind; nothing is written."""
        folder = self.path.parent
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: is a file; name a folder")
        if self.path.is_file():
            known = object_in(self.path)
            if known.get("schema") != self.schema:
                raise InputError(
                    f"--out {folder}: its {self.path.name} is not one of compatcheck; choose another folder"
                )
            was, now = _flat(known.get("identity") or {}), _flat(json.loads(json.dumps(identity)))
            differs = [key for key in now if was.get(key) != now[key]]
            if differs:
                reasons = "; ".join(dict.fromkeys(self.why[key] for key in differs if key in self.why))
                raise InputError(
                    f"--out {folder}: holds a {self.kind} with other {', '.join(differs)}"
                    f"{f' ({reasons})' if reasons else ''}; choose another folder, or remove it"
                )
        elif folder.is_dir() and any(path.name != partial_of(self.path).name for path in folder.iterdir()):
            raise InputError(f"--out {folder}: holds something that is no {self.kind}; choose another folder")

    def take(self, identity: dict[str, Any]) -> None:
        """Take the folder, or resume the work that is there; InputError as :meth:`check`, or if it cannot be made."""
        self.check(identity)
        if self.path.is_file():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"schema": self.schema, "identity": identity})
        except OSError as error:
            raise InputError(f"--out {self.path.parent}: cannot be written ({error.strerror or error})") from None


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    settings = identity.get("settings") or {}
    return {k: v for k, v in identity.items() if k != "settings"} | {f"setting {k}": v for k, v in settings.items()}
