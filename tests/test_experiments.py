"""The committed experiments, end to end at tiny size."""

import csv
import importlib
import json
import sys
from concurrent.futures import Future
from pathlib import Path

import jax
import pytest

import onesided_jax as osj

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


@pytest.fixture(scope="module")
def small(tmp_path_factory, quick_sweeps):
    """The registered experiment at small size: every claim, all tables and pages."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        module = load("registered", patch)
        arguments = ["--scale", "small", "--out", str(folder / "runs")]
        arguments += ["--results", str(folder / "tables"), "--pages", str(folder / "docs")]
        assert run_registered(module, *arguments) == 0
        yield module, arguments, folder


@pytest.mark.usefixtures("quick_sweeps")
def test_the_registered_experiment_gives_every_claim_a_sentence(small):
    _, _, folder = small
    rows = read(folder / "tables" / "verdicts.csv")
    assert [(row["claim"], row["what"] or row["arm"]) for row in rows] == [
        ("1", "alternating_adam"),
        ("1", "frozen"),
        ("1", "adam"),
        ("2", "late generator norm"),
        ("2", "Fréchet distance"),
        ("2", "streamed MVI"),
        ("2", "streamed MVI"),
        ("3", "all forms"),
        ("3", "after trained"),
        ("3", "before"),
        ("3", "after"),
    ]
    statuses = {"supported", "refuted", "undecided", "reported"}
    assert all(row["status"] in statuses and row["sentence"] for row in rows)
    assert [row["seeds"] for row in rows] == ["3", *["2"] * 6, *["3"] * 4]
    assert rows[1]["status"] == rows[2]["status"] == "undecided"  # registered without a verdict
    pages = {path.name: path.read_text("utf-8") for path in (folder / "docs/results").iterdir()}
    for row in rows:
        told = row["cosine"] if row["claim"] == "3" else row["sentence"]
        assert told in pages[f"claim{row['claim']}.md"]
    assert "Not run yet" not in "".join(pages.values())
    words = [w for w in pages["index.md"].split() if any(map(str.isalnum, w))]
    assert len(words) <= 300
    figures = {path.name for path in (folder / "docs/figures").iterdir()}
    of_data = {"registered-norms-bars.svg", "registered-samples-bars.png"}
    assert figures == {"registered-plane.svg", "registered-mvi.svg", *of_data}


def run_registered(module, *arguments):
    with jax.enable_x64(False):
        return module.main([*map(str, arguments)])


@pytest.mark.usefixtures("quick_sweeps")
def test_the_registered_experiment_trains_nothing_twice(small):
    module, arguments, folder = small
    ledger = (folder / "tables" / "ledger.jsonl").read_text().splitlines()
    assert {"what", "command", "seconds", "cores", "device"} <= set(json.loads(ledger[0]))
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    assert run_registered(module, *arguments) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()} == before


@pytest.mark.usefixtures("quick_sweeps")
def test_the_registered_experiment_goes_on_where_it_was_cut_off(small, tmp_path, monkeypatch):
    """A job without time stops at its first checkpoint; the next one ends with the same bytes."""
    module, _, folder = small
    load_images = module.load_images
    monkeypatch.setattr(module, "load_images", lambda *_: load_images("bars", None))
    cut = ["--claim", "1", "--scale", "small", "--seeds", "1000:1003"]
    cut += ["--out", tmp_path / "runs", "--results", tmp_path / "tables"]
    assert run_registered(module, *cut, "--minutes", "0") == 75
    assert not list(tmp_path.rglob("norms.csv"))
    assert run_registered(module, *cut) == 0
    (found,) = tmp_path.rglob("norms.csv")
    whole = folder / "tables" / "alternating_adam-bars-1000-1003" / "norms.csv"
    assert found.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("quick_sweeps")
def test_the_pilot_computes_no_gradient_norm(monkeypatch, tmp_path):
    module = load("registered", monkeypatch)
    from _registered import measuring

    load_images = module.load_images
    monkeypatch.setattr(module, "load_images", lambda *_: load_images("bars", None))
    monkeypatch.setattr(measuring, "make_probe", None)
    folders = ["--out", tmp_path / "runs", "--results", tmp_path / "tables"]
    assert run_registered(module, "--pilot", "--scale", "small", *folders) == 0
    rows = read(tmp_path / "tables" / "pilot-mnist-900-902" / "quality.csv")
    assert {row["seed"] for row in rows} == {"900", "901"}
    assert not any("norm" in name for name in rows[0])


def test_the_windows_are_fixed_by_number(monkeypatch):
    load("registered", monkeypatch)
    from _registered.design import SCALES, windows

    assert windows(SCALES["cpu"]) == ([3, 4, 5, 6], list(range(48, 61)))
    assert SCALES["cpu"].steps % SCALES["cpu"].checkpoints == 0


def test_the_committed_pages_are_what_the_tables_say(monkeypatch, tmp_path):
    """In a clean clone: same bytes; what is not yet run says so."""
    module = load("registered", monkeypatch)
    module.main(["--draw", "--pages", str(tmp_path)])
    for path in (tmp_path / "results").iterdir():
        assert path.read_bytes() == (EXPERIMENTS.parent / "docs/results" / path.name).read_bytes()


@pytest.mark.usefixtures("quick_sweeps")
@pytest.mark.parametrize("runs", [1, 2])  # on two devices: on one of them, and one on each
def test_twins_start_alike_and_see_other_minibatches(runs, monkeypatch, tmp_path):
    load("registered", monkeypatch)
    from _registered import design, training

    game, scale = osj.games.finite_sum_bilinear(spread=1.0), design.SCALES["small"]
    seeds = (1000, 1000 + runs)
    folder, ledger = tmp_path / "run", tmp_path / "ledger.jsonl"
    training.train(game, "alternating_adam", seeds, folder, scale, ledger=ledger)
    twins = {name: training.fork(game, folder, name, scale) for name in "AB"}
    size = (runs, scale.rows, 4)
    assert twins["B"]["primal"].shape == twins["B"]["dual"].shape == size
    assert twins["A"]["primal"].shape == (runs, 1, 4)  # its end is all that is asked for
    assert (twins["A"]["primal"][:, -1] != twins["B"]["primal"][:, -1]).all()
    end = osj.open_run(folder).store("sweep").read(scale.steps)["players"]["primal"]
    moved = abs(twins["B"]["primal"] - end[:, None]).max((0, 2))
    assert (moved > 0).all()
    assert (moved < scale.twin_steps * 2 * design.RATE).all()  # from there, at Adam's pace
    (folder / "twin-B.npz").unlink()
    again = training.fork(game, folder, "B", scale)
    assert (again["primal"] == twins["B"]["primal"]).all()
