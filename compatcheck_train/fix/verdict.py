"""The verdict on what a fix delivers: the compatibility adapter, or the control's where that is as good.

A change counts as shown where its 95 % interval lies on one side: 2.5 % error each way, so that of the two adapters
that may be delivered one passes by accident in at most 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from compatcheck.compare.result import Estimate
from compatcheck.errors import ExitCode
from compatcheck_train.fix.change import Changes

VERDICTS = {"better": ExitCode.OK, "not better": ExitCode.REGRESSION, "inconclusive": ExitCode.INCONCLUSIVE}
MARGIN = 0.01
"""By how much the score may be below NEW's: one point."""
COMPAT, CONTROL = "compat", "control"


@dataclass(frozen=True)
class Judgement:
    """``verdict``, one of :data:`VERDICTS`, is on what is ``delivered``: ``compat``, or ``control``.

    ``against_control``: ``better`` (fewer flips shown at a score within the margin), ``fewer flips`` (shown, but the
    score may be lower by more than the margin), ``worse`` (plain further training is at least as good on both),
    ``open``, or empty without a control."""

    verdict: str
    reason: str
    against_control: str = ""
    delivered: str = COMPAT

    @property
    def exit_code(self) -> ExitCode:
        return VERDICTS[self.verdict]


def judge(
    changes: Changes, against_control: Changes | None = None, of_control: Changes | None = None, margin: float = MARGIN
) -> Judgement:
    """The verdict on the compatibility adapter, or on the control where plain further training is at least as good.

    ``changes`` is compat against NEW, ``against_control`` against the control, ``of_control`` the control against NEW
    (needed where the control may be delivered); by ``margin`` the score may be below NEW's."""
    against = _against_the_control(against_control or {}, margin)
    if against == "worse" and of_control:
        return Judgement(*of_one(of_control, margin), against, CONTROL)
    return Judgement(*of_one(changes, margin), against)


def both(over_seeds: Judgement, delivered: tuple[str, str]) -> Judgement:
    """The verdict where trainings were repeated: better where their mean is and what is delivered is, not better where
    one of them is not."""
    mean = (over_seeds.verdict, f"over all seeds, {over_seeds.reason}")
    one = (delivered[0], f"with the seed that is delivered, {delivered[1]}")
    order = ("not better", "inconclusive", "better")
    verdict, reason = min((mean, one), key=lambda each: order.index(each[0]))
    return Judgement(verdict, reason, over_seeds.against_control, over_seeds.delivered)


def of_one(changes: Changes, margin: float) -> tuple[str, str]:
    """Better: NFR shown to fall, and the score shown to be at most ``margin`` below NEW's. Not better: the score shown
    to fall, or NFR shown to rise. Else inconclusive: undefined figures, and those without an interval, show nothing."""
    nfr, score = changes["nfr"], changes["score"]
    if nfr.value is None or score.value is None:
        return "inconclusive", f"nothing can be said: {nfr.why or score.why}"
    kept = score.low is not None and score.low >= -margin
    fewer = nfr.high is not None and nfr.high < 0
    points = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
    if score.high is not None and score.high < 0 and not kept:
        return "not better", f"the score is shown to fall below NEW's: {_say(score)}"
    if nfr.low is not None and nfr.low > 0:
        return "not better", f"negative flips are shown to rise: {_say(nfr)}"
    if not fewer:
        return "inconclusive", f"the change of the negative flip rate may be none: {_say(nfr)}"
    if not kept:
        return "inconclusive", (
            f"negative flips are shown to fall ({_say(nfr)}), but the score may be more than {points} below NEW's: "
            f"{_say(score)}"
        )
    return "better", (
        f"negative flips are shown to fall ({_say(nfr)}), and the score is shown to be at most {points} below NEW's "
        f"({_say(score)})"
    )


def _against_the_control(changes: Changes, margin: float) -> str:
    """How compat compares with the control (:class:`Judgement`). Plain further training is at least as good on both
    where fewer flips than its are not shown, and either both of its figures are at least as good, or its score is shown
    to be better."""
    nfr, score = changes.get("nfr"), changes.get("score")
    if nfr is None or score is None or nfr.value is None or score.value is None:
        return ""
    if nfr.high is not None and nfr.high < 0:
        return "better" if score.low is not None and score.low >= -margin else "fewer flips"
    if (nfr.value >= 0 and score.value <= 0) or (score.high is not None and score.high < 0):
        return "worse"
    return "open"


def _say(change: Estimate) -> str:
    assert change.value is not None
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.2f} points, without an interval"
    return f"{100 * change.value:+.2f} points, 95 % interval {100 * change.low:+.2f} to {100 * change.high:+.2f}"
