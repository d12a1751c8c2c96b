"""The project's settings: ``compatcheck.toml``, or ``[tool.compatcheck]`` in pyproject.toml.

Top-level keys are the options of ``compatcheck diff`` and serve every check and every ``diff`` of the project; a table
``[checks.NAME]`` names OLD and NEW and may say anything otherwise. ``[fix]`` has options of ``compatcheck fix``.
Command line > environment > check > top level. What a file may say that was found and not named: docs/configuration.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck import sides
from compatcheck.errors import InputError, did_you_mean
from compatcheck.option_models import about, options_of, read
from compatcheck.options import Check as CheckOptions
from compatcheck.options import Fix
from compatcheck.paths import from_here, user_path

FILE = "compatcheck.toml"
PROJECT_FILE = "pyproject.toml"
ENVIRONMENT = "COMPATCHECK_"
"""Prefix of environment variables: ``COMPATCHECK_ENGINE=vllm``. Only for the keys of :data:`FROM_ENVIRONMENT`."""
FROM_ENVIRONMENT = tuple(name for name, one in options_of(CheckOptions).items() if about(one).environment)


@dataclass(frozen=True)
class Check:
    """One named comparison. ``options`` are those of ``compatcheck diff``, top-level ones included."""

    name: str
    old: str
    new: str
    options: Mapping[str, Any]
    further: tuple[str, ...] = ()
    """Candidates beside ``new``."""


@dataclass(frozen=True)
class Config:
    """What a settings file says. ``path`` is None where there is none; ``key`` is where in it the settings stand."""

    path: Path | None = None
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    fix: Mapping[str, Any] = field(default_factory=dict)

    def choose(self, names: Sequence[str] = ()) -> tuple[Check, ...]:
        """The checks of these names, or all. Raises InputError: there are none, or none of a name."""
        if self.path is None:
            raise InputError(
                "OLD and NEW are missing, and there is no compatcheck.toml here that names checks (`compatcheck init` "
                "writes one)"
            )
        if not self.checks:
            below = f"{self.key}." if self.key else ""
            raise InputError(f"{self.path}: no check is named there; add a table [{below}checks.NAME]")
        known = {check.name: check for check in self.checks}
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                raise InputError(f"--check {name}: no such check in {self.path}{hint}; there are {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names)) if names else self.checks


def settle(options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a check with what the environment and, above it, the command line says."""
    above = {**from_environment(), **given}
    return {**options, **above, **_of_sides(options, above)}


