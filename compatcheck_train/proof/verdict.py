"""The verdict on a compatibility adapter, by one-sided bounds as the gate judges budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compatcheck.compare.result import Estimate
from compatcheck.errors import ExitCode

VERDICTS = {"better": ExitCode.OK, "not better": ExitCode.REGRESSION, "inconclusive": ExitCode.INCONCLUSIVE}


@dataclass(frozen=True)
class Judgement:
    """``verdict`` is one of :data:`VERDICTS`. ``against_control`` is ``better``, ``worse``, ``open`` or empty."""

    verdict: str
    reason: str
    against_control: str = ""

    @property
    def exit_code(self) -> ExitCode:
        return VERDICTS[self.verdict]


def judge(changes: Mapping[str, Estimate], against_control: Mapping[str, Estimate] | None = None) -> Judgement:
    """Proven better: NFR shown to fall and the score not shown to fall. Not better: the score shown to fall, whatever
    NFR did, or NFR shown to rise. Else inconclusive. Undefined figures prove nothing."""
    nfr, score = changes["nfr"], changes["score"]
    control = _against(against_control or {})
    if nfr.value is None or score.value is None:
        return Judgement("inconclusive", f"nothing can be said: {nfr.why or score.why}", control)
    if score.upper is not None and score.upper < 0:
        return Judgement("not better", f"the score is shown to fall below NEW's: {_say(score)}", control)
    if nfr.lower is not None and nfr.lower > 0:
        return Judgement("not better", f"negative flips are shown to rise: {_say(nfr)}", control)
    if nfr.upper is not None and nfr.upper < 0:
        return Judgement(
            "better", f"negative flips are shown to fall ({_say(nfr)}) and the score is not ({_say(score)})", control
        )
    return Judgement("inconclusive", f"the change of the negative flip rate may be none: {_say(nfr)}", control)


def _against(changes: Mapping[str, Estimate]) -> str:
    nfr = changes.get("nfr")
    if nfr is None or nfr.upper is None or nfr.lower is None:
        return ""
    if nfr.upper < 0:
        return "better"
    return "worse" if nfr.lower > 0 else "open"


def _say(change: Estimate) -> str:
    assert change.value is not None
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.2f} points, without an interval"
    return f"{100 * change.value:+.2f} points, 95 % interval {100 * change.low:+.2f} to {100 * change.high:+.2f}"
