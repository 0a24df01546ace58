# Everything a checkout can do. Needs Python 3.11 or later, make, and the Internet for the first time; nothing else.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV_OLDEST := 0.8.0
# A uv on the PATH is used unless it is too old to read the lock file; otherwise one is put into .tools.
UV := $(shell have=$$(uv --version 2>/dev/null | cut -d ' ' -f 2); \
  [ -n "$$have" ] && [ "$$(printf '%s\n' $(UV_OLDEST) "$$have" | sort -V | head -n 1)" = $(UV_OLDEST) ] \
  && command -v uv || echo .tools/uv/bin/uv)
SYNC = sync --frozen --all-extras --compile-bytecode --python $(PYTHON)
BIN := .venv/bin
SYNCED := .venv/.synced

.DEFAULT_GOAL := help
.PHONY: help demo test check up bench bench-compare bench-all schemas format clean
.DELETE_ON_ERROR:

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(SYNCED) ## Start everything, send mail through it, and account for every mail
	$(BIN)/sluice demo $(ARGS)

test: $(SYNCED) ## Run all tests, over real parts
	$(BIN)/pytest $(ARGS)

check: $(SYNCED) ## Lint, format, types, layers, and whether the schemas are up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m sluice.runtime.schemas schemas --check

up: $(SYNCED) ## Run Kafka, ClickHouse, a mailbox and all services until ctrl-c
	$(BIN)/sluice up $(ARGS)

bench: $(SYNCED) ## Measure mails per second from publish to 250
	$(BIN)/sluice bench $(ARGS)

bench-compare: $(SYNCED) ## Measure Sluice, Postfix with OpenDKIM, and Haraka in one run
	$(BIN)/python benchmarks/compare.py $(ARGS)

bench-all: bench-compare ## The same, then processes, urgent mail and memory: half an hour
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/priority_latency.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/report.py --into docs/performance.md

schemas: $(SYNCED) ## Write schemas/ anew from the types
	$(BIN)/python -m sluice.runtime.schemas schemas

format: $(SYNCED) ## Format the code, and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was made here, except the data in .sluice
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find services tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(SYNCED): pyproject.toml uv.lock | $(UV)
	# Where a proxy signs with an authority of its own, only the system's certificates know it.
	$(UV) $(SYNC) || UV_SYSTEM_CERTS=1 $(UV) $(SYNC)
	@touch $@

.tools/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Sluice needs Python 3.11 or later, and this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
