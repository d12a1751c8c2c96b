from __future__ import annotations

import subprocess
import sys

import pytest

from compatcheck.compare import compare
from compatcheck.errors import InputError
from compatcheck.records import Metric
from compatcheck.version import __version__


def test_importing_and_comparing_loads_no_engine():
    code = (
        "import sys, pandas as pd\n"
        "from compatcheck.compare import compare\n"
        "from compatcheck import gate\n"
        "from compatcheck.records import Metric, TaskRun\n"
        "table = pd.DataFrame({'doc_id': ['a', 'b'], 'score:acc': [1.0, 0.0], 'topic': ['x', 'y']})\n"
        "run = TaskRun('t', 'none', (Metric('acc', 'discrete'),), table)\n"
        "compare(run, run, metric='acc', slice_by=['topic'])\n"
        "heavy = ('torch', 'lm_eval', 'transformers', 'datasets', 'peft', 'pyarrow.parquet', 'pyarrow.dataset',\n"
        "    'altair', 'compatcheck.evaluation', 'compatcheck.engines', 'compatcheck.tasks', 'compatcheck.report',\n"
        "    'compatcheck_train')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_the_comparison_as_a_whole(make_run):
    run = make_run([1, 0, 1], filter="strict-match", metric="exact_match")
    found = compare(run, run, metric="exact_match")
    assert (found.task, found.filter, found.metric, found.kind, found.n) == (
        "arithmetic",
        "strict-match",
        "exact_match",
        "discrete",
        3,
    )
    assert found.name == "arithmetic/strict-match/exact_match"
    assert found.confidence == 0.95
    assert found.slices == found.gates == ()
    assert found.tests == {"mcnemar_p": 1.0}


def test_the_signature_says_how_the_figures_were_made(make_run, smooth):
    settings = {"version": 3.0, "num_fewshot": 5, "split": "test", "limit": None}
    old = make_run([1, 0], filter="strict-match", settings=settings)
    found = compare(old, make_run([1, 1], filter="strict-match", settings=settings), metric="exact_match", seed=7)
    assert found.signature == (
        "arithmetic|filter:strict-match|metric:exact_match|n:2|ci:wilson95|bounds:clopper-pearson95+gaffke95|seed:7|version:3.0|fewshot:5|split:test|"
        f"compatcheck:{__version__}"
    )
    old = make_run([0.5, 0.1], metric=smooth, settings={"num_fewshot": 5})
    new = make_run([0.5, 0.1], metric=smooth, settings={"num_fewshot": 0, "limit": "2 of 9|seeded\n"})
    found = compare(old, new, metric="rouge1", epsilon=0.01, resamples=500)
    assert found.signature == (
        "arithmetic|filter:none|metric:rouge1|n:2|eps:0.01|ci:wilson95+bootstrap95x500|bounds:clopper-pearson95+gaffke95|seed:0|fewshot:5/0|"
        f"limit:none/2 of 9,seeded|impl:rouge1,fmeasure|compatcheck:{__version__}"
    )


def test_runs_of_different_tasks_or_filters_are_refused(make_run):
    with pytest.raises(InputError, match=r"^OLD was recorded for task 'arithmetic' and NEW for task 'spelling'"):
        compare(make_run([1]), make_run([1], task="spelling"), metric="exact_match")
    with pytest.raises(InputError, match=r"OLD went through filter 'none' and NEW through 'strict-match'"):
        compare(make_run([1]), make_run([1], filter="strict-match"), metric="exact_match")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, r"^--epsilon -0.1: "),
        ({"epsilon": float("nan")}, r"^--epsilon nan: "),
        ({"correct_at": float("inf")}, r"^--correct-at inf: "),
        ({"resamples": 5}, r"^resamples 5: "),
        ({"seed": -1}, r"^--seed -1: "),
    ],
)
def test_options_that_make_no_sense(make_run, options, message):
    with pytest.raises(InputError, match=message):
        compare(make_run([1]), make_run([1]), metric="exact_match", **options)


def test_a_metric_in_full_decides_how_the_score_is_read(make_run):
    run, other = make_run([1, 0]), make_run([0, 0])
    found = compare(run, other, metric=Metric("exact_match", "discrete", higher_is_better=False))
    assert found.quadrants == {"both_correct": 1, "positive_flip": 1, "negative_flip": 0, "both_wrong": 0}
