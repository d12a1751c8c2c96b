"""What runs in vLLM's own processes. Only ``host`` is started; nothing here is imported by ours."""
