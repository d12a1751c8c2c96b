"""The command line: one file a command, no logic."""

from __future__ import annotations

from compatcheck.cli.app import main

__all__ = ["main"]
