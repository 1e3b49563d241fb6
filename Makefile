# make quickstart | test | unit | integration | slow | lint
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test unit integration slow lint clean

# The stamp holds the environment to the files that define it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[quickstart,dev]'
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/neural-sparse quickstart

test: unit integration

unit: $(VENV)/.installed
	$(BIN)/pytest --durations=10 -m "not integration and not slow"

integration: $(VENV)/.installed
	$(BIN)/pytest --durations=25 -m "integration and not slow"

slow: $(VENV)/.installed
	$(BIN)/pytest -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) outputs build src/*.egg-info
