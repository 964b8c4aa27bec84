"""One sweep without a fault, and one process to fork victims from, for all tests of this folder."""

from __future__ import annotations

import contextlib

import pytest

from onesided_jax.runs import Recipe

from .disk import mounted
from .victims import COMMAND_LINE, nursery, run
from .workload import ONE, recipe, recipe_file


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    with nursery(tmp_path_factory.mktemp("victims")) as start:
        yield start


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Recipe:
    """Four runs of a GAN, five checkpoints."""
    return recipe(steps=60, every=15, optimizers=ONE)


@pytest.fixture(scope="session")
def small_file(tmp_path_factory, small) -> str:
    return recipe_file(tmp_path_factory.mktemp("recipe"), small)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, start, small_file):
    """The run directory of ``small`` without any fault, analysed and reported."""
    out = tmp_path_factory.mktemp("whole") / "run"
    for command in (["sweep", small_file, "--out", str(out)], ["analyze", str(out)]):
        code, said = run(start, COMMAND_LINE, *command)
        assert code == 0, said
    code, said = run(start, COMMAND_LINE, "report", str(out))
    assert code == 0, said
    return out


@pytest.fixture
def tmpfs(tmp_path):
    """``mount(bytes)``: a file system of that size on memory; skips where it may not be mounted."""
    with contextlib.ExitStack() as stack:

        def mount(size: int):
            path = tmp_path / "tmpfs"
            if not stack.enter_context(mounted(path, size)):
                pytest.skip("nothing can be mounted here; the injected errors are tested")
            return path

        yield mount
