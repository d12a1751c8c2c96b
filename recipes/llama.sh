#!/bin/sh
# Llama 1, 2 and 3 at 7 and 8 billion parameters: one command a line. First a task adapter for every model and task, then a compatibility adapter for every pair.
# `sh llama.sh` runs them all, one after the other; a line that was interrupted goes on where it was when it is run again.
# `fix` exits with 1 (not better) and 3 (inconclusive) too, so nothing here stops at the first of them.
# Hardware, time and the paper's figures: docs/recipes.md. Not run by this project.

compatcheck train-task huggyllama/llama-7b --task hellaswag --preset paper --set bf16=true --out adapters/llama-1/hellaswag
compatcheck train-task huggyllama/llama-7b --task piqa --preset paper --set bf16=true --out adapters/llama-1/piqa
compatcheck train-task huggyllama/llama-7b --task gsm8k --preset paper --set bf16=true --out adapters/llama-1/gsm8k
compatcheck train-task huggyllama/llama-7b --task samsum --preset paper --set bf16=true --out adapters/llama-1/samsum

compatcheck train-task meta-llama/Llama-2-7b-hf --task hellaswag --preset paper --set bf16=true --out adapters/llama-2/hellaswag
compatcheck train-task meta-llama/Llama-2-7b-hf --task piqa --preset paper --set bf16=true --out adapters/llama-2/piqa
compatcheck train-task meta-llama/Llama-2-7b-hf --task gsm8k --preset paper --set bf16=true --out adapters/llama-2/gsm8k
compatcheck train-task meta-llama/Llama-2-7b-hf --task samsum --preset paper --set bf16=true --out adapters/llama-2/samsum

compatcheck train-task meta-llama/Meta-Llama-3-8B --task hellaswag --preset paper --set bf16=true --out adapters/llama-3/hellaswag
compatcheck train-task meta-llama/Meta-Llama-3-8B --task piqa --preset paper --set bf16=true --out adapters/llama-3/piqa
compatcheck train-task meta-llama/Meta-Llama-3-8B --task gsm8k --preset paper --set bf16=true --out adapters/llama-3/gsm8k
compatcheck train-task meta-llama/Meta-Llama-3-8B --task samsum --preset paper --set bf16=true --out adapters/llama-3/samsum

compatcheck fix adapters/llama-1/hellaswag/adapter adapters/llama-2/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-2/hellaswag
compatcheck fix adapters/llama-1/piqa/adapter adapters/llama-2/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-2/piqa
compatcheck fix adapters/llama-1/gsm8k/adapter adapters/llama-2/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-2/gsm8k
compatcheck fix adapters/llama-1/samsum/adapter adapters/llama-2/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-2/samsum

# llama-2 and llama-3 tokenize differently: the old model is followed through aligned chunks (docs/alignment.md).
compatcheck fix adapters/llama-2/hellaswag/adapter adapters/llama-3/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-2-to-llama-3/hellaswag
compatcheck fix adapters/llama-2/piqa/adapter adapters/llama-3/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-2-to-llama-3/piqa
compatcheck fix adapters/llama-2/gsm8k/adapter adapters/llama-3/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-2-to-llama-3/gsm8k
compatcheck fix adapters/llama-2/samsum/adapter adapters/llama-3/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-2-to-llama-3/samsum

# llama-1 and llama-3 tokenize differently: the old model is followed through aligned chunks (docs/alignment.md).
compatcheck fix adapters/llama-1/hellaswag/adapter adapters/llama-3/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-3/hellaswag
compatcheck fix adapters/llama-1/piqa/adapter adapters/llama-3/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-3/piqa
compatcheck fix adapters/llama-1/gsm8k/adapter adapters/llama-3/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-3/gsm8k
compatcheck fix adapters/llama-1/samsum/adapter adapters/llama-3/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/llama-1-to-llama-3/samsum
