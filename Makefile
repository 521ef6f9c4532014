# wsistore: everything a clone needs is Python 3.11+ and make.
#
#   make demo               convert a slide, check the store, leave pictures under demo/
#   make demo SLIDE=x.svs   the same with a slide of yours
#   make test               install the test extra and run the tests
#   make check              lint, types, import contract, tests
#
# PYTHON=python3.13 picks another interpreter, VENV=... another environment.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# Processes that run tests side by side: one a core, 8 at most.
JOBS ?= auto
# The extra that the tests need; test-core leaves torch out.
EXTRA ?= test
DEMO_DIR ?= demo
# The slide of the demo: the one named, a real one beside the checkout, else a synthetic one.
SLIDE ?= $(firstword $(wildcard ../shared/data/CMU-1-Small-Region.svs) $(DEMO_DIR)/synthetic.svs)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# Stamps: an environment is made anew for another Python, and filled anew when these change.
BUILD := pyproject.toml setup.py $(wildcard src/jpegcore/*)
MADE := $(VENV)/.made-with-python-$(PYTHON_VERSION)
BASE := $(VENV)/.installed
TEST := $(VENV)/.installed-$(EXTRA)
LINT := $(VENV)/.installed-lint

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contract check clean
.NOTPARALLEL:

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "wsistore needs Python 3.11 or newer; $(PYTHON) is '$(PYTHON_VERSION)'. Name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "== environment: $(VENV), Python $(PYTHON_VERSION)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(BASE): $(BUILD) | $(MADE)
	@echo "== installing wsistore"
	@$(PIP) install --editable .
	@touch $@

$(TEST): $(BUILD) | $(MADE)
	@echo "== installing wsistore[$(EXTRA)]"
	@$(PIP) install --editable '.[$(EXTRA)]'
	@touch $@ $(BASE)

$(LINT): $(BUILD) | $(MADE)
	@echo "== installing wsistore[lint]"
	@$(PIP) install --editable '.[lint]'
	@touch $@ $(BASE)

demo: $(BASE)
	@PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh "$(SLIDE)" "$(DEMO_DIR)"

test: $(TEST)
	@$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 $(PYTEST_ARGS)

lint: $(LINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(LINT)
	$(BIN)/mypy

contract: $(LINT)
	$(BIN)/lint-imports

check: lint types contract test

clean:
	rm -rf $(VENV) .venv-* $(DEMO_DIR) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
