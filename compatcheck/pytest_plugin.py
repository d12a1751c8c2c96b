"""A pytest plugin: ``assert compat_diff(old, new, task="samsum").metrics["nfr"].high < 0.03`` is a test.

Registered under ``compatcheck``; importing it loads nothing but the standard library. The ``--compatcheck-*`` options
are those of :data:`compatcheck.config.FROM_ENVIRONMENT` and read as the environment variables are.

A comparison that could not be made fails its test in one line, and pytest's exit status is 2 then, not 1: nothing
was shown about the models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from compatcheck import config, option_models, options
from compatcheck.errors import ExitCode, InputError, internal_error, traceback_wanted

if TYPE_CHECKING:
    from compatcheck.results import Diff

CompatDiff = Callable[..., "Diff"]
_DONE = pytest.StashKey[list[tuple[str, "Diff"]]]()
_BEFORE = pytest.StashKey[int]()
"""How many comparisons there were before a test."""
_SHOWN_FLIPS = 5
_SHOWN = option_models.options_of(options.Check).keys() - option_models.options_of(options.Diff).keys()
_NOT_COMPARED = ("compatcheck", "not compared")
"""Stands among the properties of a test's report, which travel between the processes of pytest-xdist."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("compatcheck", "model upgrades, instance by instance")
    for key in config.FROM_ENVIRONMENT:
        flag = f"--compatcheck-{key.replace('_', '-')}"
        help = option_models.about(option_models.options_of(options.Check)[key]).help.replace("%", "%%")
        group.addoption(flag, dest=f"compatcheck_{key}", default=None, metavar=key.upper(), help=help)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DONE] = []
    config.pluginmanager.register(_ExitStatus())


class _InternalError(Exception):
    """The message is :func:`compatcheck.errors.internal_error`'s."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEFORE] = len(item.config.stash[_DONE])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if call.excinfo is not None and call.when == "call" and not isinstance(error, pytest.skip.Exception):
        for name, result in _compared(item, call.excinfo):
            report.sections.append((f"compatcheck: {name}", _what_broke(result)))
    if isinstance(error, InputError | _InternalError) and "compat_diff" in getattr(item, "fixturenames", ()):
        report.user_properties.append(_NOT_COMPARED)
        if not traceback_wanted():
            report.longrepr = str(error) if isinstance(error, _InternalError) else f"error: {error}"
    return report


def _compared(item: pytest.Item, failure: pytest.ExceptionInfo[BaseException]) -> Iterator[tuple[str, Diff]]:
    """The comparisons that a failed test made, or has in a variable; pytest shows what broke in each."""
    names = {id(result): name for name, result in item.config.stash[_DONE]}
    found = {id(result): result for _, result in item.config.stash[_DONE][item.stash.get(_BEFORE, 0) :]}
    for entry in failure.traceback:
        held = (value for value in entry.frame.f_locals.values() if id(value) in names)
        found |= {id(value): value for value in held}
    return ((names[key], result) for key, result in found.items())


def _what_broke(result: Diff) -> str:
    """The verdict and the worst flips."""
    from compatcheck.report import render
    from compatcheck.report.instances import describe, listed_flips

    parts = [render(result, "terminal", quiet=True)]
    several = getattr(result, "results", (result,))  # of each candidate
    for comparison, flips in (pair for one in several for pair in listed_flips(one, _SHOWN_FLIPS, _SHOWN_FLIPS)):
        parts += [f"{comparison.name}: {flip.doc_id}\n{describe(flip, comparison, 400)}" for flip in flips]
    return "\n\n".join(parts)


class _ExitStatus:
    """Turns pytest's exit status where a comparison could not be made."""

    not_compared = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.not_compared |= report.failed and _NOT_COMPARED in map(tuple, report.user_properties)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.not_compared and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            session.exitstatus = int(ExitCode.USAGE)


@pytest.fixture(scope="session")
def compat_diff(request: pytest.FixtureRequest) -> CompatDiff:
    """Compare two references: ``compat_diff(old, new, **options)`` or ``compat_diff(check="name")``, giving a ``Diff``.

    Options are those of :func:`compatcheck.diff`. ``check`` is one of compatcheck.toml. What the pytest command line
    says comes before the environment, that before the call, that before the settings file.
    """
    given = _given(request.config)
    settings = config.load()

    @option_models.takes(options.Diff)
    def compare(
        old: str | Path | None = None,
        new: str | Path | Sequence[str | Path] | None = None,
        *,
        check: str = "",
        out: str | Path | None = None,
        **own: Any,
    ) -> Diff:
        from compatcheck import api

        if check:
            (chosen,) = settings.choose([check])
        elif old is None or new is None:
            raise InputError("compat_diff(old, new, …) or compat_diff(check='name'): one of the two is needed")
        else:
            first, *further = [new] if isinstance(new, str | Path) else new
            chosen = config.Check("", str(old), str(first), settings.options, tuple(map(str, further)))
        settled = config.settle({**chosen.options, **own, **({} if out is None else {"out": str(out)})}, given)
        folder = settled.pop("out", None)
        try:
            news: Any = [chosen.new, *chosen.further] if chosen.further else chosen.new
            result = api.diff(chosen.old, news, **{k: v for k, v in settled.items() if k not in _SHOWN})
        except InputError:
            raise
        except Exception as error:
            raise _InternalError(internal_error(error)) from error
        done = request.config.stash[_DONE]
        name = check or f"diff-{len(done) + 1}"
        if folder:
            from compatcheck.report.store import save, with_earlier_looks

            result = result if chosen.further else cast("Diff", with_earlier_looks(result, Path(folder) / name))
            save(result, Path(folder) / name, ("markdown", "html"))
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
    given: dict[str, Any] = {}
    for key in config.FROM_ENVIRONMENT:
        text = pytest_config.getoption(f"compatcheck_{key}")
        try:
            given |= config.from_environment({} if text is None else {config.ENVIRONMENT + key.upper(): text})
        except InputError as error:
            problem = str(error).partition(": ")[2]
            raise pytest.UsageError(f"--compatcheck-{key.replace('_', '-')} {text}: {problem}") from None
    return given
