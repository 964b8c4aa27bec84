"""A trajectory is a function of (recipe, width, platform), and of nothing else."""

from __future__ import annotations

import pytest

from . import determinism
from .workload import ONE, recipe

pytestmark = pytest.mark.as_shipped


def test_circumstances_change_no_bit(tmp_path):
    found = determinism.compare_all(tmp_path, recipe(steps=20, every=10, optimizers=ONE))
    assert [figures for figures in found if not figures.kept()] == []
    names = {figures.fault for figures in found}
    assert "2 host devices instead of 1" in names
    assert "stopped and resumed 1 times" in names
