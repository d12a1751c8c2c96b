"""Any OpenAI-compatible server as an engine: vLLM serve, SGLang, TGI, a gateway."""

from __future__ import annotations

from compatcheck.engines.endpoint.engine import EndpointEngine
from compatcheck.engines.endpoint.options import ENGINE_ARGS, Options

__all__ = ["ENGINE_ARGS", "EndpointEngine", "Options"]
