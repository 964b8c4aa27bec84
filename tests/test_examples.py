"""The examples run, at a small size, and their pages show their code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
NAMES = sorted(path.stem for path in (DOCS / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("_examples", DOCS / "_examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name, examples, tmp_path, monkeypatch, quick_sweeps):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    text = (DOCS / "examples" / f"{name}.py").read_text("utf-8")
    small = examples.shrunk(text)
    assert small != text
    with jax.numpy_rank_promotion("allow"):  # examples are written as people write
        exec(compile(small, name, "exec", dont_inherit=True), {"__name__": name})
    plt.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_code_of_its_example(name, examples):
    page = (DOCS / "examples" / f"{name}.md").read_text("utf-8")
    text = (DOCS / "examples" / f"{name}.py").read_text("utf-8")
    for prose, source in examples.cells(text):
        shown = source if prose else examples.COMMENT.sub("", source)
        assert shown in page
