"""``--engine ray``: a local Ray of two workers gives what one process gives, whatever dies on the way."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from compatcheck.api import load_run
from compatcheck.cli.app import run
from compatcheck.engines import open_engine
from compatcheck.errors import InputError
from compatcheck.records import TaskRun
from compatcheck.tasks import TaskOptions, load_tasks
from tests.evaluation.store.conftest import evaluate_task

if importlib.util.find_spec("ray") is None:
    pytest.skip("--engine ray needs compatcheck[ray]", allow_module_level=True)

LIMIT = 40
OPTIONS: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


def choices_of(documents: int) -> list[Any]:
    from lm_eval.api.instance import Instance

    rng = random.Random(4)
    return [
        Instance("loglikelihood", {}, ("x" * length, " yes" * number), number, ("task", document, 1))
        for document, length in enumerate(rng.choices([40, 200, 4000], k=documents))
        for number in (1, 2)
    ]


def test_batches_are_even_and_whole() -> None:
    from compatcheck.engines.ray import MOST, PARTS, batches

    requests = choices_of(600)
    found = batches(requests, 2)
    assert sorted(number for batch in found for number in batch.numbers) == list(range(1200))
    where = {number: place for place, batch in enumerate(found) for number in batch.numbers}
    assert all(where[2 * document] == where[2 * document + 1] for document in range(600))
    costs = [sum(len(requests[n].args[0]) / 2 + len(requests[n].args[1]) for n in batch.numbers) for batch in found]
    assert max(costs) < 1.1 * sum(costs) / (2 * PARTS)
    longest = [max(len(requests[n].args[0]) for n in batch.numbers) for batch in found]
    assert longest == sorted(longest, reverse=True), "the costliest come first"
    assert len(batches(choices_of(4 * MOST), 1)[-1].numbers) <= 2 * MOST
    assert [len(batch.numbers) for batch in batches(choices_of(6), 2)] == [6, 6], "both workers have something to do"
    assert batches([], 2) == []


def test_without_ray_it_is_one_line() -> None:
    script = (
        "import sys; sys.modules['ray'] = None\nfrom compatcheck.cli.app import run\n"
        "sys.exit(run(['run', 'fixtures/models/base-v1', '--task', 'piqa', '--engine', 'ray', '--out', 'nowhere']))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --engine ray: Ray is not installed; pip install 'compatcheck[ray]'\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"workers": 0}, "--engine-arg workers=0: give a whole number of at least 1"),
        ({"workers": "two"}, "--engine-arg workers=two: give a whole number"),
        ({"gpus_per_worker": -1}, "--engine-arg gpus_per_worker=-1: give a number of at least 0"),
    ],
)
def test_bad_arguments(model_folder: Callable[[str], Path], argument: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_engine("ray", model_folder("llama"), engine_args=argument, **OPTIONS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray for the tests of this module, so that not every engine starts one."""
    import logging

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    import ray

    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=4, object_store_memory=200 << 20, **options)
    yield
    ray.shutdown()


def adapters(fixtures: Path) -> dict[str, Path]:
    return {name: fixtures / "adapters" / name for name in ("piqa-v1", "gsm8k-v1")}


def answers(engine: Any, fixtures: Path) -> list[TaskRun]:
    options = TaskOptions(data=fixtures / "data", limit=LIMIT, num_fewshot=0)
    runs: list[TaskRun] = []
    for task in load_tasks(["piqa", "gsm8k"], options):
        for adapter in (f"{task.name}-v1", None):
            engine.activate(adapter)
            runs += evaluate_task(engine, task)
    return runs


@pytest.fixture(scope="module")
def of_one_process(fixtures: Path) -> list[TaskRun]:
    engine: Any = open_engine("hf", fixtures / "models" / "base-v1", adapters(fixtures), **OPTIONS)
    try:
        return answers(engine, fixtures)
    finally:
        engine.close()


