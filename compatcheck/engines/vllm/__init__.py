"""vLLM. What runs in its own processes is ``host`` and what it imports; nothing of that is imported by ours."""
