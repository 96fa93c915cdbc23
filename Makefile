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

# The interpreted process runs beside the other one, on one core; what it prints follows.
test: $(STAMP)
	@log=$$(mktemp); \
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(PYTEST) -m 'triton and not slow and not gpu' \
		>$$log 2>&1 & second=$$!; \
	trap 'kill $$second 2>/dev/null; rm -f $$log' EXIT; trap 'exit 130' INT TERM; \
	$(PYTEST) -m 'not slow and not gpu and not triton'; compiled=$$?; \
	wait $$second; interpreted=$$?; cat $$log; \
	test $$compiled -eq 0 -a $$interpreted -eq 0

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
