"""The judge: known numbers, known status, against SciPy; and what a verdict says in words."""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from onesided_jax import Criteria, PrimalDual
from onesided_jax.analysis.estimators import Change
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.judge import judge_convergence, judge_negative_mass
from onesided_jax.analysis.minty import MintyTest, late_steps, naive_mvi_test, noise_mass
from onesided_jax.analysis.verdict import Runs, Verdict, convergence_verdict, minty_verdict
from onesided_jax.runs import Recipe, out_of_reach
from onesided_jax.runs.criteria import RETIRED

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
GAN = PrimalDual("generator", "discriminator")
SPREAD = np.array([0.8, 0.9, 1.0, 1.1, 1.25])  # around a geometric mean of about 1
OTHER = SPREAD[[3, 0, 4, 1, 2]]


def change(ratios, early_floored=(), late_floored=()) -> Change:
    ratios = np.asarray(ratios, float)
    early, late = (np.isin(np.arange(ratios.size), f) for f in (early_floored, late_floored))
    return Change(np.ones(ratios.size), ratios, early, late)


def verdict(primal, dual, *, gate=None, missing=(), diverged=(), criteria=None) -> Verdict:
    primal, dual = (c if isinstance(c, Change) else change(c) for c in (primal, dual))
    count = primal.ratio.size
    lost = np.isin(np.arange(count), diverged)
    runs = Runs("adam", {"b1": 0.5}, np.arange(count), lost, GAN)
    both = PrimalDual(primal, dual)
    return convergence_verdict(runs, both, gate or Gate(), list(missing), criteria or Criteria())


# A table of truths: ratios of generator and discriminator, and what must be said.
CASES = {
    "one-sided": (0.25 * SPREAD, 1.7 * OTHER, "supported", "Only the generator converges"),
    "not falling": (0.9 * SPREAD, 1.7 * OTHER, "refuted", "The generator does not converge"),
    "both fall": (0.1 * SPREAD, 0.1 * OTHER, "refuted", "The discriminator converges too"),
    "alike": (0.45 * SPREAD, 0.55 * OTHER, "refuted", "The players do not part"),
    "near the boundary": (0.47 * SPREAD, 1.7 * OTHER, "undecided", "the boundary 0.5"),
    "one seed out of line": (
        [0.2, 0.22, 0.25, 0.2, 3.0], 1.7 * OTHER, "undecided", "the boundary 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_status_and_sentence_of_known_data(name):
    primal, dual, status, words = CASES[name]
    found = verdict(primal, dual)
    assert found.status == status
    assert words in found.sentence
    assert found.claim == "only the generator converges"


@pytest.mark.parametrize("name", CASES)
def test_intervals_and_sides_against_scipy(name):
    """The rules once more, written with SciPy's own t test."""
    primal, dual, status, _ = CASES[name]
    logs = {"primal": np.log(primal), "dual": np.log(dual)}
    logs["parting"] = logs["dual"] - logs["primal"]
    lines = {"primal": 0.5, "dual": 0.5, "parting": 2.0}
    found = verdict(primal, dual)
    right, wrong = [], []
    for statistic, values in logs.items():
        test = stats.ttest_1samp(values, math.log(lines[statistic]))
        low, high = np.exp(test.confidence_interval(0.95))
        mean = stats.gmean(np.exp(values))
        assert found.numbers[statistic] == pytest.approx([mean, low, high])
        wide = np.exp(test.confidence_interval(1 - 0.05 / 3))
        below = statistic == "primal"
        right.append(high < lines[statistic] if below else low > lines[statistic])
        wrong.append(wide[0] > lines[statistic] if below else wide[1] < lines[statistic])
    assert status == ("refuted" if any(wrong) else "supported" if all(right) else "undecided")
    assert (found.effect, *found.interval) == pytest.approx(found.numbers["primal"])


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=8), st.floats(0.1, 10))
@settings(deadline=None, max_examples=50)
def test_the_boundary_moves_with_the_data(ratios, scale):
    """Scaling the ratios and the boundary alike changes no status."""
    first = judge_convergence(change(ratios), change(ratios), Criteria())[1]["primal"]
    moved = Criteria(generator_falls=0.5 * scale)
    again = judge_convergence(change(np.multiply(ratios, scale)), change(ratios), moved)[1]
    assert again["primal"].effect == pytest.approx(scale * first.effect)
    assert again["primal"].side == first.side


