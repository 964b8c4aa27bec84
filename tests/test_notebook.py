"""The Colab notebook runs from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "run_colab.py"
PATHS = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|mnt|var|Users|content)\b|0x[0-9a-f]{6}"
)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(notebook):
    for output in outputs(notebook):
        if output.output_type == "stream":
            yield output.text
        yield from (v for k, v in output.get("data", {}).items() if not k.startswith("image/"))


def assert_clean(notebook):
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
    for text in texts(notebook):
        assert not PATHS.search(text), text


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(ROOT / "experiments" / "colab.ipynb", as_version=4)


def test_it_runs_at_tiny_size(tmp_path, committed):
    out = tmp_path / "colab.ipynb"
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")}
    arguments = [sys.executable, str(SCRIPT), "--size", "tiny", "--out", str(out)]
    subprocess.run(arguments, check=True, env=environment, cwd=tmp_path)
    executed = nbformat.read(out, as_version=4)
    assert [cell.source for cell in executed.cells] == [cell.source for cell in committed.cells]
    assert_clean(executed)
    said = "\n".join(texts(executed))
    assert "size 'tiny'" in said
    assert "ring auto float32, 16 runs: " in said
    assert "Interrupted; saved up to step 30 of 60." in said
    assert "11 of 11 checkpoints as if never interrupted, bit for bit." in said
    assert "colab-tiny/report.html" in said
    assert not list(tmp_path.glob("runs"))  # nothing is left where it was called


def test_the_outputs_that_readers_see_are_of_this_source(committed, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from run_colab import EXECUTED, source_digest

    executed = committed.metadata[EXECUTED]
    assert executed["size"] == "small"
    assert executed["sha256"] == source_digest(committed), "run `make notebook`"
    assert outputs(committed)
    assert_clean(committed)
    assert (ROOT / "experiments" / "colab.ipynb").stat().st_size < 1_000_000
