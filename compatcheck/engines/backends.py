"""Any backend of lm-eval as an engine. It holds one adapter at a time and is loaded anew to switch."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

from compatcheck.engines.base import Engine, check_adapter
from compatcheck.engines.patches import without_bars_of_backends
from compatcheck.engines.progress import Progress, Stage
from compatcheck.errors import InputError, one_line
from compatcheck.models import kind_of
from compatcheck.models.keys import api_key, refuse_secrets

_ADAPTER_ARGUMENTS = ("peft", "lora_local_path")


class BackendEngine(Engine):
    """Hands everything to the backend; see :func:`compatcheck.engines.open_engine`."""

    def __init__(
        self,
        name: str,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        engine_args: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        super().__init__(progress)
        refuse_secrets(engine_args or {})
        self.note(f"Requests are answered by lm-eval's '{name}' backend.")
        self._name = name
        self._class = _load_class(name)
        self._adapters = dict(adapters or {})
        accepted = _parameters(self._class)
        offered = {"pretrained": str(model), "model": str(model), **options}
        offered["trust_remote_code"] = offered.get("trust_remote_code") or None
        self._arguments = {key: value for key, value in offered.items() if key in accepted and value is not None}
        if "pretrained" in accepted:
            self._arguments.pop("model", None)
        self._arguments.update(engine_args or {})
        self._adapter_argument = next((key for key in _ADAPTER_ARGUMENTS if key in accepted), None)
        if self._adapters and self._adapter_argument is None:
            raise InputError(f"--engine {name}: this backend takes no adapters; merge the adapter or use --engine hf")
        for folder in self._adapters.values():
            if why := kind_of(Path(folder)).own_base:
                raise InputError(
                    f"--engine {name}: {folder}: {why}, and lm-eval's loader gets it wrong; use --engine hf"
                )
        self._inner: LM | None = None
        self._active: str | None = None
        self._open(next(iter(self._adapters), None))

    def _open(self, adapter: str | None) -> None:
        arguments = dict(self._arguments)
        if adapter is not None:
            arguments[str(self._adapter_argument)] = str(self._adapters[adapter])
        server = arguments.get("base_url")
        key = api_key(str(server)) if server else None
        try:
            self._inner = self._class.create_from_arg_obj(arguments)
        except Exception as error:  # each backend fails in its own way: a missing package, a wrong argument ...
            raise InputError(f"--engine {self._name}: cannot be opened: {one_line(error)}") from error
        if server and hasattr(self._class, "api_key"):  # which is OPENAI_API_KEY, whatever the address
            self._inner.__dict__["api_key"] = key or ""
        self._inner.set_cache_hook(self.cache_hook)
        self._active = adapter

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name (None: the base alone). Raises InputError: no adapter of that name, or the
        backend cannot be loaded again."""
        check_adapter(name, self._adapters)
        if name != self._active or self._inner is None:
            self.close()
            self._open(name)

    def close(self) -> None:
        """Free the memory."""
        from compatcheck.engines.hf.memory import give_back

        self._inner = None
        give_back()

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, lm-eval's version and the arguments that bear on the outputs."""
        return {
            "engine": self._name,
            "versions": {"lm_eval": importlib.metadata.version("lm_eval")},
            "dtype": str(self._arguments.get("dtype", "")),
            "device": str(getattr(self._inner, "device", "") or ""),
            "arguments": {
                key: str(value) for key, value in self._arguments.items() if key not in ("pretrained", "model")
            },
        }

    def set_cache_hook(self, cache_hook: Any) -> None:
        super().set_cache_hook(cache_hook)
        if self._inner is not None:
            self._inner.set_cache_hook(cache_hook)

    def _answers(self, method: str, label: str, requests: list[Any]) -> Any:
        """One call for all requests, so that the backend batches as it likes; the bar only says that it runs. Raises
        InputError: the backend failed; each does in its own way."""
        work = getattr(self._backend, method)
        quiet = {"disable_tqdm": True} if "disable_tqdm" in inspect.signature(work).parameters else {}
        try:
            with without_bars_of_backends(), Stage(self.progress, label, requests):
                return work(requests, **quiet)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"--engine {self._name}: failed while {label}: {type(error).__name__}: {one_line(error)}"
            ) from error

    def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self._backend, name)
        return found(*arguments, **options) if callable(found) else found

    @property
    def _backend(self) -> LM:
        if self._inner is None:
            raise InputError(f"--engine {self._name}: it was closed")
        return self._inner


def _load_class(name: str) -> Any:
    from lm_eval.api.registry import get_model

    try:
        return get_model(name)
    except Exception as error:  # a backend whose package is missing fails while it is imported
        fix = "; install it with pip install 'compatcheck[vllm]'" if name.startswith("vllm") else ""
        raise InputError(f"--engine {name}: not usable here: {one_line(error)}{fix}") from error


def _parameters(class_: type) -> set[str]:
    """Names that the constructor takes, through all classes that hand their keywords on."""
    found: set[str] = set()
    for level in class_.__mro__:
        initialise = level.__dict__.get("__init__")
        if initialise is None:
            continue
        parameters = inspect.signature(initialise).parameters
        found.update(name for name in parameters if name != "self")
        if not any(given.kind is given.VAR_KEYWORD for given in parameters.values()):
            break
    return found