@pytest.mark.parametrize(
    ("primal", "dual", "status"),
    [
        # R_G at a floor is an upper bound: it supports "falls".
        (change([1e-12] * 5, late_floored=range(5)), change(1.0 * SPREAD), "supported"),
        # An early norm at its floor makes R_G a lower bound: it cannot.
        (change([0.1] * 5, early_floored=range(5)), change(1.0 * SPREAD), "undecided"),
        # A late norm of the discriminator at its floor: it may have fallen further.
        (change(0.2 * SPREAD), change([1.0] * 5, late_floored=range(5)), "undecided"),
        # Two of five seeds at the floor are only counted.
        (change(0.2 * SPREAD), change([1.0] * 5, late_floored=(0, 1)), "supported"),
        # Both at rounding from the start: nothing is known.
        (change([1.0] * 5, range(5), range(5)), change([1.0] * 5, range(5), range(5)), "undecided"),
    ],
)
def test_a_floor_is_a_number_that_does_not_carry_the_side_it_favours(primal, dual, status):
    found = verdict(primal, dual)
    assert found.status == status
    floored = np.any([*primal[2:], *dual[2:]], axis=0).sum()
    assert found.numbers["floored"] == floored
    assert "below its noise floor" in found.sentence
    assert np.isfinite(found.effect)


def test_exact_games_may_have_an_interval_of_width_zero():
    found = verdict([1e-12] * 3, [1.0] * 3)
    assert found.status == "supported"
    assert found.interval == pytest.approx((1e-12, 1e-12))


def test_diverged_seeds_and_those_without_a_number_are_left_out_and_counted():
    primal, dual = [0.2, 0.25, 0.3, 9.0, np.nan], [1.5, 1.4, 1.6, 1.0, 1.0]
    found = verdict(primal, dual, diverged=[3])
    assert found.status == "supported"
    assert (found.numbers["runs"], found.numbers["left_out"]) == (3, 2)
    assert found.effect == pytest.approx(stats.gmean([0.2, 0.25, 0.3]))
    assert "2 of 5 runs diverged and are left out." in found.sentence


@pytest.mark.parametrize(
    ("count", "missing", "words"),
    [
        (1, [], "Undecided: 1 seed, 3 needed. The generator's late gradient norm is 0.2"),
        (2, [], "Undecided: 2 seeds, 3 needed."),
        (5, ["no checkpoint between 5% and 10% of the run"], "Undecided: no checkpoint between"),
        (5, ["a learning rate decays"], "Undecided: a learning rate decays. The generator's"),
        (0, [], "Undecided: 0 seeds, 3 needed."),
    ],
)
def test_what_is_missing_is_said_and_the_effect_is_shown(count, missing, words):
    found = verdict((0.25 * SPREAD)[:count], (1.7 * SPREAD)[:count], missing=missing)
    assert found.status == "undecided"
    assert found.sentence.startswith(words)
    assert np.isfinite(found.effect) == (count > 0)
    assert found.numbers["missing"]


@pytest.mark.parametrize(
    ("passing", "does"), [((0, 1, 2, 3), True), ((0, 1, 2), False), ((), False)]
)
def test_the_gate_is_counted_and_changes_no_status(passing, does):
    passes = np.isin(np.arange(5), passing)
    gate = Gate(passes, ["" if p else "bad" for p in passes])
    found = verdict(0.25 * SPREAD, 1.7 * SPREAD, gate=gate)
    assert found.status == "supported"
    assert f"{len(passing)} of 5 runs pass the quality gate" in found.sentence
    assert ("training counts as successful" in found.sentence) == does
    again = found.numbers["passing"]
    assert again["runs"] == len(passing)
    assert again["status"] == ("supported" if len(passing) >= 3 else "undecided")
    if passing:
        assert again["primal"][0] == pytest.approx(stats.gmean(0.25 * SPREAD[list(passing)]))
    assert "quality gate" not in verdict(0.25 * SPREAD, 1.7 * SPREAD).sentence


# ---------------------------------------------------------------- the one-sided MVI


def minty(mass, *, cosine=0.1, noise=0.0, **controls) -> MintyTest:
    none = np.zeros((2, 2))
    return MintyTest(none, none, none, np.array([0.7, np.nan]), mass, noise, cosine, controls)


def mvi(masses, *, x_star="end of the run", missing=(), noise=0.0, **controls) -> Verdict:
    tests = [minty(mass, noise=noise, **controls) for mass in masses]
    runs = Runs("adam", {}, np.arange(len(tests)), np.zeros(len(tests), bool), GAN)
    return minty_verdict(runs, tests, x_star, list(missing), Criteria())


