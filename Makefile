# Two commands on a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Compiling is most of what the tests do; a file's programs are shared by its tests.
QUICK := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-oldest lint types docs bench notebook clean

demo: .venv/.demo
	$(BIN)/onesided demo --out demo
	@echo "Open demo/report.html in a browser."

test: .venv/.dev
	$(MAKE) --no-print-directory -j3 lint types docs
	XLA_FLAGS="$(QUICK)" $(BIN)/python -m pytest --numprocesses auto $(BY_FILE) -m "not as_shipped"
	$(BIN)/python -m pytest --numprocesses auto -m as_shipped

# The oldest JAX and flax that pyproject.toml allows, in an environment of their own.
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -e '.[dev]' jax==0.8.0 jaxlib==0.8.0 flax==0.12.0
	.venv-oldest/bin/python -m pytest -W ignore::DeprecationWarning tests/test_games.py tests/test_gan.py tests/test_sweeps.py \
		tests/test_runs.py tests/test_runtime.py tests/test_sharding.py tests/faults/test_processes.py

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

notebook: .venv/.dev
	$(BIN)/python experiments/run_colab.py --size small

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
	rm -rf .venv .venv-oldest .cache build site dist *.egg-info .pytest_cache .ruff_cache .hypothesis
