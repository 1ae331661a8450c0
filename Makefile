# Every command here creates .venv and installs the pinned dependencies first, if needed.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo dev test check chaos bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## Create .venv with the pinned dependencies

demo: $(INSTALLED) ## Watch jobs at four providers survive lost, doubled, early and forged callbacks
	@$(BIN)/orchestrator demo

dev: $(INSTALLED) ## Run web, worker, beat and the sandbox until Ctrl-C
	@$(BIN)/orchestrator dev

test: $(INSTALLED) ## Run the whole test suite
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(INSTALLED) ## Lint, format check, types, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

chaos: $(INSTALLED) ## Kill processes under load for a minute; ARGS='--jobs 5000 --minutes 10' for longer
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(INSTALLED) ## Measure receiver, submit step, archive and notification; ratios, from one run
	@$(BIN)/python -m benchmarks

clean: ## Remove the virtual environment and local data
	rm -rf $(VENV) data

# Debian ships Python without ensurepip; root can add it, anybody else is told how.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ [ "`id -u`" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
		{ echo "Python's venv module is missing. Run: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
