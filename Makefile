# The commands of a newcomer. They run in the active virtual environment, else in .venv, which `make setup` makes.
BIN ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV)/bin,.venv/bin)
BENCH ?= postprocess
# What a change breaks most often; nothing here trains a network.
QUICK = tests/golden tests/unit/config tests/unit/workflow tests/unit/dataset tests/unit/storage tests/unit/ensemble \
        tests/unit/report tests/unit/logger_plugin tests/unit/provenance $(wildcard tests/unit/test_*.py) \
        scripts/cloudseg scripts/snakemake_logger_plugin_cloudseg tests/workflow/test_lint.py

.PHONY: help setup demo test quick lint format bench

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

setup: .venv/bin/snakemake  ## make .venv with everything that envs/requirements.lock names

.venv/bin/snakemake: envs/requirements.lock
	python3 -m venv .venv
	.venv/bin/pip install -r envs/requirements.lock -e .
	touch $@

demo:  ## run the demo, from nothing to submission.csv
	$(BIN)/snakemake

quick:  ## run the tests that train no network, the doctests and the linters, in under three minutes
	$(BIN)/python -m pytest -q -n 2 $(QUICK)

test:  ## run all tests, as CI does
	$(BIN)/python -m pytest -n 2

lint:  ## check what the pre-commit hooks check, spelling aside
	$(BIN)/ruff check scripts tests
	$(BIN)/ruff format --check scripts tests
	$(BIN)/snakefmt --check Snakefile rules

format:  ## format Python and Snakemake files
	$(BIN)/ruff check --fix scripts tests
	$(BIN)/ruff format scripts tests
	$(BIN)/snakefmt Snakefile rules

bench:  ## run a benchmark of tests/benchmarks: the core's, or BENCH=ranks
	$(BIN)/python tests/benchmarks/$(BENCH).py
