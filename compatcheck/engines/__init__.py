"""Engines turn requests into outputs. Every engine is an ``lm_eval.api.model.LM``.

``hf`` is our own fast version of lm-eval's, ``vllm`` its vLLM backend in processes of its own, ``ray`` an engine
on each of several machines; every other name is a backend of lm-eval. Importing this loads neither torch nor lm-eval.
"""

from compatcheck.engines.factory import Work, choose, engine_names, open_endpoint, open_engine
from compatcheck.engines.progress import Progress

__all__ = ["Progress", "Work", "choose", "engine_names", "open_endpoint", "open_engine"]
