"""The demonstration: the fixture models in a checkout, their recorded outputs in an installed package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compatcheck.api import Diff, diff
from compatcheck.paths import from_here
from compatcheck.references import MODEL_LIBRARIES

TASKS = ("samsum", "gsm8k", "hellaswag", "piqa")
BUDGETS = ("gsm8k/nfr:5%", "hellaswag/nfr:5%", "piqa/nfr:5%", "samsum/rouge1.regression:0.02")
PROMPT_BUDGETS = ("nfr:5%",)
ANSWER = r"#### (-?[0-9.,]+)"
RECORDED = Path(__file__).parent / "demo_data"
FIXTURES = Path(__file__).parent.parent / "fixtures"


def has_models() -> bool:
    """Whether the fixture models are here (a checkout) and can be run; else their recorded outputs are compared."""
    folders = (FIXTURES / "models").is_dir() and (FIXTURES / "adapters").is_dir()
    return folders and all(map(find_spec, MODEL_LIBRARIES))


def run(say: Callable[[str], None] = lambda _: None, progress: Any = None, recorded: bool = False) -> Diff:
    """Compare the fixture adapters on base v1 with those on base v2, on all four tasks."""
    if recorded or not has_models():
        return diff(RECORDED / "old", RECORDED / "new", fail_on=BUDGETS)
    fixtures = from_here(FIXTURES)
    return diff(
        f"{fixtures}/adapters/{{task}}-v1",
        f"{fixtures}/adapters/{{task}}-v2",
        task=TASKS,
        data=fixtures / "data",
        num_fewshot=0,
        fail_on=BUDGETS,
        say=say,
        progress=progress,
    )


def changed_prompt(say: Callable[[str], None] = lambda _: None, progress: Any = None, recorded: bool = False) -> Diff:
    """Compare one model with itself: NEW's prompts begin with "Be brief."."""
    options: dict[str, Any] = {"fail_on": PROMPT_BUDGETS, "slice_by": "skill"}
    if recorded or not has_models():
        return diff(RECORDED / "prompt" / "before", RECORDED / "prompt" / "after", **options)
    fixtures = from_here(FIXTURES)
    model, prompts = f"{fixtures}/adapters/gsm8k-v2", fixtures / "prompts"
    return diff(
        model,
        model,
        prompts=prompts / "first" / "sums.jsonl.gz",
        new_set={"prompts": prompts / "brief" / "sums.jsonl.gz"},
        extract=ANSWER,
        gen={"stop": ["Question:"], "max_tokens": 96},
        say=say,
        progress=progress,
        **options,
    )