MASSES = {
    "nearly none": ([0.01, 0.02, 0.03], {}, "supported", "The one-sided MVI holds"),
    "none at all": ([0.0, 0.0, 0.0], {}, "supported", "0% [0%, 0%] of the cross matrix"),
    "much": ([0.4, 0.42, 0.44], {}, "refuted", "The one-sided MVI fails"),
    "straddles": ([0.02, 0.1, 0.15], {}, "undecided", "too close to the boundary 10%"),
    "control passes": ([0.01, 0.02, 0.03], {"start": 0.01}, "undecided", "start passes too"),
    "control fails": ([0.01, 0.02, 0.03], {"start": 0.5}, "supported", "holds"),
    "known x*": ([0.0] * 3, {"start": 0.0, "x_star": "known"}, "supported", "holds"),
    "noise": ([0.4, 0.42, 0.44], {"noise": 0.14}, "undecided", "noise alone would give 14%"),
    "little noise": ([0.4, 0.42, 0.44], {"noise": 0.02}, "refuted", "fails"),
    "two seeds": ([0.01, 0.02], {}, "undecided", "Undecided: 2 seeds, 3 needed. Negative"),
    "no test": ([], {"missing": ["too few checkpoints"]}, "undecided", "too few checkpoints"),
}


@pytest.mark.parametrize("name", MASSES)
def test_table_of_negative_masses(name):
    masses, options, status, words = MASSES[name]
    found = mvi(masses, **options)
    assert found.status == status
    assert words in found.sentence
    if masses:
        if np.ptp(masses):
            low, high = stats.t.interval(0.95, len(masses) - 1, np.mean(masses), stats.sem(masses))
            expected = (np.mean(masses), max(low, 0), min(high, 1))
            assert (found.effect, *found.interval) == pytest.approx(expected)
        assert found.numbers["cosine"][0] == pytest.approx(0.1)
        assert ("The gradient at x* is 0.7" in found.sentence) == ("x_star" not in options)
        drifts = status == "supported" and "x_star" not in options
        assert ("generator passes too if it only drifts towards x*" in found.sentence) == drifts


@pytest.mark.parametrize(("mean", "error"), [(1.0, 1.0), (1.0, 2.0), (0.5, 0.1)])
def test_noise_mass_against_simulation(mean, error):
    x = np.random.default_rng(0).normal(mean, error, 200_000)
    simulated = np.maximum(-x, 0).sum() / np.abs(x).sum()
    found = noise_mass(np.full((2, 2), -mean), np.full((2, 2), error))
    assert found == pytest.approx(simulated, rel=0.03, abs=1e-6)


def test_pure_noise_refutes_and_supports_nothing():
    rng = np.random.default_rng(1)
    entries = rng.normal(size=(5, 12, 12))
    masses = np.array([np.maximum(-m, 0).sum() / np.abs(m).sum() for m in entries])
    noise = np.array([noise_mass(m, np.ones_like(m)) for m in entries])
    status, _, why = judge_negative_mass(masses, noise, {}, Criteria())
    assert status == "undecided"
    assert "noise alone" in why


@pytest.mark.parametrize(
    ("steps", "most", "expected"),
    [
        (range(0, 101, 5), 4, [70, 80, 85, 95]),
        (range(0, 101, 10), 12, [50, 60, 70, 80, 90]),  # three in the last third are too few
        (range(0, 101, 25), 12, [25, 50, 75]),
        ([0, 50, 100], 12, []),
        ([0], 12, []),
    ],
)
def test_rows_are_late_checkpoints_without_the_end(steps, most, expected):
    assert late_steps(list(steps), most) == expected


def test_naive_test_passes_on_pure_noise_because_it_is_an_identity():
    for seed in range(5):
        g = np.random.default_rng(seed).normal(size=(400, 200))
        x = np.concatenate([[np.zeros(200)], -0.1 * np.cumsum(g, axis=0)])[:-1]
        fraction, total = naive_mvi_test(x, g)
        assert fraction > 0.8
        assert total > 0
        fresh, _ = naive_mvi_test(x, np.random.default_rng(seed + 100).normal(size=g.shape))
        assert 0.3 < fresh < 0.7
    x = np.random.default_rng(0).normal(size=8) * 1.01 ** np.arange(400)[:, None]
    assert naive_mvi_test(x, -x)[0] == 1.0  # a function without any MVI


# ---------------------------------------------------------------- verdicts and criteria

ALL_PASS = Gate(np.ones(5, bool), [""] * 5)
EVERY = [
    *(verdict(*case[:2]) for case in CASES.values()),
    *(mvi(masses, **options) for masses, options, *_ in MASSES.values()),
    verdict(
        change([0.1] * 5, range(5)),
        1.7 * SPREAD,
        diverged=[0],
        gate=Gate(np.ones(5, bool), [""] * 5),
    ),
]


