# `make demo` shows the whole defence, `make test` and `make lint` are what CI runs. Each sets up what it needs in .venv.

VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps

# The first interpreter on the PATH that is new enough; `make PYTHON=/path/to/python3` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON     ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$python; break; }; done)

# Two torch threads on two busy cores run several times slower than one, so parallelism comes from processes.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo bench test chaos chaos-nightly lint format docs hooks clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(STAMPS)/demo ## The whole defence on the bundled suspect model; results in demo-out/
	@exec $(BIN)/lustral demo --out demo-out

bench: $(STAMPS)/demo ## The defence on three known models, some minutes; results in bench-out/
	@exec $(BIN)/lustral bench defense --out bench-out/smoke.jsonl --work bench-out/work $(BENCH_ARGS)

test: $(STAMPS)/test ## Every test, against real servers that it starts and stops itself
	@exec $(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(STAMPS)/test ## Kill, freeze and starve every part of the service, some minutes
	@exec $(BIN)/python -m pytest -m chaos tests/chaos $(PYTEST_ARGS)

chaos-nightly: export LUSTRAL_CHAOS_SCHEDULES ?= 200
chaos-nightly: export LUSTRAL_CHAOS_OUTAGE_SECONDS ?= 30
chaos-nightly: chaos ## The same for a night: 200 random schedules, and a database that is away for up to 30 seconds

lint: $(STAMPS)/lint ## Format, lint, types, import rules, generated pages, Docker and Kubernetes files
	@exec $(BIN)/pre-commit run --all-files --show-diff-on-failure

format: $(STAMPS)/lint ## Mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

docs: $(STAMPS)/demo ## Write docs/openapi.json, docs/api.md and docs/errors.md from the code
	@$(BIN)/python -m app.reference

hooks: $(STAMPS)/lint ## Run the linters before every commit
	@$(BIN)/pre-commit install

clean: ## Remove the virtual environment, caches and results
	rm -rf $(VENV) demo-out bench-out bench-work build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Each set of extras is installed once, and again when the dependencies change.
EXTRAS_demo := demo
EXTRAS_test := demo,test
EXTRAS_lint := demo,test,lint

$(STAMPS)/%: pyproject.toml constraints.txt | $(STAMPS)
	@echo "Installing .[$(EXTRAS_$*)] into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --root-user-action ignore --constraint constraints.txt --editable '.[$(EXTRAS_$*)]'
	@touch $@

$(STAMPS):
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "Lustral needs Python 3.11 or newer, and python3 here is: $$(python3 --version 2>&1)." >&2; \
		echo "Install a newer one and run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@mkdir $@
