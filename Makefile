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

.PHONY: help setup demo test test-all check gates docs clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with trueup and all that its tests need
	@scripts/setup.sh test

demo: ## train, align and report on this machine: no GPU, nothing to download but packages
	@scripts/setup.sh
	@$(BIN)/trueup demo

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

docs: ## the documentation as a site in build/site: static pages, with search, for reading offline
	@scripts/setup.sh docs
	@$(BIN)/python scripts/make_docs.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
