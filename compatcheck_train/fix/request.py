"""What ``compatcheck fix`` is asked for, and what it refuses before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.option_models import part_of
from compatcheck.options import Fix
from compatcheck.references import Reference, resolve
from compatcheck.tasks import TaskOptions
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import CONTROLS, LIKE_OLD, Candidate, candidates_for
from compatcheck_train.fix.judging import CHOOSING_SHARE, HELD_OUT, Judge, Scores
from compatcheck_train.fix.prompts import Answer, Prompted, check_prompts
from compatcheck_train.folders import Claim
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TRIAL_SHARES, TrainSettings, settings_of
from compatcheck_train.teachers.cache import free_bytes
from compatcheck_train.training.run import check_trackers
from compatcheck_train.weights import METHODS, fitting, read_lora, why_not_blended

AUTO = "auto"
MUCH_WORSE = 0.6
"""An old model whose score is below this share of the new one's has little that is worth keeping: in the paper's own
pairs of that kind (Phi 1 → 1.5: 32 % against 70 % on HellaSwag) the method brings the flips down by 5 % or less."""
_DECIDING = (
    "task", "split", "dev", "num_fewshot", "limit", "metric", "strategy", "candidate", "finalists", "blend",
    "blend_method", "control", "init", "train_task", "unlabelled", "train_split", "train_limit", "drop_overlap",
)  # fmt: skip

_OF_TASKS: Mapping[str, Any] = {"data": None, "split": None, "limit": None, "num_fewshot": None, "seed": Judge.seed}
"""What prompts are read without: fix draws its parts itself."""
_WHY = dict.fromkeys(
    ("train_limit", "train_split", "unlabelled", "drop_overlap"), "other training documents make another adapter"
) | {"limit": "it can grow, not shrink: what was chosen on would be proven on"}


@dataclass(frozen=True)
class FixRequest:
    """One fix: OLD, NEW and the options of :class:`compatcheck.options.Fix`."""

    old: str
    new: str
    chosen: Fix
    most: int = 1000
    """Documents to choose on at most."""
    began_with: int | None = None
    """The --limit that the folder began with, where it goes on with a larger one."""
    answers: Mapping[str, Answer] | None = None
    """OLD's answers to the prompts, in place of targets, once they are there."""

    @cached_property
    def settings(self) -> TrainSettings:
        """Of every training; their strategy is the candidate's."""
        return settings_of(self.chosen)

    @cached_property
    def judge(self) -> Judge:
        chosen, further = self.chosen, dict[str, Any]()
        if chosen.prompts is not None:
            told = Prompted(part_of(chosen, TaskOptions, **_OF_TASKS), chosen.data, chosen.metric, self.answers)
            further = {"prompts": told, "task": told.name, "data": None}
        engine = part_of(chosen, EngineOptions, seed=0)
        return part_of(chosen, Judge, engine=engine, seed=Judge.seed, drawn_from=self.began_with, **further)

    @property
    def files(self) -> tuple[Path | None, ...]:
        """Files of prompts beside those that are trained on and evaluated."""
        dev = self.chosen.dev
        return self.chosen.unlabelled, None if dev in (None, HELD_OUT) else Path(str(dev))

    @property
    def trial_share(self) -> float:
        """Share of the steps that a trial gets; 1: trials are whole trainings, and none is trained again."""
        share = self.chosen.trial_share
        return TRIAL_SHARES[self.chosen.preset] if share is None else share

    @property
    def tries(self) -> bool:
        """Whether several candidates are tried."""
        several = self.trial_share < 1 and self.chosen.reference is None
        return self.chosen.strategy == AUTO and (len(self.chosen.candidate) > 1 if self.chosen.candidate else several)

    def candidates(self, examples: Examples) -> tuple[Candidate, ...]:
        """What is trained, or tried first: the strategy that was asked for, or those of ``auto``, long enough where
        trials are whole trainings and nobody asked for a length."""
        if self.chosen.strategy != AUTO:
            return (Candidate.of(self.chosen.strategy),)
        kind = examples.kind if self.chosen.reference is None else LIKE_OLD
        found = candidates_for(kind, self.chosen.candidate, self.trial_share)
        if examples.read_apart:
            found = tuple(each for each in found if not strategies.get(each.strategy).needs_old)
        if self.trial_share < 1 or {"epochs", "max_steps"} & {*(self.chosen.set or ())}:
            return found
        return tuple(each.long_enough(examples, self.settings) for each in found)

    @property
    def blend(self) -> str | float | None:
        """Weight of compat in the blend with NEW: a number, ``auto`` (the best on the documents to choose on), None."""
        return None if self.chosen.blend == "none" else self.chosen.blend

    @property
    def has_control(self) -> bool:
        return self.chosen.control != "none" and self.chosen.reference is None

    def control(self, kind: str) -> str:
        """The control's strategy for ``choice`` or ``text`` tasks."""
        return CONTROLS[kind] if self.chosen.control == AUTO else self.chosen.control

    def goes_on(self, candidate: Candidate, kind: str) -> bool:
        """Whether the control goes on from the candidate's stage before, as that is what it does too."""
        return candidate.first == self.control(kind) and self.chosen.init == "new"

    def is_control(self, candidate: Candidate, examples: Examples) -> bool:
        """Whether a candidate is trained just as its control is."""
        own = (
            self.has_control
            and self.chosen.init == "new"
            and not self.settings.strategy_options
            and not examples.unlabelled
        )
        return own and candidate.is_only(self.control(examples.kind))

    @property
    def averages(self) -> bool:
        """Whether averages with the control are tried, as blends with NEW are."""
        return self.chosen.strategy == AUTO and self.blend == AUTO and self.has_control

    @property
    def chooses(self) -> bool:
        """Whether documents decide what is delivered, among candidates, blends or seeds: those prove nothing then."""
        return self.tries or self.blend == AUTO or self.chosen.seeds > 1

    @property
    def margin(self) -> float:
        """By so much the score may be below NEW's, as a proportion."""
        return self.chosen.margin / 100

    def within(self, claim: Claim) -> FixRequest:
        """As its folder goes on with it: a larger --limit adds documents to the proof alone, and training and choice
        stay as they are."""
        was, now = claim.identity.get("limit"), self.chosen.limit
        return replace(self, began_with=was) if was is not None and (now is None or now > was) else self

    def with_(self, **changes: Any) -> FixRequest:
        return replace(self, chosen=replace(self.chosen, **changes))

    def idle(self, new: Reference) -> str | None:
        """A sentence on options that were given and bear on nothing beside the others; None where there are none."""
        chosen, plain = self.chosen, Fix()
        exact = self.blend in (None, 1.0) or (new.adapter is None and not chosen.train_task)
        found = ["--blend-method"] if exact and chosen.blend_method != plain.blend_method else []
        if chosen.strategy != AUTO:
            given = {"--candidate": bool(chosen.candidate), "--trial-share": chosen.trial_share is not None}
            found += [name for name, said in given.items() if said]
        if not self.tries and chosen.finalists != plain.finalists:
            found.append("--finalists")
        return (
            f"Without effect, as nothing is tried or blended that they are for: {', '.join(found)}." if found else None
        )

    @property
    def named(self) -> list[str]:
        asked = [text for text in (self.chosen.strategy, *self.chosen.candidate) if text != AUTO]
        names = [name for text in asked for name in (Candidate.of(text).first, Candidate.of(text).strategy)]
        own = {AUTO, "none"}
        return [name for name in (*names, *({self.chosen.control} - own)) if name]

    def identity(self, old: Reference, new: Reference) -> dict[str, Any]:
        """What decides the result: a folder that was made for something else is not resumed."""
        values = {name: getattr(self.chosen, name) for name in _DECIDING}
        if self.began_with is not None:
            values["limit"] = self.began_with
        if self.judge.prompts is not None:
            values |= {name: getattr(self.chosen, name) for name in ("system", "gen", "extract", "reference")}
            values |= {"prompts": self.judge.prompts.fingerprint(self.files), "correct_at": self.chosen.correct_at}
        return {
            "old": old.fingerprint(), "new": new.fingerprint(), "trial_share": self.trial_share, "most": self.most,
            **{name: str(value) if isinstance(value, Path) else value for name, value in values.items()},
            "documents to choose on": CHOOSING_SHARE if self.chosen.dev is None and self.chooses else 0,
            "settings": self.settings.deciding(),
        }  # fmt: skip


