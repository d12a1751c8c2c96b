"""Which engine `auto` takes: vLLM where the work outweighs its start-up, `hf` otherwise.

The rule estimates what generating costs the hf engine and what vLLM would save of it. What was measured stands in
docs/engines.md; the constants here are those figures, rounded so that `auto` rather stays with `hf`.
"""

from __future__ import annotations

from dataclasses import dataclass

CPU_START = 60.0
"""Seconds until vLLM answers on a CPU."""
GPU_START = 90.0
"""Seconds until vLLM answers on a GPU, its graphs captured."""
FLOPS = {"cpu": 1.0e10, "cuda": 2.0e13}
"""Operations a second that the hf engine makes of generated tokens, per device: cautiously high."""
SPEED = {"cpu": 1.0, "cuda": 4.0}
"""How many times faster vLLM generates than the hf engine."""


@dataclass(frozen=True)
class Work:
    """What one side has to do, at most.

    Attributes:
        documents: over all tasks.
        generated: tokens that may be generated, over all documents; 0 where choices are scored.
        parameters: of the model; 0 where that is not known.
        adapters: how many on one base; they share one start.
    """

    documents: int
    generated: int = 0
    parameters: int = 0
    adapters: int = 0


def worth(work: Work, device: str) -> tuple[bool, str]:
    """Whether vLLM saves time, and why, in one clause."""
    if not work.generated:
        return False, "choices are scored faster by hf, which reads every context once"
    if SPEED[device] <= 1.0:
        return False, f"on a {device.upper()} vLLM is not faster than hf"
    start = CPU_START if device == "cpu" else GPU_START
    hf = 2.0 * work.parameters * work.generated / FLOPS[device]
    saved = hf * (1 - 1 / SPEED[device])
    tokens = f"up to {work.generated:,} tokens of a model of {work.parameters / 1e6:,.0f} M parameters"
    if saved > start:
        return True, f"{tokens} outweigh vLLM's start-up of about {start:.0f} s"
    return False, f"{tokens} do not outweigh vLLM's start-up of about {start:.0f} s"
