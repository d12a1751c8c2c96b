"""Any OpenAI-compatible server as an engine: vLLM serve, SGLang, TGI, a gateway."""
