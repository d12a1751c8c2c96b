"""References asked on tasks: what is collected, planned, run by lm-eval, kept as it arrives."""
