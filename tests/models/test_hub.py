"""Hub ids: revisions of an adapter's base, a model's own code, weights that are pickles. The hub is a small server."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

Repositories = dict[str, dict[str, dict[str, bytes]]]
"""Repository -> revision -> path -> content."""


class Hub(http.server.BaseHTTPRequestHandler):
    """What ``snapshot_download`` and ``list_repo_files`` ask of a hub."""

    repositories: Repositories

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            known = {key: each for each in self.repositories.get(name, {}) for key in (each, _commit(name, each))}
            revision = known.get(revision, "")
            files = self.repositories.get(name, {}).get(revision)
            if files is None:
                kind = "RevisionNotFound" if name in self.repositories else "RepoNotFound"
                return self._answer(404, b"{}", {"X-Error-Code": kind, "X-Error-Message": "not here"})
            info = {"id": name, "sha": _commit(name, revision), "siblings": [{"rfilename": file} for file in files]}
            if "tree" in parts:
                entries = [{"type": "file", "path": f, "size": len(c), "oid": _sha(c)} for f, c in files.items()]
                return self._answer(200, json.dumps(entries).encode())
            return self._answer(200, json.dumps(info).encode())
        name, revision, file = "/".join(parts[:2]), "".join(parts[3:4]), "/".join(parts[4:])
        for each, files in self.repositories.get(name, {}).items():
            if revision in (each, _commit(name, each)) and file in files:
                tags = {"ETag": f'"{_sha(files[file])}"', "X-Repo-Commit": _commit(name, each)}
                return self._answer(200, files[file], tags)
        return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _answer(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _commit(name: str, revision: str) -> str:
    return _sha(f"{name}@{revision}".encode())


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def hub(fixtures: Path, tmp_path: Path) -> Iterator[tuple[str, Repositories]]:
    """Address and repositories: org/base with a main and a revision v2 whose weights are twice as large."""
    main = files_of(fixtures / "models" / "base-v1")
    weights = load_file(fixtures / "models" / "base-v1" / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, tmp_path / "v2.safetensors", {"format": "pt"})
    second = {**main, "model.safetensors": (tmp_path / "v2.safetensors").read_bytes()}
    repositories = {"org/base": {"main": main, "v2": second}}
    handler = type("Handler", (Hub,), {"repositories": repositories})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", repositories
    server.shutdown()


def resolve(address: str, tmp_path: Path, text: str, trust: bool = False) -> dict[str, Any]:
    """What a process with this hub makes of a reference: base, its name and its files, or the error."""
    script = (
        "import json, sys\nfrom compatcheck.errors import InputError\nfrom compatcheck.references import resolve\n"
        f"try:\n    r = resolve({text!r}, {trust})\n"
        "except InputError as error:\n    print(json.dumps({'error': str(error)})); sys.exit()\n"
        "files = sorted(p.name for p in r.base.iterdir())\n"
        "print(json.dumps({'base': str(r.base), 'name': r.base_name, 'files': files}))"
    )
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"}
    environment = {key: value for key, value in os.environ.items() if key not in offline}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**environment, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def adapter(fixtures: Path, folder: Path, **config: Any) -> Path:
    source = next(
        path for path in sorted((fixtures / "adapters").iterdir()) if (path / "adapter_config.json").is_file()
    )
    shutil.copytree(source, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return folder


def test_the_revision_of_an_adapters_base_is_taken(
    hub: tuple[str, Repositories], fixtures: Path, tmp_path: Path
) -> None:
    address, repositories = hub
    at = {
        revision: resolve(
            address, tmp_path,
            str(adapter(fixtures, tmp_path / f"a-{revision}", base_model_name_or_path="org/base", revision=revision)),
        )
        for revision in (None, "main", "v2")
    }  # fmt: skip
    for revision, found in at.items():
        assert "error" not in found, found
        wanted = repositories["org/base"][revision or "main"]["model.safetensors"]
        assert (Path(found["base"]) / "model.safetensors").read_bytes() == wanted
    assert [found["name"] for found in at.values()] == ["org/base", "org/base@main", "org/base@v2"]


def test_a_revision_in_the_name_is_taken_too(hub: tuple[str, Repositories], fixtures: Path, tmp_path: Path) -> None:
    address, repositories = hub
    folder = adapter(fixtures, tmp_path / "a", base_model_name_or_path="org/base@v2", revision=None)
    for text in (str(folder), "org/base@v2"):
        found = resolve(address, tmp_path, text)
        content = (Path(found["base"]) / "model.safetensors").read_bytes()
        assert content == repositories["org/base"]["v2"]["model.safetensors"]


@pytest.mark.parametrize(
    ("revision", "said"),
    [("nowhere", "names a base that cannot be had: org/base@nowhere"), (3, "revision is 3"), ("", "revision is ''")],
)
def test_a_revision_that_is_none_is_said(
    revision: Any, said: str, hub: tuple[str, Repositories], fixtures: Path, tmp_path: Path
) -> None:
    folder = adapter(fixtures, tmp_path / "a", base_model_name_or_path="org/base", revision=revision)
    error = resolve(hub[0], tmp_path, str(folder))["error"]
    assert said in error
    assert "adapter_config.json" in error
    assert "\n" not in error


def test_code_is_fetched_where_it_is_trusted(hub: tuple[str, Repositories], tmp_path: Path) -> None:
    address, repositories = hub
    repositories["org/own"] = {"main": {**repositories["org/base"]["main"], "modeling_own.py": b"x = 1\n"}}
    assert "modeling_own.py" not in resolve(address, tmp_path, "org/own")["files"]
    assert "modeling_own.py" in resolve(address, tmp_path, "org/own", trust=True)["files"]


def test_pickles_alone_are_said(hub: tuple[str, Repositories], tmp_path: Path) -> None:
    address, repositories = hub
    files = {k: v for k, v in repositories["org/base"]["main"].items() if not k.endswith(".safetensors")}
    repositories["org/old"] = {"main": {**files, "pytorch_model.bin": b"x"}}
    error = resolve(address, tmp_path, "org/old")["error"]
    assert error.startswith("org/old: its repository holds weights as pickles alone (pytorch_model.bin)")
    assert not list((tmp_path / "hf").rglob("*.bin")), "no pickle is downloaded"


def test_a_model_that_is_not_there(hub: tuple[str, Repositories], tmp_path: Path) -> None:
    error = resolve(hub[0], tmp_path, "org/nothing")["error"]
    assert error.startswith("org/nothing: not a folder here, and the model hub did not give it")
    assert "\n" not in error
