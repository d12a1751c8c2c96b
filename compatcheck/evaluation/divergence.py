"""``--metric kl``: both models read the task's own texts, and their next-token distributions are compared.

The text of a document is the prompt as the models are given it, followed by the right choice, or by OLD's answer where
the task generates. Tokens count from where the document itself begins: few-shot examples and what a chat template or
system message puts before it are read and not counted.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compatcheck.errors import InputError
from compatcheck.evaluation import collect as evaluated
from compatcheck.evaluation.collect import jobs_of
from compatcheck.evaluation.grouping import Say
from compatcheck.evaluation.passages import Passage, passages_of, texts_of
from compatcheck.evaluation.plan import Job, Plan, Planned, group_by_base
from compatcheck.evaluation.request import Request, Side
from compatcheck.records import DivergentToken, Run, TokenDivergence

if TYPE_CHECKING:
    from compatcheck.engines.hf.divergence import Compared
    from compatcheck.engines.hf.kept_states import KeptStates
    from compatcheck.engines.hf.states import Text
    from compatcheck.evaluation.store.engine import StoredEngine

WORST = 20
"""Tokens that are shown in their context."""
_BEFORE = 80
"""Characters of context shown before a token."""


def collect(request: Request, say: Say = lambda _: None, progress: Any = None) -> tuple[Run, Run]:
    """Both runs, OLD and NEW; where it is asked for NEW's with how far its distributions are from OLD's. Raises
    InputError: as :func:`compatcheck.evaluation.collect.collect`, :func:`check` and :func:`measure`."""
    if not request.kl:
        return evaluated.collect(request, say, progress)
    check(request)
    by_hf = [
        replace(options, engine=replace(options.engine, engine="hf"))
        for options in (request.old_options, request.new_options)
    ]
    request = replace(request, old_options=by_hf[0], new_options=by_hf[1])
    old, new = evaluated.collect(request, say, progress)
    found = measure(request, (old, new), say, progress)
    notes = dict.fromkeys([*new.notes, *(note for each in found for note in each.notes)])
    return old, replace(new, divergences=tuple(found), notes=tuple(notes))


def check(request: Request) -> None:
    """Refuse what --metric kl cannot be made of, before anything is evaluated. Raises InputError: a side that is no
    model here, another engine than transformers, or two vocabularies."""
    sides = [request.side("old"), request.side("new")]
    for side in sides:
        for reference in side.references.values():
            name = side.name.upper()
            if reference.recorded is not None:
                raise InputError(
                    f"--metric kl: {name} ({side.text}) is recorded, and texts alone hold no distributions; name the "
                    "model itself"
                )
            if reference.endpoint is not None:
                raise InputError(
                    f"--metric kl: {name} ({side.text}) is a server, which does not give whole distributions; name the "
                    "model's folder, or leave out kl"
                )
        if (engine := side.options.engine.engine) not in ("auto", "hf"):
            raise InputError(
                f"--metric kl reads hidden states, which --engine {engine} of {side.name.upper()} does not give; say "
                "--engine hf"
            )
    tasks = dict.fromkeys(task for side in sides for task in side.references)
    for task in tasks:
        old, new = (side.references.get(task) or side.references[None] for side in sides)
        folders = [Path(str(reference.tokenizer or reference.base)) for reference in (old, new)]
        engines = [side.options.engine for side in sides]
        if folders[0] != folders[1] and not any("tokenizer" in engine.engine_args for engine in engines):
            one, other = (
                _vocabulary_in(folder, engine.trust_remote_code)
                for folder, engine in zip(folders, engines, strict=True)
            )
            require_same(one, other, min(len(one), len(other)))


def _vocabulary_in(folder: Path, trust_remote_code: bool) -> list[str | None]:
    from compatcheck.engines.hf.checking import check_tokenizer

    check_tokenizer(folder, trust_remote_code)
    from transformers import AutoTokenizer

    return vocabulary_of(AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code))


def vocabulary_of(tokenizer: Any) -> list[str | None]:
    """The tokens of a tokenizer by their numbers; None for a number that none has."""
    known = {number: token for token, number in tokenizer.get_vocab().items()}
    return [known.get(number) for number in range(max(known, default=-1) + 1)]


def require_same(old: Sequence[str | None], new: Sequence[str | None], count: int) -> None:
    """Raise InputError where the first ``count`` tokens are not the same ones."""
    differing = [n for n, (one, other) in enumerate(zip(old[:count], new[:count], strict=False)) if one != other]
    if differing:
        first = differing[0]
        raise InputError(
            f"--metric kl needs one vocabulary, and {len(differing):,} of {count:,} tokens differ (number {first} is "
            f"{old[first]!r} in OLD and {new[first]!r} in NEW); leave out kl and compare answers"
        )


def measure(request: Request, runs: tuple[Run, Run], say: Say, progress: Any) -> list[TokenDivergence]:
    """Compare the distributions of both models on every task. OLD's states are kept in the user's cache. Raises
    InputError: a model that cannot be loaded or read in this way, or texts that are not the same tokens."""
    sides = [request.side("old"), request.side("new")]
    found: list[TokenDivergence] = []
    old: dict[str, KeptStates] = {}
    for opened in _opened(sides, request, say, progress):
        task, passages = opened.job.task.name, passages_of(opened.job, opened.answering, runs)
        if opened.job.side == "old":
            old[task] = _read_old(opened, passages, progress)
        else:
            found.append(_compare(opened, passages, old[task], progress))
    return found


@dataclass(frozen=True)
class _Opened:
    """One side on one task: what makes its prompts, and its engine, loaded when it is asked for."""

    job: Job
    answering: StoredEngine
    engine: Callable[[], Any]


def _opened(sides: Sequence[Side], request: Request, say: Say, progress: Any) -> Iterator[_Opened]:
    """Both sides on every task, OLD first; a model is closed when another one is next."""
    jobs = jobs_of(sides, request)
    planned: dict[int, tuple[Plan, Planned]] = {}
    for group in group_by_base(jobs):
        plan = Plan(group, group.options, say, progress)
        plan.jobs += [Planned(job, name, plan.answering(job, name, None), None) for job, name in group.jobs]
        plan.check()
        planned |= {id(one.job): (plan, one) for one in plan.jobs}
    last: Plan | None = None
    try:
        for job in jobs:
            plan, one = planned[id(job)]
            if last is not None and last is not plan:
                last.engine.close()
            last = plan
            say(f"kl: {job.side} reads the texts of {job.task.name}")
            yield _Opened(job, one.engine, functools.partial(plan.engine.use, one.adapter))
    finally:
        if last is not None:
            last.engine.close()


def _read_old(opened: _Opened, passages: Sequence[Passage], progress: Any) -> KeptStates:
    """OLD's states at the texts, from the cache or made."""
    from compatcheck.engines.hf.kept_states import KeptStates, blocks, folder_for

    kept = KeptStates(folder_for([opened.answering.model_key, [passage.parts for passage in passages]]))
    if kept.complete:
        return kept
    from compatcheck.engines.hf.states import output_layer

    engine = opened.engine()
    texts = texts_of(engine, passages)
    places = [place for place, text in enumerate(texts) if text.count > 0]
    used = [texts[place] for place in places]
    if not used:
        raise InputError(f"--metric kl: the texts of {opened.job.task.name} have no token that is predicted")
    head = output_layer(engine, used[0].tokens[:32])
    kept.require(sum(text.count for text in used), head.weight.shape[1], head)
    kept.write_head(head)
    numbers = list(blocks(used, str(engine.device)))
    with _shown(progress, "reading texts", len(used)) as advance:
        for number, block in enumerate(numbers):
            kept.write_block(number, engine.states([used[place] for place in block]))
            advance(len(block))
    kept.finish(head, {
        "texts": [[places[n], *texts[places[n]].written] for n in range(len(used))], "blocks": numbers,
        "tokens": vocabulary_of(engine.tokenizer), "notes": list(engine.notes),
    })  # fmt: skip
    return kept


