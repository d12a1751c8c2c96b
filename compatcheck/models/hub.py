"""Models by their hub id: a local snapshot of the files that are read, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

from compatcheck.errors import InputError, one_line

_READ = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
_CODE = ["*.py"]
_IGNORED = ["*.bin", "original/*", "consolidated*"]
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def snapshot(hub_id: str, trust_remote_code: bool = False) -> Path:
    """Local snapshot of ``ORG/NAME[@REVISION]``; downloads what is missing, safetensors only, and where remote code is
    trusted the code. Raises InputError: the hub does not give it, or its weights are pickles alone."""
    from huggingface_hub import snapshot_download

    repo, _, revision = hub_id.partition("@")
    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=revision or None,
                allow_patterns=_READ + (_CODE if trust_remote_code else []),
                ignore_patterns=_IGNORED,
            )
        )
    except Exception as error:  # the hub client raises many kinds: network, permission, missing repository
        raise InputError(
            f"{hub_id}: not a folder here, and the model hub did not give it ({type(error).__name__}: "
            f"{one_line(error)[:160]})"
        ) from None
    if next(folder.glob("*.safetensors"), None) is None:
        _refuse_pickles(hub_id, repo, revision, folder)
    return folder


def _refuse_pickles(hub_id: str, repo: str, revision: str, folder: Path) -> None:
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(repo, revision=revision or None)
    except Exception:  # no network: what is in the cache has to do
        files = [path.name for path in folder.iterdir()]
    pickled = [file for file in files if file.endswith(_PICKLES) and "/" not in file]
    if pickled:
        raise InputError(
            f"{hub_id}: its repository holds weights as pickles alone ({pickled[0]}), which can run code when loaded; "
            "only safetensors are read: name a revision that has them (ORG/NAME@REVISION), or load it once where you "
            "trust it and save it again with save_pretrained"
        )
