"""Which engine `auto` takes: vLLM where the work outweighs its start-up, `hf` otherwise.

The rule estimates what generating costs the hf engine and what vLLM would save of it. The figures for a CPU were
measured with benchmarks/bench_vllm.py (docs/benchmarks.md); those for a GPU are assumptions on the cautious side.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Of a device: seconds until vLLM answers, operations a second that the hf engine makes of generated tokens, and
    how many times faster vLLM generates."""

    start: float
    operations: float
    speed: float


RATES = {"cpu": Rates(30.0, 6.6e10, 1.35), "cuda": Rates(90.0, 2.0e13, 4.0)}


@dataclass(frozen=True)
class Work:
    """What is to be done by both sides together, at most.

    Attributes:
        generated: tokens that may be generated.
        operations: floating-point operations that these take: two a parameter and token.
        starts: models that must be started; adapters on one base share a start.
        scored: requests for log-likelihoods.
    """

    generated: int = 0
    operations: float = 0.0
    starts: int = 1
    scored: int = 0


def worth(work: Work, device: str) -> tuple[bool, str]:
    """Whether vLLM saves time on ``device`` (cpu or cuda), and why, in one clause."""
    if work.scored >= work.generated:
        return False, "scores choices faster: it reads every context once"
    rates = RATES[device]
    saved = work.operations / rates.operations * (1 - 1 / rates.speed)
    start = rates.start * work.starts
    what = f"up to {work.generated:,} tokens to generate, {saved:,.0f} s to save at most"
    if saved > start:
        return True, f"{what}, outweigh a start-up of about {start:.0f} s"
    return False, f"{what}, do not outweigh vLLM's start-up of about {start:.0f} s"
