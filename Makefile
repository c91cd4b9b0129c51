# 'make demo' and 'make test' start from a clean checkout: each creates .venv and installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SINGLE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test test-slow test-pythons figures lint install clean

demo: $(STAMP)
	$(SINGLE_THREAD) $(BIN)/nnunet_ext demo

test: lint
	$(SINGLE_THREAD) $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(STAMP)
	$(SINGLE_THREAD) $(BIN)/python -m pytest -n 2 -m slow

# The tests on other Pythons, each in an environment of its own with the newest packages that pip finds for it.
PYTHONS ?= python3.10 python3.12 python3.13
test-pythons:
	@set -e; for python in $(PYTHONS); do \
	  echo "== $$python"; \
	  $$python -m venv .venv-$$python; \
	  .venv-$$python/bin/python -m pip install --quiet --upgrade pip; \
	  .venv-$$python/bin/python -m pip install --quiet --editable ".[test]"; \
	  $(SINGLE_THREAD) .venv-$$python/bin/python -m pytest -n 2 -m "not slow"; \
	done

# Figures and fingerprints of the networks, after a family was added: FAMILY=cfnet for one alone.
figures: $(STAMP)
	$(SINGLE_THREAD) $(BIN)/python tests/contracts/write_figures.py $(FAMILY)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info nnunet_ext_demo .pytest_cache .mypy_cache .ruff_cache
