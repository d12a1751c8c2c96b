"""The special functions of statistics, by SciPy's compiled module.

``scipy.special`` also prepares all of them for other array libraries when it is imported, for which it imports much of
NumPy and itself: longer than a comparison of a small file takes. So the compiled module is imported without that, and
in the usual way where this SciPy does not have it there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import scipy

_NAME = "scipy.special"


def _functions() -> Any:
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = ModuleType(_NAME)
    package.__path__ = [str(Path(scipy.__file__).parent / "special")]
    sys.modules[_NAME] = (
        package  # its parent, as far as the import of a submodule asks; whoever wants it gets the real one
    )
    try:
        return import_module(f"{_NAME}._ufuncs")
    except ImportError:
        del sys.modules[_NAME]
        return import_module(_NAME)
    finally:
        if sys.modules.get(_NAME) is package:
            del sys.modules[_NAME]


_found = _functions()
bdtr, bdtrc, bdtrik = _found.bdtr, _found.bdtrc, _found.bdtrik
betainc, betaincc, betaincinv, betaln = _found.betainc, _found.betaincc, _found.betaincinv, _found.betaln
ndtr, ndtri, stdtr, stdtrit = _found.ndtr, _found.ndtri, _found.stdtr, _found.stdtrit
