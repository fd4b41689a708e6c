# Everything a person types here. `make` alone lists it.
# The environment is .venv, laid by uv from uv.lock; scripts/bootstrap.py brings uv where it is missing.

PYTHON ?= python3
ARGS ?=
UV := $(PYTHON) scripts/bootstrap.py
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --strict-skips
SOURCES := src tests scripts bench conftest.py

.DEFAULT_GOAL := help
.PHONY: help serve install packages test check lint fmt bench soak fuzz

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: .venv/.installed ## Install what the server needs and run it on localhost:5000 (ARGS="--port 5001")
	@$(BIN)/entrepot serve $(ARGS)

install: .venv/.installed-dev ## Install everything for working on the project into .venv

test: .venv/.installed-dev packages ## Run every test but soak, fuzz and bench; installs Debian packages as root
	$(PYTEST) -m "not soak and not fuzz and not bench" --durations=25 $(ARGS)

check: lint ## Run lint and the quick tests (under 5 minutes, no Debian packages)
	$(PYTEST) -m "not slow and not soak and not fuzz and not bench" --durations=10 $(ARGS)

lint: .venv/.installed-dev ## Check style, types, imports, file lengths and change notes
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_project.py

fmt: .venv/.installed-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format $(wildcard $(SOURCES))
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))

bench: .venv/.installed-dev packages ## Measure side by side with distribution and nginx; results in bench/results/
	$(BIN)/python -m bench $(ARGS)

soak: .venv/.installed-dev packages ## Run the long tests: every kill point, hours of load, huge artifacts
	$(PYTEST) -m soak --timeout=0 --durations=0 $(ARGS)

fuzz: .venv/.installed-dev packages ## Run the generated tests for as long as they find something to try
	$(PYTEST) -m fuzz --timeout=0 --durations=0 $(ARGS)

packages:
	@$(PYTHON) scripts/system_packages.py

# --inexact: what `make install` added stays.
.venv/.installed: uv.lock pyproject.toml
	$(UV) sync --frozen --compile-bytecode --inexact --no-default-groups --extra server
	@touch $@

.venv/.installed-dev: uv.lock pyproject.toml
	$(UV) sync --frozen --compile-bytecode --all-extras
	@touch .venv/.installed $@
