# Everything works on a fresh machine with Python 3.11 to 3.13, make and the package registries.
# TRACEFLOW_PYTHON=/path/to/python names the interpreter of .venv.

PYTHON := .venv/bin/python

.PHONY: help install demo test lint format types bench chaos oracle servers

help:
	@echo "make install   .venv as locked, Kafka's jars; then .venv/bin/traceflow works"
	@echo "make demo      start everything, replay real browser sessions, show what was found, end"
	@echo "make test      all tests, on a real broker and a real server"
	@echo "make lint      ruff, format included        make format   repair what can be repaired"
	@echo "make types     mypy --strict"
	@echo "make bench     the benchmarks               make chaos    break everything under load, hold every row"
	@echo "make oracle    replay thousands of visits, cut, late, twice and after crashes, beside a plain fold"
	@echo "make servers   the database's tests on PostgreSQL 15, 16, 17 and 18"

install: .venv/installed

.venv/installed: pyproject.toml uv.lock deploy/install.sh
	@sh deploy/install.sh

demo: install
	@.venv/bin/traceflow demo

test: install
	$(PYTHON) -m pytest -n 3 --dist loadfile

lint: install
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

format: install
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

types: install
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy tests

bench: install
	$(PYTHON) -m deploy.bench

# SEED=7 repeats the faults of a run, MINUTES=60 takes an hour, PLANT=lost-seek plants a fault that has to be found
chaos: install
	$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PLANT),--plant $(PLANT))

# ten minutes on one core
oracle: install
	TRACEFLOW_ORACLE_EXAMPLES=$${TRACEFLOW_ORACLE_EXAMPLES:-2500} $(PYTHON) -m pytest -o timeout=0 tests/unit/test_replay_oracle.py

# a minute or two a version on an idle machine; VERSIONS="17 18" runs some of them
servers: install
	$(PYTHON) -m tests.servers $(VERSIONS)