def assert_same(found: list[TaskRun], expected: list[TaskRun]) -> None:
    """Everything equal; log-likelihoods up to what the order of additions in another batch changes."""
    assert [(one.task, one.filter, one.metrics) for one in found] == [
        (one.task, one.filter, one.metrics) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.records.columns.tolist() == other.records.columns.tolist()
        for name in one.records:
            values, wanted = one.records[name].tolist(), other.records[name].tolist()
            if name == "loglikelihoods":
                for row, wanted_row in zip(values, wanted, strict=True):
                    assert row == pytest.approx(wanted_row, abs=1e-4)
            else:
                assert [v for v in values if v == v] == [v for v in wanted if v == v], (one.task, name)


class Hook:
    """Takes what an engine reports of finished batches, as the response store does."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.got: list[tuple[str, Any, Any]] = []
        self._act = act

    def add_partial(self, kind: str, arguments: Any, answer: Any) -> None:
        self.got.append((kind, arguments, answer))
        if len(self.got) == 1:
            self._act()


@pytest.mark.slow
def test_two_workers_answer_as_one_process(
    cluster: None, fixtures: Path, of_one_process: list[TaskRun], capfd: pytest.CaptureFixture[str]
) -> None:
    """Then again with every worker killed after the first answers: the run goes on with new ones, to the same end."""
    engine: Any = open_engine(
        "ray", fixtures / "models" / "base-v1", adapters(fixtures), engine_args={"workers": 2}, **OPTIONS
    )
    try:
        assert (engine.identity["engine"], engine.identity["inner"], engine.identity["dtype"]) == (
            "ray",
            "hf",
            "float32",
        )
        assert engine.tokenizer_name.endswith("base-v1"), "asked of a worker"
        hook = Hook()
        engine.set_cache_hook(hook)
        found = answers(engine, fixtures)
        assert_same(found, of_one_process)
        assert [kind for kind, _, _ in hook.got].count("loglikelihood") == 2 * 2 * LIMIT
        generated = {arguments[0]: answer for kind, arguments, answer in hook.got if kind == "generate_until"}
        with_base = found[-1].records
        assert generated[f"Question: {with_base['input'][0].removeprefix('Question: ')}"] in (
            with_base["prediction"][0], with_base["response"][0],
        )  # fmt: skip
        killed: list[int] = []

        def kill() -> None:
            workers = [child for child in psutil.Process().children(recursive=True) if child.pid in engine.pids]
            for worker in workers:
                worker.kill()
                killed.append(worker.pid)

        hook = Hook(kill)
        engine.set_cache_hook(hook)
        assert_same(answers(engine, fixtures), of_one_process)
        assert len(killed) == 2
        assert engine.notes[-1] == "A worker died and another took its place; what it was asked was asked again."
        assert len(engine.pids) >= 4
    finally:
        engine.close()
    assert "raylet" not in "".join(capfd.readouterr()), "Ray's own log stays away"
    gone = time.monotonic() + 10
    while left := [pid for pid in engine.pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < gone, left
        time.sleep(0.1)


@pytest.mark.slow
def test_what_a_worker_refuses_is_one_line(cluster: None, fixtures: Path) -> None:
    with pytest.raises(InputError, match=r"^fixtures/nothing: cannot be loaded: ") as caught:
        open_engine("ray", "fixtures/nothing", engine_args={"workers": 1}, **OPTIONS)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="500 workers of 1 CPU each need more than the 4 there are; set workers"):
        open_engine("ray", fixtures / "models" / "base-v1", engine_args={"workers": 500}, **OPTIONS)


@pytest.mark.slow
def test_a_run_with_ray_is_the_run_without(fixtures: Path, tmp_path: Path) -> None:
    given = ["run", f"{fixtures}/adapters/piqa-v1", "--task", "piqa", "--data", f"{fixtures}/data", "--limit", "12"]
    assert run([*given, "--engine", "hf", "-q", "--no-store", "--out", str(tmp_path / "hf")]) == 0
    script = f"import sys; from compatcheck.cli import main; main({[*given, *RAY, '--out', str(tmp_path / 'ray')]!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1] == f"kept in {tmp_path / 'ray'}"
    # A slow machine says once more how far it is.
    assert {line.split()[0] for line in lines} == {"run:", "loading", "kept"}, "Ray's own log stays away"
    assert load_run(tmp_path / "ray").manifest.engine["engine"] == "ray"
    assert_same(list(load_run(tmp_path / "ray").tasks), list(load_run(tmp_path / "hf").tasks))


RAY = ["--engine", "ray", "--engine-arg", "workers=2", "--no-store"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(fixtures: Path, tmp_path: Path, number: signal.Signals) -> None:
    given = ["run", str(fixtures / "models" / "base-v1"), "--task", "gsm8k", "--data", f"{fixtures}/data"]
    script = f"from compatcheck.cli import main; main({[*given, *RAY, '--out', str(tmp_path / 'kept')]!r})"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    try:
        _end_it(child, number)
    finally:
        child.kill()
    assert not (tmp_path / "kept").exists()


def _end_it(child: subprocess.Popen[str], number: signal.Signals) -> None:
    started: list[psutil.Process] = []
    deadline = time.monotonic() + 200
    while not any(process.name().startswith("ray::Worker") for process in started if process.is_running()):
        assert time.monotonic() < deadline
        assert child.poll() is None, child.stderr and child.stderr.read()
        time.sleep(0.2)
        started = psutil.Process(child.pid).children(recursive=True)
    os.killpg(child.pid, number)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 130}.get(number, -number), stderr
    _, alive = psutil.wait_procs(started, timeout=30)
    assert [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