class _shown:
    """A stage of the progress."""

    def __init__(self, progress: Any, label: str, total: int) -> None:
        from compatcheck.engines.progress import SilentProgress

        self._progress, self._label, self._total = progress or SilentProgress(), label, total

    def __enter__(self) -> Callable[[float], None]:
        self._progress.start(self._label, self._total)
        advance: Callable[[float], None] = self._progress.advance
        return advance

    def __exit__(self, *_: object) -> None:
        self._progress.finish()


def _compare(opened: _Opened, passages: Sequence[Passage], kept: KeptStates, progress: Any) -> TokenDivergence:
    """NEW at the same texts, held against what was kept of OLD."""
    import torch

    from compatcheck.engines.hf.divergence import States, compare_states
    from compatcheck.engines.hf.states import Text, output_layer

    engine, about, task = opened.engine(), kept.about, opened.job.task.name
    used = [(int(place), Text(tuple(tokens), start)) for place, start, tokens in about["texts"]]
    own = texts_of(engine, passages)
    _require_same_texts(task, passages, own, used, engine.max_length)
    head = output_layer(engine, used[0][1].tokens[:32])
    tokens = vocabulary_of(engine.tokenizer)
    width = min(head.vocabulary, about["vocabulary"])
    require_same(about["tokens"], tokens, min(width, max(len(tokens), len(about["tokens"]))))
    size = sum(each.numel() * each.element_size() for each in engine.base.parameters())
    parts: list[Compared] = []
    worst: list[tuple[float, int, int, DivergentToken]] = []
    with _shown(progress, "comparing distributions", len(used)) as advance:
        for number, block in enumerate(about["blocks"]):
            texts = [used[place][1] for place in block]
            targets = torch.tensor([token for text in texts for token in text.tokens[text.start :]])
            new = States(engine.states(texts), head.part)
            old = kept.read(number, engine.device, size)
            parts.append(compare_states(old, new, targets.to(engine.device), width))
            if not bool(parts[-1].kl.isfinite().all()):
                name = opened.job.reference.text
                raise InputError(f"--metric kl: logits of OLD or of {name} are not finite; try --dtype float32")
            named = [(passages[used[place][0]].doc_id, used[place][1]) for place in block]
            worst = heapq.nlargest(WORST, [*worst, *_worst(parts[-1], named, engine.tokenizer, len(parts))])
            advance(len(block))
    wider = (
        f"{task}: OLD has logits for {about['vocabulary']:,} tokens and NEW for {head.vocabulary:,}: the first "
        f"{width:,} were compared"
    )
    notes = [*about["notes"], *engine.notes, *([wider] if head.vocabulary != about["vocabulary"] else [])]
    return TokenDivergence(
        task=task,
        texts=passages[0].kind,
        doc_ids=tuple(passages[place].doc_id for place, _ in used),
        documents=np.repeat(np.arange(len(used)), [text.count for _, text in used]),
        kl=_joined(parts, "kl"),
        logprob_old=_joined(parts, "old"),
        logprob_new=_joined(parts, "new"),
        same_top=_joined(parts, "top_old") == _joined(parts, "top_new"),
        worst=tuple(each for *_, each in worst),
        notes=tuple(notes),
    )


