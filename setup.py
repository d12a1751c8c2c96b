"""The long description: the README with links that lead somewhere outside the repository. All else: pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'^version = "(.*)"', (HERE / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]
REPOSITORY = "github.com/compatcheck/compatcheck"


def absolute(link: re.Match) -> str:
    """``![…](docs/a.png)`` and ``[…](docs/a.md)`` of this version."""
    image, text, target = link.groups()
    start = (
        f"https://raw.{REPOSITORY.replace('github.com', 'githubusercontent.com')}"
        if image
        else f"https://{REPOSITORY}/blob"
    )
    return f"{image}[{text}]({start}/v{VERSION}/{target})"


README = (HERE / "README.md").read_text(encoding="utf-8")
README = re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)\s]+)\)", absolute, README)
setup(long_description=README, long_description_content_type="text/markdown")
