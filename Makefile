# Two commands on a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Python compiles a module when it is first imported: half the time of an installation.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# Compiling is most of what the tests do: they compile with fewer of LLVM's optimisations. Before
# JAX 0.12 the old fusion emitters take half the time; JAX 0.12 aborts on the flag.
# A file's programs are shared by its tests, so a worker takes whole files.
QUICK := --xla_backend_optimization_level=0
OLD_JAX = tuple(map(int, jaxlib.__version__.split('.')[:2])) < (0, 12)
EMITTERS = $(shell $(BIN)/python -c "import jaxlib; print('--xla_cpu_use_fusion_emitters=false' * ($(OLD_JAX)))")
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-oldest test-newest lint types docs wheel bench notebook clean

demo: .venv/.demo
	$(BIN)/onesided demo --out demo
	@echo "Open demo/report.html in a browser."

test: .venv/.dev
	$(MAKE) --no-print-directory -j4 lint types docs wheel
	XLA_FLAGS="$(QUICK) $(EMITTERS)" $(BIN)/python -m pytest --numprocesses auto $(BY_FILE) -m "not as_shipped"
	$(BIN)/python -m pytest --numprocesses auto -m as_shipped

# The oldest versions that pyproject.toml allows, in an environment of their own.
OLDEST := jax==0.8.0 jaxlib==0.8.0 flax==0.12.0 orbax-checkpoint==0.12.0
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -e '.[dev]' $(OLDEST)
	.venv-oldest/bin/python -m pytest -W ignore::DeprecationWarning tests/test_games.py tests/test_gan.py tests/test_sweeps.py \
		tests/test_runs.py tests/test_runtime.py tests/test_sharding.py tests/faults/test_processes.py

# The newest versions that the registry has, whatever constraints.txt says: `make test-newest PYTHON=python3.13`.
test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev]'
	XLA_FLAGS="$(QUICK)" .venv-newest/bin/python -m pytest --numprocesses auto $(BY_FILE) -m "not as_shipped"
	.venv-newest/bin/python -m pytest --numprocesses auto -m as_shipped

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/_sentences.py

types: .venv/.dev
	$(BIN)/basedpyright

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Builds sdist and wheel, installs the wheel into an empty environment, and uses it there.
wheel: .venv/.dev
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --no-isolation --outdir dist . >dist.log 2>&1 || (cat dist.log; exit 1)
	@mv dist.log dist/build.log
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && JAX_PLATFORMS=cpu ../.venv-wheel/bin/python ../tests/smoke.py

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
	rm -rf .venv .venv-oldest .venv-newest .venv-wheel .cache build site dist *.egg-info .pytest_cache .ruff_cache .hypothesis