def check(request: FixRequest) -> tuple[Reference, Reference]:
    """Resolve OLD and NEW, and refuse (InputError) recorded outputs or an endpoint in place of a model, unknown names,
    and numbers out of range."""
    chosen = request.chosen
    check_prompts(chosen)
    if chosen.prompts is not None and not (request.files[1] is None or request.files[1].is_file()):
        raise InputError(f"--dev {chosen.dev}: no such file; with --prompts it is one of prompts, or {HELD_OUT}")
    found = []
    for side, text in (("OLD", request.old), ("NEW", request.new)):
        reference = resolve(text, chosen.trust_remote_code)
        if reference.base is None:
            raise InputError(f"{side} {text}: fix trains on weights; name a model folder, an adapter or BASE+ADAPTER")
        found.append(reference)
    old, new = found
    if old.fingerprint() == new.fingerprint():
        raise InputError(f"OLD {request.old} and NEW {request.new} are the same model; there is nothing to fix")
    for name in request.named:
        strategies.get(name)
    if chosen.blend_method not in METHODS:
        hint = did_you_mean(chosen.blend_method, METHODS)
        raise InputError(f"--blend-method {chosen.blend_method}: no such method{hint}; known: {', '.join(METHODS)}")
    blended = isinstance(chosen.blend, float) and chosen.blend != 1 and new.adapter is not None
    if blended and new.adapter is not None and (why := why_not_blended(new.adapter)):
        raise InputError(f"--blend {chosen.blend:g}: {why}; say --blend none")
    if chosen.init not in ("new", "transfer"):
        raise InputError(f"--init {chosen.init}: must be new or transfer")
    if chosen.init == "transfer":
        _check_transfer(old, new)
    if not 0 <= request.margin < 1:
        raise InputError(f"--margin {chosen.margin:g}: must be 0 points or more, and below 100")
    if not 0 < request.trial_share <= 1:
        raise InputError(f"--trial-share {request.trial_share:g}: must be above 0 and at most 1")
    if chosen.train_task and new.adapter is not None:
        raise InputError(f"--train-task: NEW {request.new} has an adapter already; name the base alone")
    check_trackers(request.settings.report_to)
    return old, new


