"""A compatibility section in a Hugging Face model card: what changed against the model before, with every signature.

The section stands between two markers. Writing it again replaces what is between them; every other byte of the card,
its metadata included, stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compatcheck.compare.result import Comparison, Result
from compatcheck.errors import InputError
from compatcheck.report import content, figures, sections
from compatcheck.report.markdown import EMOJI, draw, escape, head, prose

START, END = "<!-- compatcheck:start -->", "<!-- compatcheck:end -->"
NAME = "README.md"
_MODEL_FILES = ("config.json", "adapter_config.json")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z", re.ASCII)
_MARK = re.compile(rf"^(?:{re.escape(START)}|{re.escape(END)})[ \t]*\r?$", re.MULTILINE)


def section(result: Result, *, old: str = "", new: str = "") -> str:
    """The section as Markdown, markers included. ``old`` and ``new`` name the models where their paths are not to be
    published. Names and reasons are escaped: they are text, whatever is in them."""
    old, new = old or result.old.name or result.old.reference, new or result.new.name or result.new.reference
    word = content.verdict_line(result)[0]
    sides = (("old", old, result.old.fingerprint), ("new", new, result.new.fingerprint))
    blocks = [
        START,
        f"## Compatibility with {escape(old)}",
        f"{EMOJI.get(result.verdict, '')} **{prose(word)}**: {prose(content.sentence(result))}",
        *head(result),
        draw(sections.Table((("", "text"), ("model", "name"), ("fingerprint", "name")), sides)),
    ]
    kinds = dict.fromkeys(figures.groups(each) for each in result.comparisons)
    blocks += [draw(_figures([one for one in result.comparisons if figures.groups(one) == each])) for each in kinds]
    gates = tuple((each.name, *row) for each in result.comparisons for row in sections.gates(each).rows)
    if gates:
        columns = (("comparison", "name"), ("verdict", "verdict"), ("budget", "name"), ("reason", "text"))
        blocks.append(draw(sections.Table(columns, gates)))
    for each in result.comparisons:
        blocks += [
            f"{escape(each.name)}: **{part.title}**, {prose(part.note)}" for part in sections.details(each) if part.note
        ]
        blocks += [f"{escape(each.name)}: {prose(remark)}" for remark in sections.pairing_remarks(each)]
    blocks += [prose(note) for note in result.notes]
    blocks.append("Shares are of all n instances. How the figures were made, one signature for each row above:")
    blocks.append("\n".join(f"- {escape(each.signature)}" for each in result.comparisons))
    return "\n\n".join([*blocks, END])


def _figures(comparisons: Sequence[Comparison]) -> sections.Table:
    """The quadrants of comparisons of one kind, a row each."""
    rows, name = [], figures.tiles(comparisons[0])[0][0]
    for each in comparisons:
        figure, change = each.metrics.get(name), sections.headline_change(each)
        if figure is None or figure.value is None:
            rate = f"undefined: {(figure.why if figure else None) or 'nothing was scored'}"
        else:
            rate = f"{figures.estimate(name, figure)} ({figures.interval(name, figure)})"
        counts = (f"{cell.n:,} ({cell.share})" for cell in sections.quadrants(each))
        rows.append((each.name, f"{each.n:,}", change.short if change else "", *counts, rate))
    labels = (cell.label for cell in sections.quadrants(comparisons[0]))
    heading = "NFR" if name == "nfr" else name
    numbers = ("n", "old → new", *labels, f"{heading} ({figures.level(comparisons[0])} interval)")
    return sections.Table((("comparison", "name"), *((each, "number") for each in numbers)), tuple(rows))


def insert(card: str, text: str, where: str = NAME) -> str:
    """The card with ``text`` in place of the section it has, or at its end.
    Raises InputError: metadata that cannot be read, or markers that do not form one pair.
    """
    _check_metadata(card, where)
    breaks = "\r\n" if "\r\n" in card else "\n"
    text = text.replace("\n", breaks)
    marks = list(_MARK.finditer(card))
    if not marks:
        gap = "" if not card else breaks if card.endswith("\n") else breaks * 2
        return f"{card}{gap}{text}{breaks}"
    if [mark[0].strip() for mark in marks] != [START, END]:
        line = card.count("\n", 0, marks[0].start()) + 1
        raise InputError(f"{where}:{line}: one {START} and one {END} after it are expected; remove the others")
    end = marks[1].start() + len(END)
    return card[: marks[0].start()] + text + card[end:]


def write(result: Result, folder: Path, *, old: str = "", new: str = "") -> Path:
    """Put the section into the folder's README.md, making one where there is none; returns its path.
    Raises InputError: no model folder, a card that cannot be read or cannot be written; it is then as it was.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one with the model, where its {NAME} is")
    if not any((folder / name).is_file() for name in (NAME, *_MODEL_FILES)):
        raise InputError(f"{folder}: holds neither {NAME} nor {' nor '.join(_MODEL_FILES)}; name a model's folder")
    try:
        before = path.read_bytes().decode("utf-8") if path.is_file() else _fresh(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    after = insert(before, section(result, old=old, new=new), str(path))
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{NAME}.", delete=False) as file:
            file.write(after.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


def push(result: Result, repo: str, *, old: str = "", new: str = "") -> str:
    """Put the section into the card of a model on the hub, as one commit on what is there; returns its address.
    Raises InputError: not an id of a model, or the hub does not answer, refuse the card or refuse the commit.
    """
    if not _HUB_ID.match(repo):
        raise InputError(f"--push {repo}: write the id of a model on the hub as owner/name")
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    api = HfApi()
    try:
        commit = api.model_info(repo).sha
        try:
            before = Path(api.hf_hub_download(repo, NAME, revision=commit)).read_bytes().decode("utf-8")
        except EntryNotFoundError:
            before = ""
        after = insert(before, section(result, old=old, new=new), f"{repo}/{NAME}")
        ModelCard(after.removeprefix("\ufeff")).validate()
        done = api.upload_file(
            path_or_fileobj=after.encode("utf-8"), path_in_repo=NAME, repo_id=repo, parent_commit=commit,
            commit_message="Compatibility with the model before",
        )  # fmt: skip
    except InputError:
        raise
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"--push {repo}: {str(error).strip().splitlines()[0]}") from error
    except Exception as error:  # the transport's own kinds, which are not of one family in all versions of the library
        raise InputError(f"--push {repo}: the hub does not answer ({type(error).__name__}: {error})") from error
    return str(done)


def _check_metadata(card: str, where: str) -> None:
    """Raise InputError where the hub could not read the metadata block either."""
    if not card.removeprefix("\ufeff").lstrip().startswith("---"):
        return  # a card without metadata is fine, but the library warns of it
    import yaml
    from huggingface_hub import ModelCard

    try:
        ModelCard(card.removeprefix("\ufeff"), ignore_metadata_errors=True)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{where}: its metadata block cannot be read ({' '.join(str(error).split())})") from None


def _fresh(folder: Path) -> str:
    """A card for a model that has none: the base of an adapter, where it is on the hub, and a heading."""
    from huggingface_hub import ModelCardData

    base = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    known = {"base_model": base, "library_name": "peft"} if isinstance(base, str) and _HUB_ID.match(base) else {}
    data = ModelCardData(tags=["compatcheck"], **known)
    return f"---\n{data.to_yaml()}\n---\n\n# {escape(folder.resolve().name)}\n"
