"""The experiments on GANs, end to end at tiny size: resumable jobs, tables, figures, the ledger."""

import csv
import importlib
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from onesided_jax.analysis.minty import test_steps as steps_of_test
from onesided_jax.runs import cells

pytestmark = pytest.mark.usefixtures("quick_sweeps")

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts as modules, with the smallest of everything that still takes every path."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    shared = [path.stem for path in EXPERIMENTS.glob("_*.py")]
    names = [*shared, "gradient_norms", "one_sided_mvi", "landscape", "ablations", "pilot"]
    names.append("replication")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: importlib.import_module(name) for name in names}
    arms = ("adam", "amsgrad_eg_drd")
    tiny = modules["_design"].SCALES["small"]._replace(arms=arms)
    monkeypatch.setitem(modules["_design"].SCALES, "small", tiny)
    yield modules
    for name in names:
        sys.modules.pop(name, None)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def go(module, name, folder, *arguments):
    job = module.Job(name, "", ["--scale", "small", "--runs", str(folder), *arguments])
    return job.go(module.work, module.conclude), job.out


def test_the_core_is_trained_once_and_judged(scripts, monkeypatch, tmp_path):
    module = scripts["gradient_norms"]
    code, out = go(module, "gradient_norms", tmp_path, "--minutes", "0")
    assert code == scripts["_jobs"].UNFINISHED
    assert not (out / "verdicts.csv").exists()
    code, out = go(module, "gradient_norms", tmp_path)
    assert code == 0

    norms = read(out / "mnist5k" / "norms" / "amsgrad_eg_drd.csv")
    arms = {f"amsgrad_eg_drd power={power}" for power in ("0.25", "0.5", "1")}
    assert {row["arm"] for row in norms} == arms
    assert len(norms) == 3 * 2 * 22  # powers, seeds, checkpoints
    verdicts = {row["arm"]: row for row in read(out / "verdicts.csv")}
    assert verdicts.keys() == {"adam", "adam_dual_frozen", "amsgrad_1e-3", *arms}
    assert verdicts["adam"]["verdict"] == "inconclusive"  # two seeds
    assert all(verdicts[arm]["verdict"] == "not judged" for arm in verdicts if arm != "adam")
    gate = read(out / "gate.csv")
    assert {row["gate"] for row in gate if row["arm"] == "adam"} <= {"yes", "no"}
    assert {row["reason"] for row in gate if row["arm"] == "adam_ema"} == {"a control"}
    quality = {row["arm"]: row for row in read(out / "quality.csv")}
    assert quality["adam"]["passing"] in ("0", "1", "2")
    assert quality["adam_ema"]["passing"] == ""
    windows = {row["arm"]: row for row in read(out / "windows.csv")}
    for player in ("primal", "dual"):
        planned, first = (f"{player}_ratio_{window}" for window in ("2_to_10", "0"))
        assert windows["adam"][planned] == verdicts["adam"][f"{player}_ratio"]
        assert windows["adam"][first] != windows["adam"][planned]
    for row in read(out / "sensitivity.csv"):
        changed = [p for p in ("P1", "P2", "P3") if row[p] != verdicts[row["arm"]][p]]
        assert [change.split()[0] for change in row["changes"].split(", ") if change] == changed
    levels = {row["arm"]: row for row in read(out / "levels.csv")}
    assert levels.keys() == verdicts.keys()
    assert float(levels["adam"]["dual_late"]) > 0
    compared = {(row["what"], row["arm"]) for row in read(out / "comparisons.csv")}
    assert compared == {("averaging", "adam_ema"), ("freezing", "adam_dual_frozen")}
    assert {row["arm"] for row in read(out / "rates.csv")} == arms
    # The frozen discriminator's arm is adam's until it is frozen, and then its dual stands still.
    frozen, adam = (
        read(out / "mnist5k" / "norms" / "adam_dual_frozen.csv"),
        read(out / "mnist5k" / "norms" / "adam.csv"),
    )
    early, late = (row for row in frozen if row["seed"] == "0" and row["step"] in ("22", "42"))
    assert early["dual_weights"] == late["dual_weights"]
    assert early["primal_weights"] != late["primal_weights"]
    assert [r["dual_weights"] for r in adam[:5]] == [r["dual_weights"] for r in frozen[:5]]
    assert (out / "norms-mnist5k.svg").stat().st_size > 5000
    outcomes = [row["outcome"] for row in read(out / "ledger.csv")]
    assert outcomes == ["to be continued", "complete"]

    # What has been measured, say in a clone of these results, is not trained again.
    (out / "mnist5k" / "quality" / "adam.csv").unlink()
    runs = {path.name for path in tmp_path.iterdir()} - {"results"}
    aside = tmp_path.with_name("aside")
    aside.mkdir()
    for name in runs:
        (tmp_path / name).rename(aside / name)
    assert go(module, "gradient_norms", tmp_path)[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results", "core-mnist5k-adam"}
    assert {row["arm"]: row for row in read(out / "quality.csv")} == quality
    for name in runs - {"core-mnist5k-adam"}:
        (aside / name).rename(tmp_path / name)

    module = scripts["one_sided_mvi"]
    code, mvi = go(module, "one_sided_mvi", tmp_path)
    assert code == 0
    (verdict,) = read(mvi / "verdicts.csv")
    assert verdict["arm"] == "adam"
    assert verdict["verdict"] == "inconclusive"
    measured = {row["what"] for row in read(mvi / "details.csv")}
    assert {"x* = other seeds", "control: x* at random", "generator, head"} <= measured
    assert "control: discriminators trained on shuffled labels" in measured
    assert "dual side, discriminator, whole" in measured
    assert {row["what"] for row in read(mvi / "shares.csv")} <= measured
    assert {"x* = the origin", "x* = the run's own start", "x* = other runs' starts"} <= measured
    (noise, concave, _) = read(mvi / "naive.csv")
    assert float(noise["naive_positive"]) > 0.8
    assert float(noise["naive_sum"]) > 0
    assert float(concave["naive_positive"]) == 1  # although it is false for every x*
    assert float(concave["other_x_positive"]) < 0.1
    assert (mvi / "matrix-mnist5k.svg").stat().st_size > 5000

    code, out = go(scripts["landscape"], "landscape", tmp_path)
    assert code == 0
    rows = read(out / "landscape.csv")
    assert [int(row["step"]) for row in rows if row["seed"] == "0"] == [2, 12, 22, 32, 42]
    assert all(float(row["largest"]) > 0 and row["rate_allowed"] == "" for row in rows)
    spectrum = read(out / "mnist5k" / "spectrum-adam.csv")
    hessians = [row for row in spectrum if row["player"] != "both"]
    assert all(abs(float(r["imaginary"])) < 1e-3 * (1 + abs(float(r["real"]))) for r in hessians)
    path = read(out / "mnist5k" / "path-adam.csv")
    assert len(path) == 2 * 41
    premises = read(out / "mnist5k" / "premises-adam.csv")
    assert len(premises) == 2 * 21
    assert all(float(row["lipschitz"]) > 0 for row in premises)
    assert any(float(row["moments_fallen"]) > 0 for row in premises)  # Adam's are not monotone
    (early, later) = read(out / "curvature.csv")
    assert [early["first_step"], later["last_step"]] == ["2", "42"]
    assert 0 <= float(later["negative"]) <= 1
    (summary,) = read(out / "premises.csv")
    assert (summary["arm"], summary["points"]) == ("adam", str(2 * 21))
    assert float(summary["lipschitz"]) <= float(summary["lipschitz_largest"])
    assert (out / "landscape-mnist5k.svg").stat().st_size > 5000
    assert not (out / "midpoints.csv").exists()  # adam does not look ahead

    job = module.Job("landscape", "", ["--scale", "small", "--runs", str(tmp_path)])
    wanted = scripts["_design"].core("mnist5k", job.scale)
    ((what, source),) = scripts["_measure"].trained(job, wanted, ["amsgrad_eg_drd"])
    (arm,) = (cell for cell in cells(wanted) if cell.label == source.label)
    batch = what.game.sample(jax.random.key(0))
    rows = scripts["_landscape"].midpoints(job, what, source, arm, batch)
    assert len(rows) == 2 * 5
    assert all(row["dual_midpoint"] != row["dual"] for row in rows)

    monkeypatch.setattr(scripts["replication"], "BEST", "amsgrad_eg_drd power=0.5")
    code, again = go(scripts["replication"], "replication", tmp_path)
    assert code == 0
    (verdict,) = read(again / "verdicts.csv")
    assert (verdict["arm"], verdict["seeds"]) == ("adam", "4")
    assert {row["seed"] for row in read(again / "gate.csv")} == {"2", "3", "4", "5"}
    norms = read(again / "mnist5k" / "norms" / "adam.csv")
    assert norms[0]["primal_weights"] != adam[0]["primal_weights"]  # seeds of its own


def test_a_replication_needs_what_it_is_compared_with(scripts, tmp_path, capsys):
    code, out = go(scripts["replication"], "replication", tmp_path)
    assert code == scripts["_jobs"].UNFINISHED
    assert "run experiments/gradient_norms.py first" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["ledger.csv"]


def test_an_ablation_is_a_row_per_arm(scripts, monkeypatch, tmp_path):
    module = scripts["ablations"]
    monkeypatch.setattr(
        module, "FACTORS", {"loss": {"hinge": {"loss": "hinge"}}, "optimizer": {"others": {}}}
    )
    monkeypatch.setattr(module, "OTHERS", [a for a in module.OTHERS if a.label == "sgda"])
    small = scripts["_design"].SCALES["small"]
    monkeypatch.setitem(scripts["_design"].SCALES, "small", small._replace(factors=()))
    code, out = go(module, "ablations", tmp_path)
    assert code == 0
    core = out.parent / "gradient_norms" / "mnist5k"  # its tables are here if it has been run
    shutil.copytree(out / "ablation-loss-hinge", core)
    code, out = go(module, "ablations", tmp_path, "--draw")
    rows = read(out / "ablations.csv")
    assert [(row["level"], row["arm"]) for row in rows] == [
        ("core", "adam"),
        ("core", "amsgrad_xeg"),
        ("hinge", "adam"),
        ("hinge", "amsgrad_xeg"),
        ("others", "sgda"),
    ]
    assert rows[0]["frechet"] == rows[2]["frechet"]
    assert (out / "optimizers.svg").stat().st_size > 5000
    assert all(row["seeds"] == "2" and row["primal_ratio"] != "unknown" for row in rows)
    runs = read(out / "runs.csv")
    assert len(runs) == 2 * len(rows)
    hinge = [r for r in runs if (r["level"], r["arm"]) == ("hinge", "adam")]
    above = [float(r["dual_ratio"]) > float(r["primal_ratio"]) for r in hinge]
    assert rows[2]["above"] == str(sum(above))
    mean = np.mean([float(r["primal_from_start"]) for r in hinge])
    assert float(rows[2]["primal_from_start"].split(" [")[0]) == pytest.approx(mean, rel=1e-2)
    assert (out / "ablations.svg").stat().st_size > 5000


def test_every_recipe_of_every_scale_is_one(scripts):
    """The scales that are not run here: each recipe is valid, and its labels are distinct."""
    design, ablations, pilot = (scripts[n] for n in ("_design", "ablations", "pilot"))
    for name in design.SCALES:
        job = ablations.Job("ablations", "", ["--scale", name])
        recipes = [wanted for _, _, wanted in ablations.recipes(job)] + pilot.recipes(job)
        recipes += [design.core(data, job.scale) for data in job.scale.data]
        recipes += [design.at_other_rates(data, job.scale) for data in job.scale.data]
        recipes += [wanted for _, wanted in scripts["replication"].recipes(job.scale)]
        assert len({wanted.name for wanted in recipes}) == len(recipes)
        for wanted in recipes:
            steps = list(range(0, wanted.steps + 1, wanted.checkpoint_every))
            found = steps_of_test(steps, wanted.steps, wanted.criteria)
            enough = len(found) == wanted.criteria.mvi_rows
            assert enough or name == "small" or wanted.name.startswith("ablation-")


def test_pilot_fixes_a_reference(scripts, tmp_path):
    code, out = go(scripts["pilot"], "pilot", tmp_path)
    assert code == 0
    (quality,) = read(out / "mnist5k" / "quality" / "adam.csv")
    assert json.loads((out / "reference.json").read_text()) == {
        "mnist5k": pytest.approx(float(quality["frechet"]), rel=1e-2)
    }
