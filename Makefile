# Every target works on a fresh machine that has only Python >= 3.11; all it makes is .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# Of `make faults`: minutes of the thrasher, its seed (empty: any), power cuts, and kills.
MINUTES ?= 2
SEED ?=
CUTS ?= 20
KILLS ?= 20

.PHONY: install demo test check faults format docs clean
.DEFAULT_GOAL := install

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $(STAMP)

$(DEV_STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP) $(DEV_STAMP)

install: $(STAMP)   ## .venv with the command .venv/bin/dfs

demo: $(STAMP)      ## a cluster on this machine: store, kill a datanode, read everything back
	$(BIN)/python -m dfs.demo

test: $(DEV_STAMP)  ## the whole test-suite
	$(BIN)/python -m pytest

check: $(DEV_STAMP) ## format, lint, types, unit and contract tests: under 30 s
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	DFS_TEST_WALKS=4000 $(BIN)/python -m pytest --quiet -n 2 --dist worksteal tests/unit tests/contract

faults: $(DEV_STAMP) ## the fault suite with long loops, and the thrasher: MINUTES=30 CUTS=200 KILLS=500 [SEED=N]
	DFS_TEST_LONG=1 DFS_TEST_CUTS=$(CUTS) DFS_TEST_KILLS=$(KILLS) $(BIN)/python -m pytest tests/fault
	PYTHONPATH=tests $(BIN)/python -m fault.thrasher --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --write docs/reliability.md

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP)  ## the generated pages: protocol, settings, commands, dfs.example.toml
	$(BIN)/python -m dfs.cli.generate

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