def _joined(parts: Sequence[Compared], name: str) -> Any:
    return np.concatenate([getattr(part, name).cpu().numpy() for part in parts])


def _require_same_texts(
    task: str, passages: Sequence[Passage], own: Sequence[Text], used: Sequence[tuple[int, Text]], most: int
) -> None:
    longest = max(len(text.tokens) for _, text in used)
    if longest > most + 1:
        raise InputError(
            f"--metric kl: OLD reads texts of {task} of up to {longest - 1:,} tokens and NEW {most:,} at most; say "
            f"--engine-arg max_length={most}"
        )
    other = [passages[place].doc_id for place, text in used if own[place].tokens[-len(text.tokens) :] != text.tokens]
    if other:
        raise InputError(
            f"--metric kl compares two models on the same texts, and {len(other):,} of {len(used):,} of {task} are "
            f"other tokens for NEW (document {other[0]}); give both sides the same prompt, chat template and tokenizer"
        )


def _worst(
    found: Compared, texts: Iterable[tuple[str, Text]], tokenizer: Any, block: int
) -> list[tuple[float, int, int, DivergentToken]]:
    """The tokens of a block that diverge the most, each with what sorts it: by divergence, then by place."""
    places = [(doc_id, text, at) for doc_id, text in texts for at in range(text.start, len(text.tokens))]
    values, rows = found.kl.topk(min(WORST, len(places)))
    chosen = []
    for kl, row in zip(values.tolist(), rows.tolist(), strict=True):
        doc_id, text, at = places[row]
        shown = {name: float(getattr(found, name)[row].exp()) for name in (
            "old", "new", "old_at_top_old", "old_at_top_new", "new_at_top_old", "new_at_top_new")}  # fmt: skip
        before = tokenizer.decode(list(text.tokens[max(0, at - _BEFORE) : at]))[-_BEFORE:]
        first = [tokenizer.decode([int(getattr(found, name)[row])]) for name in ("top_old", "top_new")]
        token = DivergentToken(
            doc_id, at, before, tokenizer.decode([text.tokens[at]]), kl, shown["old"], shown["new"],
            first[0], shown["old_at_top_old"], shown["new_at_top_old"],
            first[1], shown["old_at_top_new"], shown["new_at_top_new"],
        )  # fmt: skip
        chosen.append((kl, -block, -row, token))
    return chosen
