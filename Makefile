# Each command creates .venv and installs what it needs, once.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Stamps. RUNTIME: what demo and dev need is installed. SITE: what the documentation site needs. DEVELOPMENT: what tests and checks
# need, and all of that.
RUNTIME := $(VENV)/.runtime
SITE := $(VENV)/.site
DEVELOPMENT := $(VENV)/.development

.DEFAULT_GOAL := help
.PHONY: help install demo dev docs docs-serve test test-fast check fix chaos bench lock sbom screenshots clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(RUNTIME) ## Create .venv with what demo and dev need

demo: $(RUNTIME) ## Watch jobs at four providers survive lost, repeated, early and forged callbacks
	@$(BIN)/orchestrator demo $(ARGS)

dev: $(RUNTIME) ## Run everything until Ctrl-C; PORT=8090 and SANDBOX_PORT=8790 choose other ports
	@$(BIN)/orchestrator dev $(if $(PORT),--port $(PORT)) $(if $(SANDBOX_PORT),--sandbox-port $(SANDBOX_PORT)) $(ARGS)

# A warning is an error: mkdocs.yml. MkDocs Material would print news about itself.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(SITE) ## Build the documentation site into build/site
	@$(BIN)/python -m mkdocs build $(ARGS)

docs-serve: export NO_MKDOCS_2_WARNING := 1
docs-serve: $(SITE) ## Show the documentation site until Ctrl-C, at port 8100 or PORT; a change of a page is shown at once
	@$(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:$(or $(PORT),8100) $(ARGS)

# Many tests wait for processes. So four workers use the two cores of a small machine better.
test: $(DEVELOPMENT) ## Run the whole test suite; ARGS='tests/ledger -k claim' runs some tests
	@$(BIN)/python -m pytest --numprocesses 4 $(ARGS)

test-fast: $(DEVELOPMENT) ## Run the quick tests that start no server
	@$(BIN)/python -m pytest --numprocesses 2 -m 'not server and not slow' $(ARGS)

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

bench: $(DEVELOPMENT) ## Measure the product and the limit of each figure; ARGS=completions measures some
	@$(BIN)/python -m benchmarks $(ARGS)

lock: $(DEVELOPMENT) ## Write requirements.lock: what the image installs, with the hash of every file
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group build --extra mcp --extra otel --extra postgres \
	    --constraint constraints.txt --generate-hashes --no-annotate --no-header --output-file requirements.lock pyproject.toml

# The tool runs in an environment of its own: it is not needed for anything else.
sbom: $(DEVELOPMENT) ## Write dist/sbom.cdx.json: what the image installs, as a CycloneDX SBOM
	@mkdir -p dist
	@$(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --pyproject pyproject.toml \
	    --output-reproducible --output-file dist/sbom.cdx.json requirements.lock

screenshots: $(DEVELOPMENT) ## Write pictures of the dashboard's pages to build/screenshots and docs/screenshots; ARGS=overview takes some
	@$(BIN)/python -m tests.dashboard.screenshots $(ARGS)

clean: ## Remove the virtual environment, local data and the site
	rm -rf $(VENV) data build/site

# The stamps tell that an installation is complete. A change of the dependencies repeats it.
$(RUNTIME): pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' VENV='$(VENV)' tools/install.sh local $(RUNTIME)

$(SITE): pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' VENV='$(VENV)' tools/install.sh docs $(SITE)

$(DEVELOPMENT): pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' VENV='$(VENV)' tools/install.sh dev $(RUNTIME) $(SITE) $(DEVELOPMENT)
