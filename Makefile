# make setup | test | test-all | test-processors | demo | report | bench | lint | clean. PYTHON=... names the interpreter to set up with.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-processors demo report bench lint clean

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
PYTHON ?= python3 python3.13 python3.12 python3.11 python
WORKERS ?= 2

# Prints the interpreter itself, not the environment it may stand in, which may be the one about to be made anew.
SUITABLE := import ensurepip, sys, venv; \
    (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit(1); \
    print(getattr(sys, "_base_executable", sys.executable))
UNSUITABLE := trizoo needs Python 3.11, 3.12 or 3.13 with its venv module; tried: $(PYTHON). \
    Install one, or name it: make setup PYTHON=/path/to/python3

help:
	@echo 'make setup   install everything, pinned, into $(VENV)'
	@echo 'make test    setup, then the tests, less the slowest'
	@echo 'make test-all  setup, then all tests'
	@echo 'make test-processors  the numerical tests as other processors, one thread and a busy machine run them (hours)'
	@echo 'make demo    setup, then fit, active learning and a report in all three frameworks'
	@echo 'make report  setup, then the report of the committed records, in outputs/records'
	@echo 'make bench   setup, then time the small pieces (the frameworks: trizoo bench)'
	@echo 'make lint    setup, then style and types'
	@echo 'make clean   remove $(VENV) and what tools left; outputs/ stays'
	@echo
	@echo 'PYTHON=... names the interpreter (3.11 to 3.13) that $(VENV) is made with.'

# Two notes in .venv say what it was made from. Each is written last, so a setup cut short is begun again.
setup:
	@set -eu; \
	for one in $(PYTHON); do \
	    python=$$("$$one" -c '$(SUITABLE)' 2>/dev/null) && break || python=; \
	done; \
	if [ -z "$$python" ]; then echo '$(UNSUITABLE)' >&2; exit 1; fi; \
	locked="$$("$$python" -VV) $$(cat requirements.lock requirements-torch.lock | cksum) $(CURDIR)"; \
	installed="$$(cksum < pyproject.toml)"; \
	if [ "$$(cat $(VENV)/locked 2>/dev/null)" != "$$locked" ] || ! $(RUN) -c '' 2>/dev/null; then \
	    echo "Installing the packages of requirements*.lock into $(VENV) with $$python: a few minutes,"; \
	    echo '1.2 GB to download (more where PyTorch brings CUDA), 4.5 GB on disk.'; \
	    "$$python" -m venv --clear $(VENV); \
	    $(PIP) --require-hashes -r requirements.lock; \
	    $(PIP) -r requirements-torch.lock; \
	    echo "$$locked" > $(VENV)/locked; \
	fi; \
	if [ "$$(cat $(VENV)/installed 2>/dev/null)" != "$$installed" ]; then \
	    $(PIP) --no-deps --no-build-isolation --editable .; \
	    echo "$$installed" > $(VENV)/installed; \
	fi

test: setup
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal

test-all: setup
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m ""

test-processors: setup
	@$(RUN) -m tests.processors $(PROCESSORS) -- -n $(WORKERS) --dist worksteal

demo: setup
	@$(VENV)/bin/trizoo demo

report: setup
	@$(RUN) -m reports.report reports/records outputs/records

bench: setup
	@mkdir -p outputs/pieces
	@$(RUN) -m pytest benchmarks --benchmark-only --benchmark-json=outputs/pieces/pieces.json

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
