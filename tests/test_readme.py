"""Every Python block of the README runs, in order, and does what the text says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run_in_order():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert abs(names["players"].primal) < 1e-3
    assert abs(names["players"].dual) < 1e-3
    assert len(names["result"].seeds) == 32
    assert np.isfinite(names["result"].metrics["gradient_norm_primal"]).all()
    assert len(names["found"].verdicts) == 8  # two claims at four settings
    sweep = next(b for b in blocks if "osj.sweep(" in b)
    game_and_sweep = [line for line in sweep.splitlines() if line.strip()]
    assert len(game_and_sweep) <= 25
