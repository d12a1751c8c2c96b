#!/bin/sh
# Vicuna 1.3 and 1.5 at 7 billion parameters: one command a line. First a task adapter for every model and task, then a compatibility adapter for every pair.
# `sh vicuna.sh` runs them all, one after the other; a line that was interrupted goes on where it was when it is run again.
# `fix` exits with 1 (not better) and 3 (inconclusive) too, so nothing here stops at the first of them.
# Hardware, time and the paper's figures: docs/recipes.md. Not run by this project.

compatcheck train-task lmsys/vicuna-7b-v1.3 --task hellaswag --preset paper --set bf16=true --out adapters/vicuna-1.3/hellaswag
compatcheck train-task lmsys/vicuna-7b-v1.3 --task piqa --preset paper --set bf16=true --out adapters/vicuna-1.3/piqa
compatcheck train-task lmsys/vicuna-7b-v1.3 --task gsm8k --preset paper --set bf16=true --out adapters/vicuna-1.3/gsm8k
compatcheck train-task lmsys/vicuna-7b-v1.3 --task samsum --preset paper --set bf16=true --out adapters/vicuna-1.3/samsum

compatcheck train-task lmsys/vicuna-7b-v1.5 --task hellaswag --preset paper --set bf16=true --out adapters/vicuna-1.5/hellaswag
compatcheck train-task lmsys/vicuna-7b-v1.5 --task piqa --preset paper --set bf16=true --out adapters/vicuna-1.5/piqa
compatcheck train-task lmsys/vicuna-7b-v1.5 --task gsm8k --preset paper --set bf16=true --out adapters/vicuna-1.5/gsm8k
compatcheck train-task lmsys/vicuna-7b-v1.5 --task samsum --preset paper --set bf16=true --out adapters/vicuna-1.5/samsum

compatcheck fix adapters/vicuna-1.3/hellaswag/adapter adapters/vicuna-1.5/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/vicuna-1.3-to-vicuna-1.5/hellaswag
compatcheck fix adapters/vicuna-1.3/piqa/adapter adapters/vicuna-1.5/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/vicuna-1.3-to-vicuna-1.5/piqa
compatcheck fix adapters/vicuna-1.3/gsm8k/adapter adapters/vicuna-1.5/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/vicuna-1.3-to-vicuna-1.5/gsm8k
compatcheck fix adapters/vicuna-1.3/samsum/adapter adapters/vicuna-1.5/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/vicuna-1.3-to-vicuna-1.5/samsum
