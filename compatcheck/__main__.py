"""``python -m compatcheck`` is the command line."""

from compatcheck.cli import main

main()