def _check_transfer(old: Reference, new: Reference) -> None:
    if old.adapter is None:
        raise InputError("--init transfer: OLD is a full model; only an adapter's update can be transferred")
    for adapter in (old.adapter, new.adapter):
        if adapter is not None and (why := why_not_blended(adapter)):
            raise InputError(f"--init transfer: {why}")
    assert new.base is not None
    fitting(read_lora(old.adapter), new.base)


def check_strategies(request: FixRequest, examples: Examples) -> None:
    """Refuse (InputError) what does not fit the task's kind, and options that a strategy does not have."""
    for name in request.named:
        strategies.get(name).check_kind(examples.kind, examples.task)
        if examples.read_apart and strategies.get(name).needs_old:
            raise InputError(
                f"strategy {name}: follows OLD token by token, and OLD reads the prompts through another chat template "
                "than NEW; take sequence-ensemble, which learns from whole answers"
            )
    if request.chosen.strategy != AUTO:
        strategies.get(Candidate.of(request.chosen.strategy).strategy).settled(request.settings.strategy_options)


def check_old_is_worth_keeping(old: Scores, force: bool) -> str | None:
    """A warning where the old model is much worse than the new one, or nothing flips; InputError without ``force``."""
    if old.score_of_new > 0 and old.score < MUCH_WORSE * old.score_of_new:
        text = (
            f"OLD scores {old.score:.4g} and NEW {old.score_of_new:.4g} on the validation documents: an old model this "
            "much worse is a poor teacher, and the method hardly lowers the flips then"
        )
    elif old.nfr_of_new == 0:
        text = (
            f"on {old.n} documents to choose on NEW loses nothing that OLD had right: there is nothing to fix, or they "
            "are too few (--dev names others)"
        )
    else:
        return None
    if not force:
        raise InputError(f"{text}; --force goes on all the same")
    return text


def check_disk(out: Path, references: Sequence[Reference]) -> None:
    """Refuse (InputError) a disk that cannot hold even the adapters."""
    biggest = max(sum(p.stat().st_size for p in r.base.glob("*.safetensors")) for r in references if r.base)
    free = free_bytes(out)
    need = 200_000_000 + biggest // 10
    if free < need:
        raise InputError(f"--out {out}: {free / 1e9:.1f} GB of disk are free, about {need / 1e9:.1f} GB are needed")


def claim_of(out: Path) -> Claim:
    """By what a folder is that of a fix."""
    return Claim(out / "fix.json", "compatcheck.fix-folder/1", "fix", _WHY)
