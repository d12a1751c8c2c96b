"""A pytest plugin: ``assert compat_diff(old, new, task="samsum").metrics["nfr"].high < 0.03`` is a test.

Registered under ``compatcheck``; importing it loads nothing but the standard library. The ``--compatcheck-*`` options
are those of :data:`compatcheck.config.FROM_ENVIRONMENT` and read as the environment variables are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compatcheck import config
from compatcheck.errors import InputError

if TYPE_CHECKING:
    from compatcheck.api import Diff

CompatDiff = Callable[..., "Diff"]
_DONE = pytest.StashKey[list[tuple[str, "Diff"]]]()
_HELP = {
    "engine": "engine that runs models: auto, hf, vllm …",
    "batch_size": "sequences at a time, or auto",
    "dtype": "auto, float32, bfloat16, float16",
    "device": "cpu, cuda, cuda:1, mps",
    "limit": "the first N documents",
    "store": "folder that keeps the answers of models",
    "out": "keep a report of every comparison in this folder",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("compatcheck", "model upgrades, instance by instance")
    for key in config.FROM_ENVIRONMENT:
        flag = f"--compatcheck-{key.replace('_', '-')}"
        group.addoption(flag, dest=f"compatcheck_{key}", default=None, metavar=key.upper(), help=_HELP[key])


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DONE] = []


@pytest.fixture(scope="session")
def compat_diff(request: pytest.FixtureRequest) -> CompatDiff:
    """Compare two references: ``compat_diff(old, new, **options)`` or ``compat_diff(check="name")``, giving a ``Diff``.

    Options are those of :func:`compatcheck.diff`. ``check`` is one of compatcheck.toml. What the pytest command line
    says comes before the environment, that before the call, that before the settings file.
    """
    from compatcheck import checks

    given = _given(request.config)
    settings = config.load()

    def compare(
        old: str | Path | None = None, new: str | Path | None = None, *, check: str = "", **options: Any
    ) -> Diff:
        if check:
            (chosen,) = checks.choose(settings, [check])
        elif old is None or new is None:
            raise InputError("compat_diff(old, new, …) or compat_diff(check='name'): one of the two is needed")
        else:
            chosen = config.Check("", str(old), str(new), settings.options)
        settled = checks.settle({**chosen.options, **options}, given)
        result = checks.run(chosen, settled)
        done = request.config.stash[_DONE]
        name = check or f"diff-{len(done) + 1}"
        if settled.get("out"):
            result.save(Path(str(settled["out"])) / name)
        done.append((name, result))
        return result

    return compare


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    done = config.stash.get(_DONE, [])
    if done:
        from compatcheck.report import render

        terminalreporter.section("compatcheck")
        for name, result in done:
            terminalreporter.write_line(f"{name}: {render(result, 'terminal', quiet=True)}")


def _given(pytest_config: pytest.Config) -> dict[str, Any]:
    """The options of the command line, read as those of the environment are."""
    written = {key: pytest_config.getoption(f"compatcheck_{key}") for key in config.FROM_ENVIRONMENT}
    given: dict[str, Any] = {}
    for key, text in written.items():
        if text is not None:
            try:
                given |= config.from_environment({config.ENVIRONMENT + key.upper(): text})
            except InputError as error:
                problem = str(error).partition(": ")[2]
                raise pytest.UsageError(f"--compatcheck-{key.replace('_', '-')} {text}: {problem}") from None
    return given
