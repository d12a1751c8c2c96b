"""A GGUF file as OLD or NEW: alone, under an adapter, from the hub, and what the report says of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.references import resolve
from tests.engines.endpoint.servers import serving
from tests.models.gguf.writing import write_gguf


@pytest.fixture(scope="module")
def file(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(fixtures / "models" / "base-v1", tmp_path_factory.mktemp("gguf") / "base.gguf")


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATCHECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def diff(old: object, new: object, fixtures: Path, out: Path, *more: str) -> dict[str, Any]:
    data = ["--task", "piqa", "--data", f"{fixtures}/data", "--limit", "16", "--num-fewshot", "0"]
    assert run(["diff", str(old), str(new), *data, "--engine", "hf", "--out", str(out), "-q", *more]) == 0
    return report(out)


def test_a_file_is_a_model(file: Path, tmp_path: Path) -> None:
    reference = resolve(str(file))
    assert (reference.kind, reference.gguf, reference.quantization) == ("model", file, "F32")
    assert reference.base is not None
    assert (reference.base / "config.json").is_file()
    (tmp_path / "called-otherwise.GGUF").write_bytes(file.read_bytes())
    assert resolve(str(tmp_path / "called-otherwise.GGUF")).fingerprint() == reference.fingerprint()


def test_it_scores_as_the_folder_it_was_written_from(file: Path, fixtures: Path, tmp_path: Path) -> None:
    found = diff(fixtures / "models" / "base-v1", file, fixtures, tmp_path / "out")
    (comparison,) = [each for each in found["comparisons"] if each["metric"] == "acc"]
    assert comparison["metrics"]["agreement"]["value"] == 1.0
    assert "quantization" not in found["old"]["engine"]
    assert found["new"]["engine"]["quantization"] == "GGUF F32"
    assert "base.gguf: GGUF F32, computed from its dequantised weights." in found["notes"]


def test_an_adapter_on_a_file(file: Path, fixtures: Path, tmp_path: Path) -> None:
    adapter = fixtures / "adapters" / "piqa-v1"
    named = tmp_path / "named"
    shutil.copytree(adapter, named)
    config = json.loads((named / "adapter_config.json").read_text())
    (named / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(file)}))
    together, alone = resolve(f"{file}+{adapter}"), resolve(str(named))
    assert (together.gguf, alone.gguf) == (file, file)
    assert together.base == alone.base
    assert together.fingerprint() == alone.fingerprint() != resolve(str(file)).fingerprint()
    for number, new in enumerate((f"{file}+{adapter}", named)):
        found = diff(adapter, new, fixtures, tmp_path / f"out{number}")
        assert found["comparisons"][0]["metrics"]["agreement"]["value"] == 1.0
        assert found["new"]["kind"] == "adapter"


def test_what_is_no_such_file_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"a folder of GGUF files; name the file: .*base\.gguf"):
        resolve(str(file.parent))
    with pytest.raises(InputError, match=r"nowhere/model\.gguf: no such file"):
        resolve("nowhere/model.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and then nothing")
    code = run(["run", str(tmp_path / "bad.gguf"), "--task", "piqa", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(said) == 1
    assert "not a GGUF file, or damaged or cut off" in said[0]
    assert not (tmp_path / "out").exists()


def test_a_file_of_a_hub_repository_is_fetched_alone(file: Path, tmp_path: Path) -> None:
    content, asked = file.read_bytes(), []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> bool:
            asked.append(self.path)
            known = self.path == "/org/repo-GGUF/resolve/v1/sub/model.Q8.gguf"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            return known

        def do_GET(self) -> None:
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    script = (
        "from compatcheck.references import resolve; from compatcheck.errors import InputError\n"
        "found = resolve('org/repo-GGUF/sub/model.Q8.gguf@v1'); print(found.gguf); print(found.fingerprint())\n"
        "try: resolve('org/repo-GGUF/other.gguf')\nexcept InputError as error: print(error)"
    )
    with serving(Hub) as server:
        hub = {"HF_ENDPOINT": server.url.removesuffix("/v1"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0",
               "HF_HUB_ETAG_TIMEOUT": "300", "HF_HUB_DOWNLOAD_TIMEOUT": "300"}  # fmt: skip
        made = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | hub, capture_output=True, text=True, check=False
        )
    assert made.returncode == 0, made.stderr
    path, fingerprint, refused = made.stdout.splitlines()
    assert Path(path).read_bytes() == content
    assert fingerprint == resolve(str(file)).fingerprint()
    assert refused.startswith("org/repo-GGUF/other.gguf: not a file here, and the model hub did not give it")
    fetched = {path for path in asked if "resolve" in path and "other" not in path}
    assert fetched == {"/org/repo-GGUF/resolve/v1/sub/model.Q8.gguf"}
