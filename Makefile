# Umbel's commands; `make help` lists them. Everything is installed into .venv, nothing elsewhere but apt's servers.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED_FROM := pyproject.toml constraints.txt

# The interpreter that .venv is made with: make PYTHON=/path/to/python3.12 demo
PYTHON ?=

# More arguments for pytest or the benchmarks: make test ARGS='-k redis'
ARGS ?=

.PHONY: help demo test chaos check bench soak services clean distclean

help: ## List these commands
	@echo "Umbel: make COMMAND"; echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed ## Run real tasks on a worker of its own, without any server
	@echo "demo: running $(BIN)/umbel demo"
	@$(BIN)/umbel demo

test: $(VENV)/.installed-dev ## Install and start the servers that tests need, run all tests, stop the servers
	@PATH="$(abspath $(BIN)):$$PATH" scripts/test $(ARGS)

chaos: $(VENV)/.installed-dev ## Run the tests with killed workers and cut connections in their long form
	@PATH="$(abspath $(BIN)):$$PATH" UMBEL_TEST_FULL=1 scripts/test tests/chaos $(ARGS)

check: $(VENV)/.installed-dev ## Style, types, documentation and import rules
	@echo "check: ruff check"
	@$(BIN)/ruff check --quiet . scripts/services
	@echo "check: ruff format --check"
	@$(BIN)/ruff format --quiet --check . scripts/services || { $(BIN)/ruff format --check . scripts/services; exit 1; }
	@echo "check: pyright"
	@$(BIN)/pyright
	@if [ -f mkdocs.yml ]; then echo "check: mkdocs build --strict"; $(BIN)/mkdocs build --quiet --strict; fi
	@echo "check: import rules"
	@$(BIN)/pytest --quiet tests/unit/test_import_rules.py
	@echo "check: everything passed"

bench: $(VENV)/.installed-dev ## Measure Umbel side by side with its peers
	@echo "bench: running python -m benchmarks"
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.installed-dev ## Run 500,000 tasks through a worker, and see that it does not grow
	@echo "soak: running python -m benchmarks.soak"
	@$(BIN)/python -m benchmarks.soak $(ARGS)

services: $(VENV)/.installed-dev ## Install and start the test servers, and leave them running (scripts/services stop)
	@$(BIN)/python scripts/services install
	@$(BIN)/python scripts/services start
	@$(BIN)/python scripts/services env

clean: ## Stop the test servers and delete what was built, but .venv
	@if [ -d .services ]; then scripts/services stop --force; rm -rf .services; fi
	@rm -rf .pytest_cache .ruff_cache .hypothesis .umbel build dist site
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
	@echo "clean: done"

distclean: clean ## Delete .venv as well
	@rm -rf $(VENV)

$(VENV)/bin/python:
	@scripts/make-venv $(VENV) $(PYTHON)

$(VENV)/.installed: $(INSTALLED_FROM) | $(VENV)/bin/python
	@echo "install: Umbel with all its drivers into $(VENV)"
	@$(PIP_INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(INSTALLED_FROM) | $(VENV)/bin/python
	@echo "install: Umbel with all its drivers and the tools of its tests into $(VENV)"
	@$(PIP_INSTALL) -e '.[all,test,quality,docs]'
	@touch $@ $(VENV)/.installed
