# make quickstart | test | unit | integration | slow | lint | constraints | release
# TORCH=cpu installs torch without CUDA's libraries, from PyTorch's own index: make quickstart TORCH=cpu
PYTHON ?= python3
TORCH ?=
# Tests run in this many processes of one thread each; a process takes up to 3 GB.
TEST_PROCESSES ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile
VENV := .venv
BIN := $(VENV)/bin

# Kept, whatever the environment says: else every process compiles what it imports, and tests, anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: quickstart test unit integration slow lint constraints release clean

# The stamp holds the environment to the files that define it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH),)
	$(BIN)/pip install --no-deps --index-url https://download.pytorch.org/whl/$(TORCH) $$(grep ^torch== constraints.txt)
endif
	$(BIN)/pip install --constraint constraints.txt --editable '.[quickstart,dev]'
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/neural-sparse quickstart

test: unit integration

unit: $(VENV)/.installed
	$(PYTEST) --durations=10 -m "not integration and not slow" tests/unit

integration: $(VENV)/.installed
	$(PYTEST) --durations=25 -m "integration and not slow"

slow: $(VENV)/.installed
	$(BIN)/pytest -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whether every supported Python, on both processors, can install what is pinned.
constraints: $(VENV)/.installed
	$(BIN)/python .ci/check_constraints.py

# Wheel and source distribution in dist/, checked; says how to publish them and publishes nothing.
release: $(VENV)/.installed
	$(BIN)/python .ci/release.py

clean:
	rm -rf $(VENV) outputs build dist src/*.egg-info
