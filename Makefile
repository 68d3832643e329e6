# Every target works on a fresh machine that has only Python >= 3.11; all it makes is .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench
COMPAT_STAMP := $(VENV)/.installed-compat
# Of `make faults`: minutes of the thrasher, its seed (empty: any), power cuts, and kills.
MINUTES ?= 2
SEED ?=
CUTS ?= 20
KILLS ?= 20
# Of `make bench`: workloads (comma-separated, empty: all), rounds (empty: 3, or 1 if QUICK), anything in QUICK: less work.
WORKLOADS ?=
ROUNDS ?=
QUICK ?=
# Of `make compat`: mebibytes that go in by each door and come out by every other one; `make test` takes 40.
DATA_MIB ?= 300
comma := ,
JAVA := $(shell command -v java 2>/dev/null)
# The source distribution of the `hdfs` package, which contains its integration tests.
HDFS := $(VENV)/hdfs

.PHONY: install demo test check faults compat bench format docs site clean
.DEFAULT_GOAL := install

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $(STAMP)

$(DEV_STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP) $(DEV_STAMP)

$(BENCH_STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $(STAMP) $(BENCH_STAMP)

$(COMPAT_STAMP): $(DEV_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,compat$(if $(JAVA),$(comma)hadoop)]'
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest $(HDFS) hdfs==2.7.3
	@touch $(COMPAT_STAMP)

install: $(STAMP)   ## .venv with the command .venv/bin/dfs

demo: $(STAMP)      ## a cluster on this machine: store, kill a datanode, read everything back
	$(BIN)/python -m dfs.demo

# Two workers, as the smallest machine that runs it has two cores; tests of one file may share a cluster. What breaks things
# runs alone, since it also says how long that may be felt.
test: $(DEV_STAMP)  ## the whole test-suite, in a quarter of an hour: what computes, what starts servers, what breaks them
	$(BIN)/python -m pytest --quiet -n 2 --dist worksteal tests/unit tests/contract
	$(BIN)/python -m pytest --quiet -n 2 --dist loadfile --durations=10 tests/integration tests/compat
	$(BIN)/python -m pytest --durations=10 tests/fault

check: $(DEV_STAMP) ## format, lint, types, unit and contract tests: under 30 s
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	DFS_TEST_WALKS=4000 $(BIN)/python -m pytest --quiet -n 2 --dist worksteal tests/unit tests/contract

faults: $(DEV_STAMP) ## the fault suite, its long loops, the thrasher, and their figures: MINUTES=30 CUTS=200 KILLS=500 [SEED=N]
	PYTHONPATH=tests $(BIN)/python -m fault.stages --minutes $(MINUTES) --cuts $(CUTS) --kills $(KILLS) $(if $(SEED),--seed $(SEED)) --write docs/reliability.md

compat: $(COMPAT_STAMP) ## other people's programs on a real cluster: pandas, Arrow, dask, zarr, DuckDB, polars, Hadoop's shell, Spark, …
	DFS_TEST_DATA_MIB=$(DATA_MIB) DFS_HDFS_SDIST=$(abspath $(HDFS)/hdfs-2.7.3.tar.gz) $(BIN)/python -m pytest tests/compat

bench: $(BENCH_STAMP) ## speed and cost beside their limits: WORKLOADS=big,small ROUNDS=5 QUICK=1
	$(BIN)/python -m bench $(subst $(comma), ,$(WORKLOADS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP)  ## the generated pages: protocol, settings, commands, dfs.example.toml
	$(BIN)/python -m dfs.cli.generate

site: $(DEV_STAMP)  ## the documentation as a site, build/site/index.html; a broken link is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees docs build/site

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
