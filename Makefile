PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all test-gpu lint format bench install clean

install: $(STAMP)

# The stamp makes a second call skip the installation; it depends on what decides the environment.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vultus needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/vultus demo --out demo

# GPU kernels are compiled ahead of time in the first process and interpreted in the second one:
# Triton decides when it is imported.
PYTEST := $(BIN)/python -m pytest --jaxtyping-packages=vultus,beartype.beartype

test: $(STAMP)
	$(PYTEST) -m 'not slow and not gpu and not triton'
	TRITON_INTERPRET=1 $(PYTEST) -m 'triton and not slow and not gpu'

test-all: $(STAMP)
	$(PYTEST) -m 'not gpu and not triton'
	TRITON_INTERPRET=1 $(PYTEST) -m 'triton and not gpu'

test-gpu: $(STAMP)
	$(PYTEST) -m 'gpu or triton'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/vultus bench raster

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
