# Two commands on a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types docs bench clean

demo: .venv/.demo
	$(BIN)/onesided demo --out demo
	@echo "Open demo/report.html in a browser."

test: lint types docs .venv/.dev
	$(BIN)/python -m pytest --numprocesses auto

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.dev
	$(BIN)/basedpyright

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/.bench
	$(BIN)/python -m benchmarks
	cp benchmarks/results/*.svg docs/figures/

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo

.venv/.bench: .venv/.dev
	$(PIP) -e '.[dev,bench]'
	@touch $@

clean:
	rm -rf .venv .cache build site dist *.egg-info .pytest_cache .ruff_cache .hypothesis