@pytest.mark.parametrize("found", EVERY, ids=lambda found: found.sentence[:40])
def test_sentences_are_plain(found):
    sentences = re.split(r"(?<=[.:])\s", found.sentence)
    assert all(len(sentence.split()) <= 25 for sentence in sentences)
    assert "nan" not in found.sentence
    assert not re.search(r"\bP\d\b", found.sentence)


@pytest.mark.parametrize("found", EVERY, ids=lambda found: found.sentence[:40])
def test_json_is_strict_and_has_the_same_fields(found):
    text = json.dumps(found.to_json(), allow_nan=False)
    fields = "claim cell setting status effect interval sentence numbers"
    assert list(json.loads(text)) == fields.split()


def test_a_verdict_is_no_bool():
    with pytest.raises(TypeError, match="status"):
        bool(verdict(0.25 * SPREAD, 1.7 * SPREAD))


@pytest.mark.parametrize(
    ("field", "value", "expectation"),
    [
        ("early_window", (0.2, 0.1), "begin < end"),
        ("early_window", (0.1, 0.9), "before late_window"),
        ("late_window", (0.0, 1.0), "0 < begin"),
        ("late_window", "late", "two fractions"),
        ("generator_falls", 0, "above 0"),
        ("discriminator_stays", float("nan"), "above 0"),
        ("parting", float("inf"), "finite"),
        ("negative_mass", 1.0, "between 0 and 1"),
        ("confidence", True, "between 0 and 1"),
        ("gate_modes", 1.1, "at most 1"),
        ("min_seeds", 1, "at least 2"),
        ("microbatches", 2.5, "an integer"),
    ],
)
def test_criteria_name_the_bad_field(field, value, expectation):
    with pytest.raises(ValueError, match=rf"Criteria\.{field} = .*{re.escape(expectation)}"):
        Criteria(**{field: value})


OLD = {"early_window": [0.05, 0.25], "level": 0.95, "alpha": 0.01, "primal_ratio_supported": 0.5}


def recipe(**changes) -> dict:
    rates = {"primal_learning_rate": [0.1], "dual_learning_rate": [0.1]}
    fields = {"name": "r", "game": {"name": "bilinear"}, "seeds": [0, 1, 2], "steps": 40}
    fields |= {"optimizers": [{"name": "sgda", "axes": rates}], "checkpoint_every": 2}
    return fields | changes


def test_a_manifest_of_version_0_1_can_still_be_read():
    found = Recipe.from_dict(recipe(criteria=OLD))
    assert found.criteria == Criteria(early_window=(0.05, 0.25))


@pytest.mark.parametrize("name", RETIRED)
def test_a_recipe_file_with_a_retired_field_is_one_error(name):
    with pytest.raises(ValueError, match=f"'{name}' is a field of version 0.1") as error:
        Recipe.from_json(json.dumps(recipe(criteria={name: 1})))
    assert RETIRED[name] in str(error.value)
    assert RETIRED[name] in ("", *Criteria.__dataclass_fields__)
    assert name not in Criteria.__dataclass_fields__


def test_an_unknown_field_is_one_error():
    with pytest.raises(ValueError, match="did you mean 'confidence'"):
        Recipe.from_json(json.dumps(recipe(criteria={"confidense": 0.9})))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"seeds": [0]}, ["1 seed, 3 needed"]),
        ({"checkpoint_every": 10}, ["no checkpoint lies in the early_window (5% to 10%"]),
    ],
)
def test_what_a_recipe_cannot_reach_is_known_before_training(changes, words):
    said = out_of_reach(Recipe.from_dict(recipe(**changes)))
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


# ---------------------------------------------------------------- the simulation


def test_the_simulation_goes_through_the_same_judge(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    module = importlib.import_module("simulated_verdicts")
    assert module.judge_convergence is judge_convergence
    module.main(["--repeats", "2", "--out", str(tmp_path / "table.csv")])
    with (tmp_path / "table.csv").open() as file, module.OUT.open() as committed:
        rows, kept = list(csv.DictReader(file)), list(csv.DictReader(committed))
    cases = [(row["truth"], row["spread"], row["shape"], row["seeds"]) for row in rows]
    assert cases == [(row["truth"], row["spread"], row["shape"], row["seeds"]) for row in kept]
    for row in kept:
        if row["is_boundary"] == "yes":
            assert float(row["supported"]) <= 0.05
            assert float(row["refuted"]) <= 0.05
