# `make demo` and `make test` do all the set-up on a fresh machine: they need Python 3.11+, make, and apt for Chromium.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
DEMO_ARGS ?=
# All extras but `agent`, which has an environment of its own, and `ray`; see below.
EXTRAS := chart,cluster,crawlee,local,playwright,pytest,recording,robot,scrapy

.PHONY: help setup demo test test-slow test-fast test-lowest check docs screenshots format bench clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

BASE := $(VENV)/.installed .cache/chromium.found

setup: $(BASE) agent-environment  ## a virtual environment with everything, Chromium, browser-use

# pip knows `--group` since 25.1.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' --group dev
	touch $@

.cache/chromium.found: $(VENV)/.installed
	sh .ci/install-browsers $(BIN)/python
	mkdir -p .cache && touch $@

.PHONY: agent-environment
agent-environment:
	sh .ci/install-agent-environment $(PYTHON)

demo: $(BASE)  ## rent a browser, drive it over CDP and Playwright, stop it, see the refund; DEMO_ARGS=--watch keeps it
	$(BIN)/cdpbridge demo $(DEMO_ARGS)

test: setup  ## every test except those marked slow or cloud
	$(BIN)/python -m pytest -m "not slow and not cloud" -n auto --dist loadfile --durations=30 $(PYTEST_ARGS)

# 240 MB, for some of the slow tests alone; these need `apt-get install redis-server`, too.
$(VENV)/.ray: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	touch $@

test-slow: setup $(VENV)/.ray  ## the tests marked slow: long proofs, and second forms of proofs
	$(BIN)/python -m pytest -m "slow and not cloud" -n auto --dist loadfile --durations=30 $(PYTEST_ARGS)

test-fast: $(VENV)/.installed  ## the tests that start no browser and no server, in under a minute; needs no apt
	$(BIN)/python -m pytest -m "not chromium and not programs and not slow and not cloud" -n auto --dist worksteal $(PYTEST_ARGS)

test-lowest:  ## the same on the lowest version of every dependency
	sh .ci/test-lowest $(PYTHON) $(PYTEST_ARGS)

check: $(VENV)/.installed  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# Built strict, and without a script, style or picture of another host: the site works without a network.
docs: $(VENV)/.installed  ## the documentation as a site: .cache/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	! grep -rnE '(src=|url\(|<link[^>]* rel="?stylesheet"?[^>]* href=)"?https?:' --include=*.html --include=*.css .cache/site

screenshots: $(BASE)  ## the pictures of the documentation, from the running product
	$(BIN)/python -m cdpbridge._tools.screenshots

format: $(VENV)/.installed  ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## the benchmarks, each with its own table; peers are installed into .cache
	status=0; for file in benchmarks/[!_]*.py; do $(BIN)/python $$file || status=1; done; exit $$status

clean:  ## remove everything that make made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results demo-output
