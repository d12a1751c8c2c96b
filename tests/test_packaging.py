"""What a registry would show: metadata, classifiers and the long description of what is built from this checkout."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import check_command

ROOT = Path(__file__).parent.parent
MAKE = "import sys; from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """Made of a copy, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "compatcheck").mkdir()
    (folder / "compatcheck" / "__init__.py").touch()
    (folder / "made").mkdir()
    done = subprocess.run([sys.executable, "-c", MAKE, "made"], cwd=folder, capture_output=True, text=True, check=True)
    made = folder / "made" / done.stdout.splitlines()[-1] / "METADATA"
    return email.message_from_string(made.read_text(encoding="utf-8"))


def test_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["License-Expression"]) == ("compatcheck", "Apache-2.0")
    labels = {line.partition(", ")[0] for line in metadata.get_all("Project-URL", [])}
    assert labels == {"Documentation", "Source", "Changelog", "Issues"}
    assert set(metadata.get_all("Provides-Extra", [])) >= {"tasks", "models", "fix", "vllm", "all"}


def test_classifiers_are_those_of_the_registry(metadata: Message) -> None:
    known = pytest.importorskip("trove_classifiers", reason="trove-classifiers is not installed").classifiers
    assert set(metadata.get_all("Classifier", [])) <= set(known)


def test_every_link_of_the_long_description_leads_somewhere(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 15
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    version = metadata["Version"]
    for link in links:
        for start in (f"/blob/v{version}/", f"/compatcheck/v{version}/"):
            if start in link:
                assert (ROOT / link.partition(start)[2].partition("#")[0]).exists(), link


def test_the_long_description_renders(metadata: Message) -> None:
    markdown = pytest.importorskip("readme_renderer.markdown", reason="readme-renderer is not installed")
    html = markdown.render(str(metadata.get_payload()))
    assert html is not None and "<table>" in html and "report.png" in html


def test_the_pre_commit_hook_is_a_command() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    check_command(hook["entry"].split())
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert re.search(hook["files"], "runs/new.jsonl") and not re.search(hook["files"], "notes.md")
