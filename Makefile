# Every target needs only make, Python 3.11 or newer, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := $(VENV)/.installed
ARGS ?=
# Two test processes for each core (tests/conftest.py), eight at most. Each has its own database,
# Redis database and pretend GitHub.
PARALLEL := -n logical --maxprocesses 8 --dist worksteal

# The tests start many processes; without bytecode files each would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo production-env screenshots test test-all mutate night contract bench lint audit rehearse format lock clean
.DELETE_ON_ERROR:

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# Python compiles what it loads; much of what is installed is never loaded.
$(REQUIREMENTS): requirements/base.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements/dev.txt
	@touch $@

install: $(REQUIREMENTS)  ## make the virtual environment in .venv

demo: $(REQUIREMENTS)  ## run the service with a pretend GitHub (ARGS=--exit stops it afterwards)
	DEBUG=1 $(BIN)/python manage.py demo $(ARGS)

$(VENV)/.production: requirements/base.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/base.txt
	@touch $@

production-env: $(VENV)/.production  ## write production.env with fresh secrets (ARGS=https://sync.example)
	$(BIN)/python -m project.production_env $(ARGS)

screenshots: $(REQUIREMENTS)  ## take the pictures of docs/screenshots from the demo's data
	DEBUG=1 DJANGO_SETTINGS_MODULE=project.settings $(BIN)/python -m tests.screenshots

test: $(REQUIREMENTS)  ## run all but the long tests: three minutes (ARGS=... goes to pytest)
	$(BIN)/python -m pytest $(PARALLEL) -m "not long" $(ARGS)

test-all: $(REQUIREMENTS)  ## run all tests, also those that wait or kill processes: twenty minutes
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

mutate: $(REQUIREMENTS)  ## break 60 lines of the core, one at a time; a test must fail for each
	$(BIN)/python -m tests.mutation $(ARGS)

night: $(REQUIREMENTS)  ## kill processes and break GitHub for a quarter of an hour, on PostgreSQL
	$(BIN)/python -m pytest tests/night.py -s $(ARGS)

contract: $(REQUIREMENTS)  ## compare our use of GitHub with its newest descriptions (needs npm)
	$(BIN)/python -m pytest tests/contract/newest.py -s $(ARGS)

bench: $(REQUIREMENTS)  ## measure the budgets (ARGS=... names some, or --document)
	$(BIN)/python -m tests.benchmarks $(ARGS)

lint: $(REQUIREMENTS)  ## check style, types, imports and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DEBUG=1 $(BIN)/python manage.py makemigrations --check --dry-run

audit: $(REQUIREMENTS)  ## look for weak spots in the code and in its dependencies (ARGS=--strict)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive metrics_sync project manage.py
	$(BIN)/python .ci/audit.py $(ARGS)

rehearse: $(REQUIREMENTS)  ## delete the database of a test installation and restore it
	$(BIN)/python docs/deploy/rehearse_restore.py

format: $(REQUIREMENTS)  ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(REQUIREMENTS)  ## compile requirements/*.txt from requirements/*.in
	cd requirements && for name in base dev; do \
		../$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 \
			--no-emit-index-url --custom-compile-command 'make lock' $$name.in -o $$name.txt; \
	done

clean:  ## remove what the other targets made
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
