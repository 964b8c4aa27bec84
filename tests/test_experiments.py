"""The committed experiments, end to end at tiny size."""

import csv
import importlib
import json
import sys
from concurrent.futures import Future
from pathlib import Path

import jax
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # x64 by the fixture instead
    return module


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_which_optimizer(monkeypatch, tmp_path):
    module = load("which_optimizer", monkeypatch)
    monkeypatch.setattr(module, "OPTIMIZERS", {"sgda": {}, "extra_sgd": {}})
    monkeypatch.setattr(module, "GAMES", {"quadratic": "strongly monotone", "bilinear": "MVI"})
    monkeypatch.setattr(
        sys, "argv", ["which_optimizer.py", "--steps", "400", "--out", str(tmp_path / "w")]
    )
    module.main()
    rows = read(tmp_path / "w.csv")
    assert len(rows) == 4
    assert all(abs(sum(float(row[name]) for name in module.OUTCOMES) - 1) < 1e-3 for row in rows)
    assert (tmp_path / "w.svg").stat().st_size > 1000


def test_constrained(monkeypatch, tmp_path):
    module = load("constrained", monkeypatch)
    monkeypatch.setattr(
        module, "METHODS", {k: module.METHODS[k] for k in ("simultaneous", "nuPI, kp=1")}
    )
    monkeypatch.setattr(
        sys, "argv", ["constrained.py", "--steps", "300", "--out", str(tmp_path / "c.csv")]
    )
    module.main()
    plain, braked = read(tmp_path / "c.csv")
    assert plain["settled 0.3"] == "never"
    assert 0 < int(braked["settled 0.3"]) < 300
    assert float(plain["overshoot 0.3"]) > 1


class Now:
    """An executor that runs in this process."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def submit(self, function, task):
        future = Future()
        future.set_result(function(task))
        return future


def test_theory_resumes_and_draws(monkeypatch, tmp_path, capsys):
    module = load("theory", monkeypatch)
    monkeypatch.setattr(module, "ProcessPoolExecutor", Now)
    figure = tmp_path / "figures" / "theory.svg"
    arguments = ["--scale", "small", "--out", str(tmp_path), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", ["theory.py", "controls", *arguments])
    module.main()
    rows = {row["arm"]: row for row in read(tmp_path / "controls.csv")}
    assert rows["moving_target: XEG"]["T1 holds"] == "0"
    assert float(rows["moving_target: XEG"]["worst lhs/rhs"]) > 1
    assert figure.stat().st_size > 1000
    assert "seconds" in json.loads((tmp_path / "theory.json").read_text())["controls"]
    capsys.readouterr()
    module.main()  # nothing is left to do
    assert capsys.readouterr().out == ""


def test_every_section_of_theory_has_arms_of_its_own(monkeypatch):
    module = load("theory", monkeypatch)
    for section in module.SECTIONS.values():
        for pick in (lambda small, _: small, lambda _, paper: paper):
            labels = [task.label for task in section(pick)]
            assert labels
            assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("name", "table"),
    [("naive_test", "naive_test.csv"), ("earlier_round", "earlier_round/verdicts.csv")],
)
def test_a_committed_table_is_what_its_command_writes(name, table, monkeypatch, tmp_path):
    load(name, monkeypatch).main(["--out", str(tmp_path / "table.csv")])
    written, committed = read(tmp_path / "table.csv"), read(EXPERIMENTS / "results" / table)
    assert written == committed
