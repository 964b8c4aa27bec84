"""A run that turns non-finite: dated, seen everywhere, and felt by no other."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from onesided_jax.cli import main
from onesided_jax.runs import open_run

from . import divergence
from .workload import recipe_file


def test_neighbours_of_exploding_runs_keep_every_bit(tmp_path):
    found = divergence.beside_others(tmp_path, seeds=2)
    assert found.kept(), found
    assert found.injected == 2


@pytest.mark.as_shipped  # which number overflows first depends on the compiler
def test_a_divergence_is_seen_in_metrics_tables_page_and_verdicts(tmp_path, capsys):
    out = tmp_path / "run"
    rates = (divergence.GOOD[0], divergence.EXPLODING)
    path = recipe_file(tmp_path, divergence.recipe(rates))
    assert main(["sweep", path, "--out", str(out)]) == 0
    assert "sgda      │ 4    │ 2        │" in capsys.readouterr().out
    assert main(["analyze", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    run = open_run(out)
    last = run.store("sgda").read(80)
    when = last["diverged_at"].tolist()
    assert when[:2] == [-1, -1]
    assert all(1 <= step <= 20 for step in when[2:])
    steps = range(5, 85, 5)
    norms = np.concatenate(
        [run.store("sgda").read(step)["metrics"]["gradient_norm_primal"] for step in steps], axis=1
    )
    for i, step in enumerate(when):
        assert np.isnan(norms[i]).tolist() == [0 < step <= t for t in range(1, 81)]
    with (out / "runs.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["optimizer"] == "sgda"]
    assert [float(row["diverged_at"]) for row in table] == when
    page = (out / "report.html").read_text()
    assert f"× diverged at step {when[2]}" in page
    verdicts = json.loads((out / "verdict.json").read_text())
    exploded = [
        v
        for v in verdicts
        if v["cell"] == "sgda" and v["setting"]["primal_learning_rate"] == divergence.EXPLODING
    ]
    assert exploded
    assert all(v["status"] != "supported" for v in exploded)
    assert "diverged" in json.dumps(exploded)


def test_a_sweep_in_which_all_runs_explode_is_analysed(tmp_path, capsys):
    out = tmp_path / "run"
    path = recipe_file(tmp_path, divergence.recipe((divergence.EXPLODING,)))
    for command in (
        ["sweep", path, "--out", str(out)],
        ["analyze", str(out)],
        ["report", str(out)],
    ):
        assert main(command) == 0
    assert "diverged" in (out / "report.html").read_text()
