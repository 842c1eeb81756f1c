# One command checks all: make check. One option scales the tests: SCALE=1 (make test) to SCALE=10 (make test-full).
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes, a file of tests at a time, in the order of the folders: the long ones first.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
MINUTES ?= 10
export PYTHONDONTWRITEBYTECODE :=
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv check lint types test test-full fuzz demo demo-reset ui bench docs clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

venv: $(VENV)/.ready ## Create .venv and install everything that the other targets need

$(VENV)/.ready: pyproject.toml constraints.txt docker/k8s/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@# The wheel `milvus` is a real Milvus 2.3.5 server for the tests; its dependencies are of another age.
	$(BIN)/pip install --quiet --no-deps -c constraints.txt milvus
	@# dagster-k8s wants an older kubernetes than chromadb brings: beside the environment, for one process of the tests.
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/k8s -r docker/k8s/requirements.txt
	@touch $@

check: lint types ## Lint and types

lint: venv ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy, strict on the package
	$(BIN)/mypy

test: venv ## The tests (at most 12 minutes on two cores)
	$(BIN)/python -m pytest $(WORKERS) --scale=1

test-full: venv ## The tests with more examples, more kills (at most 90 minutes)
	$(BIN)/python -m pytest $(WORKERS) --scale=10

fuzz: venv ## Generated records and filters with fresh seeds: MINUTES=10 (0: no end), FUZZ='-k milvus' for some
	$(BIN)/python -m rag_migration_pipeline_tests.fidelity.fuzz --minutes $(MINUTES) $(FUZZ)

demo: venv ## A real collection travels Chroma -> Qdrant -> Milvus -> Chroma and is compared
	@$(BIN)/python -m rag_migration_pipeline.demo

demo-reset: venv ## Forget the demo and run it from the start
	@$(BIN)/python -m rag_migration_pipeline.demo --reset

ui: venv ## The Dagster UI over the demo's instance, http://localhost:3000
	@$(BIN)/python -m rag_migration_pipeline.demo.ui

bench: venv ## The benchmark; options in BENCH, e.g. make bench BENCH='--sizes 20000,80000'
	$(BIN)/python -m benchmarks $(BENCH)

docs: venv ## Write the generated parts of the docs
	$(BIN)/python -m rag_migration_pipeline_tests.contract.gaps --write docs/stores.md
	$(BIN)/python -m rag_migration_pipeline_tests.verdict_table --write docs/fidelity.md
	$(BIN)/python -m rag_migration_pipeline_tests.cli.pages --write docs/cli.md

clean: ## Remove the environment and the demo
	rm -rf $(VENV) .demo .rag_migrate
