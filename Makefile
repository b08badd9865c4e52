# `make` lists what there is.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Stages call `python`; it must be the environment's own, whatever shell made us.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export TF_CPP_MIN_LOG_LEVEL := 3
export TF_ENABLE_ONEDNN_OPTS ?= 1
# Compiled modules are kept: without them every stage compiles its libraries anew, which takes longer
# than all else that it does to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run baseline bench test test-slow mutate lint docs example architecture licences wheel lock clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: $(VENV)/ready  ## the pipeline on the embedded screen, the gate to staging, and a summary
	dvc repro register report
	moascope promote --exit-zero
	moascope summary

baseline: $(VENV)/ready  ## also train the systems of the slides, about ten minutes more
	dvc repro

bench: $(VENV)/ready ## measure every speed next to its reference into benchmarks/README.md, half an hour
	python benchmarks/bench.py

test: $(VENV)/ready ## the tests, ten to fifteen minutes on two cores
	python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready ## the tests that take minutes each: acceptance over three seeds
	python -m pytest -m slow

mutate: $(VENV)/ready ## do the tests notice a changed line? 150 of them, ten to thirty minutes
	python tests/mutating.py --mutants 150 --jobs 2

lint: $(VENV)/ready ## style, common mistakes and types
	ruff check src tests benchmarks docs
	pyright

# pdoc sees what has been imported, and names of the API are imported when they are used.
docs: $(VENV)/ready ## the Python API as pages in docs/api/ (not in git)
	python -c "from moascope import *; from pdoc.__main__ import cli; cli()" \
	  --docformat numpy --output-directory docs/api moascope

example: $(VENV)/ready ## run docs/example.py on this project's screen and write docs/example.md, two minutes
	python docs/make_example.py

architecture: $(VENV)/ready ## the picture of the rooms and their imports, from the code
	python docs/draw_architecture.py docs/architecture.svg

# A package whose metadata holds the whole text of its licence keeps the first line alone.
licences: $(VENV)/ready ## the licence of every locked dependency into docs/licences.md
	pip-licenses --python $(BIN)/python --ignore-packages moascope uv --order name --with-system \
	  --format markdown | grep -v '^|  *|' > docs/licences.md

wheel: $(VENV)/ready ## dist/moascope-*.whl
	python -m build --wheel --no-isolation

lock: $(VENV)/ready ## resolve the dependencies anew into both locks (names, versions, hashes)
	uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --universal \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock
	uv pip compile --group pyproject.toml:serve --python-version 3.11 --universal \
	  --constraint requirements.lock --generate-hashes --no-emit-index-url --no-header \
	  --output-file requirements-serve.lock

clean:           ## remove what the pipeline made (not the environment)
	rm -rf data/code data/acquire data/validate data/prepare data/embed data/split data/tune data/train \
	  data/.readings data/baseline/*/ mlruns/*/ mlflow.db

# uv installs a locked environment in seconds; it comes from pip like everything else.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "from pathlib import Path; from moascope.project.make import write_plots_page; \
	  write_plots_page(Path())"
	touch $@