def _of_sides(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of either side, which are laid over each other one by one."""
    named = [name for name in sides.SIDES.values() if below.get(name) and above.get(name)]
    return {name: sides.laid_over(below[name], above[name]) for name in named}


def only(model: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a model has."""
    return {name: value for name, value in options.items() if name in options_of(model)}


def find(start: Path | None = None) -> Path | None:
    """The settings file of a folder, or the nearest above it in its repository; outside of one the folder alone."""
    folder = (start or Path.cwd()).resolve()
    above = [folder, *folder.parents]
    root = next((place for place, each in enumerate(above) if (each / ".git").exists()), 0)
    for each in above[: root + 1]:
        if (each / FILE).is_file():
            return each / FILE
        project = each / PROJECT_FILE
        if (
            project.is_file()
            and b"compatcheck" in project.read_bytes()
            and "compatcheck" in _toml(project).get("tool", {})
        ):
            return project
    return None


def load(path: Path | None = None) -> Config:
    """Read the settings of the current folder, or of ``path``.
    Raises InputError: a file that is no TOML, that others can write, an unknown key, a value of the wrong kind, a check
    without OLD or NEW.
    """
    if path is not None and not path.is_file():
        raise InputError(f"--config {path}: no such file")
    found = path or find()
    if found is None:
        return Config()
    if path is None:
        _check_owner(found)
    table: Any = _toml(found)
    key = ""
    if found.name == PROJECT_FILE:
        table, key = table.get("tool", {}).get("compatcheck", {}), "tool.compatcheck"
    if not isinstance(table, dict):
        raise InputError(f"{found}: {key} must be a table")
    file = _File(found, named=path is not None)
    below = f"{key}." if key else ""
    checks, fixes = table.pop("checks", {}), table.pop("fix", {})
    if not isinstance(checks, dict):
        raise file.error(f"{below}checks", "must be a table of tables, such as [checks.summaries]")
    if not isinstance(fixes, dict):
        raise file.error(f"{below}fix", "must be a table of options of `compatcheck fix`")
    shared = file.options(table, below, CheckOptions, "diff")
    return Config(
        found,
        key,
        shared,
        tuple(file.check(name, each, shared, f"{below}checks.{name}") for name, each in checks.items()),
        file.options(fixes, f"{below}fix.", Fix, "fix"),
    )


def from_environment(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options given as environment variables. Raises InputError: a value that cannot be read."""
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    for key in FROM_ENVIRONMENT:
        name = ENVIRONMENT + key.upper()
        if text := environment.get(name, ""):
            given[key] = int(text) if text.isdigit() else text
            try:
                read(options_of(CheckOptions)[key], given[key])
            except ValueError as error:
                raise InputError(f"environment variable {name}={text}: {error}") from None
    return given


def _check_owner(file: Path) -> None:
    """Raise InputError for a file that another user owns or can write; a file of the superuser is trusted."""
    if os.name == "nt":
        return
    import grp
    import pwd

    about_it = file.stat()
    mine = {os.geteuid(), 0} | ({int(os.environ["SUDO_UID"])} if os.environ.get("SUDO_UID", "").isdigit() else set())
    trust = f"name it with --config {file.name} where you trust it"
    if about_it.st_uid not in mine:
        raise InputError(f"{file}: belongs to another user, so it is not obeyed; {trust}")
    try:
        members = set(grp.getgrgid(about_it.st_gid).gr_mem) - {pwd.getpwuid(os.geteuid()).pw_name}
        others = bool(members) or about_it.st_gid != os.getegid()
    except KeyError:
        others = True
    if about_it.st_mode & stat.S_IWOTH or (about_it.st_mode & stat.S_IWGRP and others):
        raise InputError(f"{file}: other users can write it, so it is not obeyed; chmod go-w {file.name}, or {trust}")


@dataclass(frozen=True)
class _File:
    path: Path
    named: bool
    """By --config, and so trusted as the command line is."""

    def error(self, key: str, why: str) -> InputError:
        return InputError(f"{self.path}: {key}: {why}")

    def check(self, name: str, table: Any, shared: Mapping[str, Any], key: str) -> Check:
        if not isinstance(table, dict):
            raise self.error(key, "must be a table with old, new and options")
        several = table.get("new")
        if isinstance(several, list) and several and all(isinstance(each, str) and each for each in several):
            table = {**table, "new": several[0]}
        else:
            several = []
        for side in ("old", "new"):
            if isinstance(table.get(side), dict):
                raise self.error(f"{key}.{side}", f"settings of one side stand in [{key}.{sides.SIDES[side]}]")
            if not isinstance(table.get(side), str) or not table[side]:
                raise self.error(f"{key}.{side}", "is missing: name a model, an adapter or recorded outputs")
        rest = {each: value for each, value in table.items() if each not in ("old", "new")}
        own = self.options(rest, f"{key}.", CheckOptions, "diff")
        options = {**shared, **own, **_of_sides(shared, own)}
        further = tuple(map(self.reference, several[1:]))
        return Check(name, self.reference(table["old"]), self.reference(table["new"]), options, further)

    def options(self, table: Mapping[str, Any], below: str, model: type, command: str) -> dict[str, Any]:
        known = options_of(model)
        found: dict[str, Any] = {}
        for spelled, value in table.items():
            name, key = spelled.replace("-", "_"), f"{below}{spelled}"
            name = sides.SIDES.get(name, name) if model is CheckOptions else name
            if name not in known:
                hint = did_you_mean(name, [*known, "checks", "fix", "old", "new"])
                raise self.error(
                    key, f"no such setting{hint}; see `compatcheck {command} --help`, whose options they are"
                )
            if name in found:
                raise self.error(key, "is given twice, in two spellings")
            try:
                read(known[name], value)
            except ValueError as error:
                raise self.error(key, f"{value!r} {error}") from None
            if name in sides.SIDES.values():
                found[name] = self.side(value, key)
                continue
            self.check_power(name, value, key)
            found[name] = self.placed(str(known[name].type), value, key)
        return found

    def side(self, table: Mapping[str, Any], key: str) -> dict[str, Any]:
        """The settings of one side."""
        known, found = options_of(CheckOptions), dict[str, Any]()
        for spelled, value in table.items():
            where = f"{key}.{spelled}"
            try:
                ((name, own),) = sides.setting(spelled, value).items()
            except ValueError as error:
                raise self.error(where, f"{value!r} {error}" if str(error).startswith("must") else str(error)) from None
            self.check_power(name, value, where)
            found = sides.laid_over(
                found, {name: self.placed(str(known[name].type), own if isinstance(own, Mapping) else value, where)}
            )
        return found

    def check_power(self, name: str, value: Any, key: str) -> None:
        """Refuse what lets others' code run in a file that was merely found."""
        within = [each.replace("-", "_") for each in ([name, *value] if isinstance(value, dict) else [name])]
        known = options_of(CheckOptions)
        if not self.named and value is not False and any(e in known and about(known[e]).power for e in within):
            raise self.error(
                key, f"is taken from the command line alone, or from a file named there: --config {self.path.name}"
            )

    def placed(self, kind: str, value: Any, key: str) -> Any:
        """A value with its paths, which are relative to the file, as seen from the current folder."""
        kind = kind.removesuffix(" | None")
        several = [value] if isinstance(value, str) else value
        if kind in ("Path", "Store") and isinstance(value, str):
            return self.from_here(value)
        if kind == "Instruction" and value.startswith("@") and not value.startswith("@@"):
            return "@" + self.sent(value[1:], key)
        if kind == "Tasks":
            return [self.from_here(each) if each.endswith((".yaml", ".yml")) else each for each in several]
        if kind == "Reference":
            return self.reference(value)
        if kind == "References":
            return [self.reference(each) for each in several]
        if kind == "Tables" and isinstance(value.get("judge", {}).get("rubric"), str):
            return {**value, "judge": {**value["judge"], "rubric": self.rubric(value["judge"]["rubric"], key)}}
        return value

    def rubric(self, text: str, key: str) -> str:
        """A judge's rubric, or its file, which is sent to the judge and so has to lie below the settings."""
        if "\n" in text or len(text) >= 256 or "\0" in text:
            return text
        if (self.path.parent / user_path(text)).exists() or text.startswith(("/", "~", "..")):
            return self.sent(text, f"{key}.judge.rubric")
        return text

    def sent(self, text: str, key: str) -> str:
        """A file whose content goes to a model or a server, and so has to lie below the settings file."""
        folder = self.path.parent.resolve()
        if not (folder / user_path(text)).resolve().is_relative_to(folder):
            raise self.error(key, f"{text} lies outside {folder}; move it below the settings file")
        return self.from_here(text)

    def reference(self, text: str) -> str:
        """A reference whose paths are relative to the settings file."""
        if text.startswith(("http://", "https://", "@")):
            return text
        return "+".join(self.from_here(part) if self.exists(part) else part for part in text.split("+"))

    def exists(self, part: str) -> bool:
        """Whether a part of a reference is a path here; of one with ``{task}`` the folder before it counts."""
        stem, placeholder, _ = part.partition("{task}")
        if placeholder:
            return "/" in stem and (self.path.parent / stem.rpartition("/")[0]).is_dir()
        return bool(part) and (self.path.parent / part).exists()

    def from_here(self, text: str) -> str:
        return str(from_here(self.path.parent / user_path(text)))


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
