# What people and CI type. `make` alone lists it. ARGS is handed on: make run ARGS="--select exemption"
.DEFAULT_GOAL := help
.PHONY: help install run ui ui-readonly test check audit docs bench kill kill-workers lock clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
CHECKS_FAILED := 3
# A system keeps what it makes in a directory that is called as it is.
STATES := $(patsubst mappings/%/tables.yaml,.%,$(wildcard mappings/*/tables.yaml))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make the environment, .venv

run: $(INSTALLED) ## Materialise a whole graph, that of DTX or SYSTEM=pad, SYSTEM=crm, on its sample unless DTX_LEGACY_URL names data
	@$(BIN)/dtx run $(SYSTEM) $(ARGS) || { code=$$?; \
	if [ $$code -eq $(CHECKS_FAILED) ]; then echo "Everything ran; the failed checks above are findings in the data."; \
	else exit $$code; fi; }

ui: $(INSTALLED) ## Serve the Dagster UI on 127.0.0.1
	@$(BIN)/dtx ui $(ARGS)

ui-readonly: $(INSTALLED) ## Serve the UI for those who only look
	@$(BIN)/dtx ui --read-only $(ARGS)

test: $(INSTALLED_DEV) ## Run the tests, a file of them on each core; ARGS="-n 0 path" runs those of a path in one process
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

check: $(INSTALLED_DEV) audit ## Lint, formatting, types, which package may import which, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(INSTALLED_DEV) ## Look up the packages among the known vulnerabilities, where the service can be reached
	$(BIN)/python -m dtx_assets_tests.audit

docs: $(INSTALLED) ## Write docs/reference and the JSON Schemas of mappings/ anew, from the code
	$(BIN)/python -m dtx_assets.cli.reference

bench: $(INSTALLED_DEV) ## Measure flows and documents beside a plain COPY, a table beside pgloader, a public schema, files beside rclone, workers, the page, verify, explain, phases, embeddings
	$(BIN)/python benchmarks/php_values.py
	$(BIN)/python benchmarks/notification_flow.py $(ARGS)
	$(BIN)/python -m benchmarks.shards
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.any_table
	$(BIN)/python -m benchmarks.public_schema
	$(BIN)/python -m benchmarks.file_transfer
	$(BIN)/python benchmarks/cutover_page.py
	$(BIN)/python -m benchmarks.verify_and_explain
	$(BIN)/python -m benchmarks.pad_requests
	$(BIN)/python -m benchmarks.straight_slopes --second
	$(BIN)/python -m benchmarks.load_connections
	$(BIN)/python -m benchmarks.crm_accounts
	$(BIN)/python -m benchmarks.dispatch_phases
	$(BIN)/python -m benchmarks.embeddings

kill: $(INSTALLED_DEV) ## Kill N (200) loads at random moments, PostgreSQL with some; run again, compare with an undisturbed one
	$(BIN)/python -m dtx_assets_tests.kill --times $(or $(N),200) $(ARGS)

kill-workers: $(INSTALLED_DEV) ## Kill workers, their children, runs by them, or their broker N (100) times; run again, compare
	$(BIN)/python -m dtx_assets_tests.kill_workers --times $(or $(N),100) $(ARGS)

lock: $(INSTALLED_DEV) ## Write the versions that are installed now to requirements.lock
	$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable > requirements.lock

clean: ## Delete the environment, caches, and the state of every system (.dtx, .pad, ...) with its embedded database
	@for state in $(STATES); do \
	if [ -d "$$state/postgres" ]; then $(BIN)/python -c "from pathlib import Path;\
	from dtx_assets.machinery.postgres.embedded import remove_embedded_postgres as r; r(Path('$$state'))" || exit 2; fi; \
	rm -rf "$$state"; done
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml requirements.lock
	@$(BIN)/python -c "" 2>/dev/null || { \
	for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then \
	    echo "Making .venv with $$($$python --version)"; rm -rf .venv; exec $$python -m venv .venv; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with its venv module found (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Installing into .venv"
	@$(PIP) install -c requirements.lock -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing what development needs into .venv"
	@$(PIP) install -c requirements.lock -e ".[dev]"
	@touch $@
