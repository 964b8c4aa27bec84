"""Comparisons of arms in the experiments: pairs within seeds, P6 to P8, thresholds of the gate."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from onesided_jax.analysis.estimators import SquaredNorm
from onesided_jax.runs import Criteria

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CRITERIA = Criteria()
STEPS = np.arange(0, 2001, 50)
SEEDS = (1.0, 1.02, 0.98, 1.01, 0.99)  # nearly alike


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    names = [path.stem for path in EXPERIMENTS.glob("_*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def compare(scripts):
    return scripts["_compare"]


def norms(scripts, scale, *, power=0.0, seeds=SEEDS, diverged=()):
    """Primal norms ``scale * t^power`` times a factor per seed; their squares are what is kept."""
    later = np.maximum(STEPS, 1) / STEPS[-1]
    value = (scale * np.outer(seeds, later**power)) ** 2
    squared = SquaredNorm(value, 0.01 * value, value, np.ones_like(value))
    gone = np.isin(np.arange(len(seeds)), diverged)
    return scripts["_measure"].Norms(STEPS, list(range(len(seeds))), squared, squared, gone)


def quality(frechet, count=5, **more):
    row = dict.fromkeys(("class_coverage", "precision", "recall"), "0.5")
    row |= {"diverged": "no", "frechet": str(frechet), "class_entropy": "0.95", "classifier": "a"}
    return [{"seed": str(seed), **row, **more} for seed in range(count)]


def predicted(compare, arms, samples):
    tables = compare.compare_arms(arms, samples, CRITERIA, 2000)
    return {row["prediction"]: row["verdict"] for row in tables["predictions"]}


@pytest.mark.parametrize(
    ("late", "frechet", "verdict"),
    [
        (0.5, 0.2, "supported"),
        (0.5, 0.26, "inconclusive"),  # lower, and worse samples
        (1.0, 0.2, "inconclusive"),
        (1.5, 0.2, "refuted"),
    ],
)
def test_p6_asks_for_a_lower_norm_and_samples_not_worse(scripts, compare, late, frechet, verdict):
    arms = {"amsgrad_eg": norms(scripts, 1.0), compare.HALF: norms(scripts, late)}
    samples = {"amsgrad_eg": quality(0.2), compare.HALF: quality(frechet)}
    assert predicted(compare, arms, samples) == {"P6": verdict}
    (row,) = compare.compare_arms(arms, samples, CRITERIA, 2000)["comparisons"]
    assert (row["what"], row["seeds"]) == ("decay", 5)
    assert float(row["late_norm_ratio"].split()[0]) == pytest.approx(late)
    assert float(row["frechet_ratio"].split()[0]) == pytest.approx(frechet / 0.2)


def test_distances_are_compared_within_a_classifier(scripts, compare):
    arms = {"amsgrad_eg": norms(scripts, 1.0), compare.HALF: norms(scripts, 0.5)}
    samples = {"amsgrad_eg": quality(0.2), compare.HALF: quality(0.2, classifier="b")}
    found = compare.compare_arms(arms, samples, CRITERIA, 2000)
    assert found["predictions"] == []
    assert [row["frechet_ratio"] for row in found["comparisons"]] == [""]


WIDE = (0.5, 0.7, 1.0, 1.4, 2.0)  # says nothing: neither alike nor unlike


@pytest.mark.parametrize(
    ("decay", "plain", "verdict"),
    [
        (1.0, 2.0, "supported"),
        (0.5, 1.0, "refuted"),
        (1.0, 1.0, "inconclusive"),
        (0.5, 2.0, "inconclusive"),
        (1.0, 1.24, "inconclusive"),  # straddles a limit
    ],
)
def test_p8_asks_for_alike_and_unlike(scripts, compare, decay, plain, verdict):
    ratios = [compare.paired_ratio(dict(enumerate(r * np.array(SEEDS))), ONES, CRITERIA)
              for r in (decay, plain)]  # fmt: skip
    assert compare.word(compare.p8(*ratios, CRITERIA)) == verdict
    wide = compare.paired_ratio(dict(enumerate(WIDE)), ONES, CRITERIA)
    nothing = compare.paired_ratio({**ONES, 2: np.nan}, ONES, CRITERIA)
    for unknown in (wide, nothing):
        for pair in ((unknown, ratios[1]), (ratios[0], unknown)):
            assert compare.p8(*pair, CRITERIA) == "inconclusive"
    assert compare.p6(nothing, ratios[0], CRITERIA) == "inconclusive"


ONES = dict.fromkeys(range(5), 1.0)


def test_too_few_seeds_decide_nothing(scripts, compare):
    arms = {"amsgrad_eg": norms(scripts, 1.0, seeds=SEEDS[:2])}
    arms[compare.HALF] = norms(scripts, 0.5, seeds=SEEDS[:2])
    samples = {name: quality(0.2, count=2) for name in arms}
    assert predicted(compare, arms, samples) == {"P6": "inconclusive"}


def test_pairs_are_of_one_seed_and_leave_diverged_ones_out(scripts, compare):
    one = compare.late_norm(norms(scripts, 3.0, seeds=(1, 2, 4), diverged=[1]), CRITERIA, 2000)
    other = compare.late_norm(norms(scripts, 1.0, seeds=(1, 2, 4, 8)), CRITERIA, 2000)
    ratio = compare.paired_ratio(one, other, CRITERIA)
    assert ratio.seeds == 2
    assert ratio.interval == pytest.approx((3.0, 3.0, 3.0))


def test_p7_is_the_slope_of_the_running_mean(scripts, compare):
    arms = {"amsgrad_eg_drd power=0.25": norms(scripts, 1.0, power=-0.25, diverged=[4])}
    arms["adam"] = norms(scripts, 1.0)
    (row,) = compare.compare_arms(arms, {}, CRITERIA, 2000)["rates"]
    assert row["seeds"] == 4
    assert float(row["slope"].split()[0]) == pytest.approx(row["one_sided_mvi"], abs=5e-3)
    assert -0.5 < row["one_sided_mvi"] < row["freezing"] < 0


def test_thresholds_of_the_gate_are_varied(scripts):
    """Adam's samples are 1.5 times as far as the best: they pass at 1.875 and not at 1.25."""

    def rows(count):
        return [
            {"seed": str(seed), "step": str(step), "primal": "1", "dual": "1", "diverged": "no"}
            | dict.fromkeys(("primal_se", "dual_se", "primal_noise", "dual_noise"), "0.01")
            | dict.fromkeys(("primal_weights", "dual_weights", "primal_loss", "dual_loss"), "1")
            | dict.fromkeys(("primal_parameters", "dual_parameters"), "10")
            for seed in range(count)
            for step in STEPS
        ]

    arms = ("adam", "amsgrad_xeg", "amsgrad_eg_drd power=0.5")
    samples = dict(zip(arms, map(quality, (0.3, 0.2, 0.2)), strict=True))
    judged = scripts["_judge"].judge({a: rows(5) for a in arms}, samples, CRITERIA, 2000)
    tables = judged.tables
    passing = {row["arm"]: row["passing"] for row in tables["quality"]}
    assert passing == {"adam": 0, "amsgrad_xeg": 5, "amsgrad_eg_drd power=0.5": 5}
    varied = {
        (row["arm"], row["threshold"], row["value"]): row["passing"]
        for row in tables["gate_sensitivity"]
    }
    assert varied["adam", "gate_frechet_ratio", 1.875] == 5
    assert varied["adam", "gate_class_entropy", 0.45] == 0
    assert {arm for arm, _, _ in varied} == {"adam", "amsgrad_xeg"}  # what decays is not judged
    verdicts = {row["arm"]: row for row in tables["verdicts"]}
    assert verdicts["amsgrad_eg_drd power=0.5"]["verdict"] == "not judged"
    assert verdicts["amsgrad_eg_drd power=0.5"]["P1"] == ""
    assert verdicts["adam"]["P1"] == "refuted"
