# `make` lists the targets. They need Python 3.11+ only, and install everything else into .venv from hashed locks.

VENV := .venv
BIN := $(VENV)/bin
# The first Python on the path that is new enough. `make PYTHON=/path/to/python` uses another Python.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# The locks are complete, so pip need not resolve dependencies: that saves 9 of 34 s.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r
RUNTIME := $(VENV)/.runtime-stamp
DEV := $(VENV)/.dev-stamp
# pytest keeps the test files that it has compiled. Without them, each worker spends 5 s of CPU more.
unexport PYTHONDONTWRITEBYTECODE
# The tests also wait: six workers keep two cores busy. With four, they take a fifth longer.
PYTEST := $(BIN)/pytest -n 6 --dist worksteal
# The tools that read the OpenAPI document need older versions of the gateway's libraries, so they have their own venv.
CHECK_VENV := .venv-check
CHECK := $(CHECK_VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-fast check openapi chaos bench-poller bench-claims bench-growth bench-waiters bench-scale bench-api bench-transcripts bench-dropins bench-uploads format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV) ## Make .venv with everything that development needs

demo: $(RUNTIME) ## Transcribe two sample recordings and print them; no key needed
	@$(BIN)/python -m app demo

serve: $(RUNTIME) ## Run the gateway on http://127.0.0.1:8000, with its database in ./data; SANDBOX=1: without a key
	@$(BIN)/python -m app serve $(if $(SANDBOX),--sandbox)

test: $(DEV) ## Run all tests against a real PostgreSQL
	$(PYTEST)

# These tests wait little. Each worker imports the gateway and collects all tests: 6 s of CPU.
test-fast: $(DEV) ## Run the tests that start no server and no process, and take little time
	$(BIN)/pytest -n 3 --dist worksteal -m "not slow" --hypothesis-profile=fast

check: $(DEV) $(CHECK) ## Run what CI runs: format, lint, types, import contracts, tests, generated clients
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(wildcard app tests migrations bench)
	$(BIN)/lint-imports
	$(PYTEST)
	$(BIN)/pytest -n 2 --dist worksteal tests/generated/check_*.py

openapi: $(DEV) ## Write docs/openapi.json after an intended change of the API
	$(BIN)/python -m tests.api.snapshot

chaos: $(DEV) ## Kill pollers at random for CHAOS_S seconds (default 300), and count transcriptions
	CHAOS_S=$${CHAOS_S:-300} $(BIN)/pytest tests/chaos

bench-poller: $(DEV) ## Measure the poller, the official SDK and the optimum; takes ten minutes
	@$(BIN)/python -m bench.poller

bench-scale: $(DEV) ## Measure what a file and an idle poller cost
	@$(BIN)/python -m bench.scale

bench-waiters: $(DEV) ## Measure how soon 2,000 long polls get their responses
	@$(BIN)/python -m bench.waiters

bench-transcripts: $(DEV) ## Measure a transcript of 150,000 words, and search
	@$(BIN)/python -m bench.transcripts
	@$(BIN)/python -m bench.search

bench-uploads: $(DEV) ## Measure uploads of 1 GB beside curl, and what OpenAI's protocol adds to a wait
	@$(BIN)/python -m bench.uploads

bench-api: $(DEV) ## Measure the API, pgbench, and an API as in tutorials
	@$(BIN)/python -m bench.api

bench-dropins: $(DEV) ## Measure what DashScope's own protocol adds to a wait
	@$(BIN)/python -m bench.dropins

bench-claims: $(DEV) ## Measure claims among 1,100,000 files, and print their plans
	@$(BIN)/python -m bench.claims

bench-growth: $(DEV) ## Measure lists, searches, claims and a migration with 100,000 files; FILES=1000000: with more
	@$(BIN)/python -m bench.growth $(FILES)

format: $(DEV) ## Format the code, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Compile the locks from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv on the path: python3 -m pip install uv" >&2; exit 1; }
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group dev -c requirements.lock \
		pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group pyproject.toml:check \
		-o requirements-check.lock

clean: ## Remove .venv and the caches of the tools; data stays
	rm -rf $(VENV) $(CHECK_VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find app tests migrations -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "asr-gateway needs Python 3.11 or newer; python3 here is" \
		"$$(python3 --version 2>/dev/null || echo missing)" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): requirements.lock | $(BIN)/python
	@echo "Installing $<"
	@$(INSTALL) $<
	@touch $@

# Development needs everything that the runtime needs.
$(DEV): requirements-dev.lock requirements.lock | $(BIN)/python
	@echo "Installing $<"
	@$(INSTALL) $<
	@touch $@ $(RUNTIME)

$(CHECK): requirements-check.lock | $(BIN)/python
	@echo "Installing $<"
	@$(BIN)/python -m venv --clear $(CHECK_VENV)
	@$(CHECK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@
