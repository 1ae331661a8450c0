# Each command creates .venv and installs what it needs, once.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# What demo and dev need, and what tests and checks need besides.
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
PORT ?= 8080
SANDBOX_PORT ?= 8700

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-fast check fix chaos bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(RUNTIME) ## Create .venv with what the demo needs

demo: $(RUNTIME) ## Watch jobs at four providers survive lost, repeated, early and forged callbacks
	@$(BIN)/orchestrator demo $(ARGS)

dev: $(RUNTIME) ## Run everything until Ctrl-C; PORT=8090 and SANDBOX_PORT=8790 choose other ports
	@$(BIN)/orchestrator dev --port $(PORT) --sandbox-port $(SANDBOX_PORT) $(ARGS)

test: $(DEVELOPMENT) ## Run the whole test suite; ARGS='tests/ledger -k claim' runs some tests
	@$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

test-fast: $(DEVELOPMENT) ## Run the tests that start no server, in under 20 s
	@$(BIN)/python -m pytest --numprocesses 2 -m 'not server' $(ARGS)

check: $(DEVELOPMENT) ## Lint, check the format, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(DEVELOPMENT) ## Repair lint and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

chaos: $(DEVELOPMENT) ## Kill processes under load for a minute; ARGS='--jobs 5000 --minutes 10' for longer
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(DEVELOPMENT) ## Measure receiver, submit step, archive and notification against hand-written code
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the virtual environment and local data
	rm -rf $(VENV) data

# Debian ships Python without ensurepip. Root can install it; other users see the command.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ [ "`id -u`" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
		{ echo "Python's venv module is missing. Run: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(VENV)/bin/pip
	@./install.sh $(BIN)/pip '.[local]'
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt $(RUNTIME)
	@./install.sh $(BIN)/pip '.[dev]'
	@touch $@
