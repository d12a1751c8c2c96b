#!/bin/sh
# Phi 1, 1.5 and 2: one command a line. First a task adapter for every model and task, then a compatibility adapter for every pair.
# `sh phi.sh` runs them all, one after the other; a line that was interrupted goes on where it was when it is run again.
# `fix` exits with 1 (not better) and 3 (inconclusive) too, so nothing here stops at the first of them.
# Hardware, time and the paper's figures: docs/recipes.md. Not run by this project.

compatcheck train-task microsoft/phi-1 --task hellaswag --preset paper --set bf16=true --out adapters/phi-1/hellaswag
compatcheck train-task microsoft/phi-1 --task piqa --preset paper --set bf16=true --out adapters/phi-1/piqa
compatcheck train-task microsoft/phi-1 --task gsm8k --preset paper --set bf16=true --out adapters/phi-1/gsm8k
compatcheck train-task microsoft/phi-1 --task samsum --preset paper --set bf16=true --out adapters/phi-1/samsum

compatcheck train-task microsoft/phi-1_5 --task hellaswag --preset paper --set bf16=true --out adapters/phi-1.5/hellaswag
compatcheck train-task microsoft/phi-1_5 --task piqa --preset paper --set bf16=true --out adapters/phi-1.5/piqa
compatcheck train-task microsoft/phi-1_5 --task gsm8k --preset paper --set bf16=true --out adapters/phi-1.5/gsm8k
compatcheck train-task microsoft/phi-1_5 --task samsum --preset paper --set bf16=true --out adapters/phi-1.5/samsum

compatcheck train-task microsoft/phi-2 --task hellaswag --preset paper --set bf16=true --out adapters/phi-2/hellaswag
compatcheck train-task microsoft/phi-2 --task piqa --preset paper --set bf16=true --out adapters/phi-2/piqa
compatcheck train-task microsoft/phi-2 --task gsm8k --preset paper --set bf16=true --out adapters/phi-2/gsm8k
compatcheck train-task microsoft/phi-2 --task samsum --preset paper --set bf16=true --out adapters/phi-2/samsum

compatcheck fix adapters/phi-1/hellaswag/adapter adapters/phi-1.5/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --force --out fixed/phi-1-to-phi-1.5/hellaswag
compatcheck fix adapters/phi-1/piqa/adapter adapters/phi-1.5/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1-to-phi-1.5/piqa
compatcheck fix adapters/phi-1/gsm8k/adapter adapters/phi-1.5/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --force --out fixed/phi-1-to-phi-1.5/gsm8k
compatcheck fix adapters/phi-1/samsum/adapter adapters/phi-1.5/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1-to-phi-1.5/samsum

compatcheck fix adapters/phi-1.5/hellaswag/adapter adapters/phi-2/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1.5-to-phi-2/hellaswag
compatcheck fix adapters/phi-1.5/piqa/adapter adapters/phi-2/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1.5-to-phi-2/piqa
compatcheck fix adapters/phi-1.5/gsm8k/adapter adapters/phi-2/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1.5-to-phi-2/gsm8k
compatcheck fix adapters/phi-1.5/samsum/adapter adapters/phi-2/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1.5-to-phi-2/samsum

compatcheck fix adapters/phi-1/hellaswag/adapter adapters/phi-2/hellaswag/adapter --task hellaswag --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --force --out fixed/phi-1-to-phi-2/hellaswag
compatcheck fix adapters/phi-1/piqa/adapter adapters/phi-2/piqa/adapter --task piqa --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1-to-phi-2/piqa
compatcheck fix adapters/phi-1/gsm8k/adapter adapters/phi-2/gsm8k/adapter --task gsm8k --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --force --out fixed/phi-1-to-phi-2/gsm8k
compatcheck fix adapters/phi-1/samsum/adapter adapters/phi-2/samsum/adapter --task samsum --strategy muscle --control continue-ce --blend none --preset paper --set bf16=true --out fixed/phi-1-to-phi-2/samsum
