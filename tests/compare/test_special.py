"""Special functions: SciPy's very own, whichever is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECK = """
import types, scipy.special as theirs, scipy.stats
names = [name for name in dir(ours) if isinstance(getattr(theirs, name, None), type(theirs.ndtr))]
assert len(names) >= 11, names
assert all(getattr(ours, name) is getattr(theirs, name) for name in names), names
assert round(scipy.stats.hypergeom.sf(1, 20, 7, 12), 6) == 0.995562 and scipy.special is theirs
"""
OURS = "from compatcheck.compare import special as ours"


@pytest.mark.parametrize(
    "first",
    [
        f"{OURS}\nimport sys\nassert 'scipy.special' not in sys.modules",
        f"import scipy.special\n{OURS}",
        # a SciPy that keeps them elsewhere
        f"import sys\nsys.modules['scipy.special._ufuncs'] = None\n"
        "import importlib\nimport_module = importlib.import_module\n"
        "def as_before(name, package=None):\n"
        "    if name == 'scipy.special': del sys.modules['scipy.special._ufuncs']\n"
        "    return import_module(name, package)\n"
        f"importlib.import_module = as_before\n{OURS}\nimportlib.import_module = import_module",
    ],
    ids=["ours first", "SciPy first", "elsewhere"],
)
def test_are_those_of_scipy(first):
    done = subprocess.run([sys.executable, "-c", f"{first}\n{CHECK}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
