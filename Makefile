# `make` lists what there is.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Stages call `python`; it must be the environment's own, whatever shell made us.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export TF_CPP_MIN_LOG_LEVEL := 3
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: help run baseline bench test test-slow lint lock clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: $(VENV)/ready  ## the whole pipeline on the embedded screen, and a summary
	dvc repro register
	moascope summary

baseline: $(VENV)/ready  ## every system of the slides beside the main model, about ten minutes more
	dvc repro

bench: $(VENV)/ready ## every speed beside its reference into benchmarks/README.md, some 20 minutes
	python benchmarks/bench.py

test: $(VENV)/ready ## the tests, on two cores under ten minutes
	python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready ## the tests that take minutes each: acceptance over three seeds
	python -m pytest -m slow

lint: $(VENV)/ready ## style and common mistakes
	ruff check src tests benchmarks

lock: $(VENV)/ready ## resolve the dependencies anew into requirements.lock (names, versions, hashes)
	uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --universal \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock

clean:           ## remove what the pipeline made (not the environment)
	rm -rf data/acquire data/validate data/prepare data/embed data/split data/tune data/train \
	  data/baseline/*/ mlruns/*/ mlflow.db

# uv installs a locked environment in seconds; it comes from pip like everything else.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@
