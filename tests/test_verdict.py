"""The verdicts: every row of the table of claims, every control, and data that must not pass."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesided_jax.analysis.convergence_verdict import one_sided_convergence
from onesided_jax.analysis.estimators import SquaredNorm, exact_squared_norm
from onesided_jax.analysis.gate import Gate, no_gate
from onesided_jax.analysis.inference import mean_t, significant_signs
from onesided_jax.analysis.mvi_verdict import (
    SignFractions,
    naive_mvi_test,
    one_sided_mvi,
    sign_fractions,
)
from onesided_jax.players import PrimalDual
from onesided_jax.runs.criteria import Criteria

CRITERIA = Criteria()
STEPS = np.arange(5, 2001, 5)
SEEDS = np.linspace(-1, 1, 5)


def power_law(exponents, error=0.05):
    """Squared norms t^a, one exponent per seed: slope a and R = 6^(a / 2)."""
    value = (STEPS / STEPS[0]) ** np.asarray(exponents, float)[:, None]
    return SquaredNorm(value, error * value, value, np.ones_like(value))


def around(exponent, spread=0.05):
    return exponent + spread * SEEDS


def convergence(primal, dual, **changes):
    primal = primal if isinstance(primal, SquaredNorm) else power_law(primal)
    dual = dual if isinstance(dual, SquaredNorm) else power_law(dual)
    options = {
        "optimizer": "adam",
        "hyperparameters": {"b1": np.float32(0.5)},
        "steps": STEPS,
        "total_steps": 2000,
        "diverged": np.zeros(len(primal.value), bool),
        "criteria": CRITERIA,
        "constant_rates": True,
        "exact": False,
    }
    return one_sided_convergence(primal=primal, dual=dual, **(options | changes))


# exponents of (primal, dual): what the table says of P1, P2, P3, and of the claim
TABLE = {
    "all supported": ((-1.3, 0.0), (True, True, True), True),
    "dual grows": ((-1.3, 1.0), (True, True, True), True),
    "primal flat": ((0.0, 0.0), (False, True, "?"), False),
    "primal between": ((-0.6, 0.3), ("?", True, True), "?"),
    "dual falls too": ((-3.5, -2.2), (True, False, True), False),
    "dual between": ((-3.0, -1.0), (True, "?", True), "?"),
    "dual slope too steep": ((-2.0, -0.5), (True, "?", True), "?"),
    "dual falls, primal grows": ((0.3, -0.3), (False, "?", False), False),
    "dual falls faster": ((-1.3, -2.3), (True, False, False), False),
    "gap without a ratio of two": ((-1.1, -0.1), (True, True, True), True),
    "gap too small": ((-1.0, -0.3), (True, "?", "?"), "?"),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_of_claims(name):
    (primal, dual), parts, holds = TABLE[name]
    verdict = convergence(around(primal), around(dual, -0.05))
    judged = [verdict.details[f"P{i}"]["holds"] for i in (1, 2, 3)]
    assert judged == ["inconclusive" if p == "?" else p for p in parts]
    assert verdict.holds == ("inconclusive" if holds == "?" else holds)
    assert verdict.value == pytest.approx(np.mean(6 ** (around(primal) / 2)), rel=0.01)
    assert verdict.ci_low <= verdict.value <= verdict.ci_high


STRADDLES = {  # claim, exponents (primal, dual), the statistic whose mean alone would judge
    "P1 support": ("P1", around(-1.3, 1.2), around(0.0), lambda p: p["primal_ratio"].mean < 0.5),
    "P1 refute": ("P1", around(0.0, 0.5), around(0.0), lambda p: p["primal_ratio"].mean > 0.8),
    "P2 support": ("P2", around(-1.3), around(-0.5, 0.9), lambda p: p["dual_ratio"].mean > 0.5),
    "P2 slope": ("P2", around(-1.3), around(-0.1, 0.3), lambda p: p["dual_slope"].mean > -0.2),
    "P2 refute": ("P2", around(-1.3), around(-2.3, 1), lambda p: p["dual_ratio"].mean < 0.2),
    "P3 support": (
        "P3",
        np.array([-1.3, -1.3, -1.3, -1.3, 3.0]),
        np.zeros(5),
        lambda p: p["slope_difference"].mean > 0 and p["ratio_of_ratios_share"] == 0.8,
    ),
    "P3 refute": ("P3", around(0.0), around(-0.5, 1), lambda p: p["slope_difference"].mean < 0),
}


@pytest.mark.parametrize("name", STRADDLES)
def test_an_interval_that_straddles_a_threshold_judges_nothing(name):
    claim, primal, dual, mean_would_judge = STRADDLES[name]
    slope = -0.2 if name == "P2 slope" else -5.0  # else the slope must not be what decides
    criteria = Criteria(dual_slope_supported=slope)
    part = convergence(primal, dual, criteria=criteria).details[claim]
    assert mean_would_judge(part)
    assert part["holds"] == "inconclusive"


@pytest.mark.parametrize("rising", [5, 1])
def test_a_falling_ratio_without_a_falling_slope_does_not_support_p1(rising):
    dip = np.where(np.arange(5) < rising, 1e-6, 0.1)[:, None]
    value = np.where(STEPS < 320, 1.0, np.where(STEPS < 560, dip, 0.1))
    verdict = convergence(SquaredNorm(value, value / 9, value, value), around(0))
    slope = verdict.details["P1"]["primal_slope"]
    assert verdict.ci_high < 0.5
    assert slope.high > 0
    assert (slope.mean > 0) == (rising == 5)
    assert verdict.details["P1"]["holds"] == "inconclusive"


def test_p3_needs_the_ratio_in_four_of_five_seeds():
    gap = 0.9 * np.ones(5)  # R_D / R_G = 6^.45 = 2.24
    for small, expected in ((1, True), (2, "inconclusive")):
        dual = np.r_[np.full(small, -0.4), np.full(5 - small, -0.1)]
        primal = np.r_[np.full(small, -1.1), -0.1 - gap[small:]]  # 6^.35 = 1.87
        verdict = convergence(primal, dual)
        assert verdict.details["P3"]["slope_difference"].low > 0
        assert verdict.details["P3"]["ratio_of_ratios_share"] == (5 - small) / 5
        assert verdict.details["P3"]["holds"] == expected


@pytest.mark.parametrize(("primal", "dual"), [(-1.3, 0.0), (0.0, -2.5)])
def test_fewer_than_five_seeds_are_inconclusive(primal, dual):
    five = convergence(around(primal), around(dual))
    assert five.holds is (primal < dual)
    four = convergence(around(primal)[:4], around(dual)[:4])
    assert four.holds == "inconclusive"
    assert "the rule asks for 5 seeds" in four.reason
    assert convergence(around(primal)[:0], around(dual)[:0]).holds == "inconclusive"


def test_diverged_seeds_are_left_out_and_counted():
    primal, dual = power_law(np.r_[around(-1.3), 0.0]), power_law(np.r_[around(0.0), 9.0])
    for norm in (primal, dual):
        norm.value[5, 200:] = np.nan
        norm.value[5, 300:] = np.inf
    verdict = convergence(primal, dual, diverged=np.arange(6) == 5)
    assert verdict.holds is True
    assert verdict.runs == 5
    assert "5 of 6 seeds (1 diverged)" in verdict.reason
    verdict = convergence(primal, dual, diverged=np.arange(6) >= 4)
    assert (verdict.holds, verdict.runs) == ("inconclusive", 4)
    assert verdict.details["not_judged"] == "4 seeds, 5 needed"


@pytest.mark.parametrize("player", ["primal", "dual"])
@pytest.mark.parametrize("window", ["late", "bin"])
def test_a_seed_below_the_noise_floor_is_never_dropped(player, window):
    norms = {"primal": power_law(np.r_[around(-1.3), -1.3]), "dual": power_law(np.zeros(6))}
    if window == "late":
        norms[player].value[5, STEPS >= 1600] = -1e-3
    else:  # R is a number, the slope is not
        norms[player].standard_error[5, (STEPS > 900) & (STEPS < 1200)] = 1e3
    verdict = convergence(**norms)
    assert verdict.holds == "inconclusive"
    assert "1 without a number" in verdict.reason
    assert verdict.runs == 6
    assert np.isnan(verdict.details["P3"]["slope_difference"].mean)
    # Without the rule, five seeds with numbers would have said true:
    five = {name: SquaredNorm(*(f[:5] for f in norm)) for name, norm in norms.items()}
    assert convergence(**five).holds is True


def test_refutation_does_not_need_the_statistics_it_does_not_use():
    primal = power_law(around(0.0))
    primal.standard_error[0] = 1e3  # no slope, but a ratio near 1
    verdict = convergence(primal, around(0.0))
    assert verdict.details["P1"]["holds"] is False
    assert verdict.holds is False
    assert verdict.details["not_judged"] == ""


def test_a_window_without_a_checkpoint_is_said_and_leaves_the_rest():
    primal, dual = (
        SquaredNorm(*(field[:, -5:] for field in norm))
        for norm in map(power_law, (around(-1.3), around(0.0)))
    )
    verdict = convergence(primal, dual, steps=STEPS[-5:])
    assert verdict.holds == "inconclusive"
    assert "no checkpoint lies in the early window (0.05 to 0.25 of the run)" in verdict.reason
    assert np.isnan(verdict.value)
    window = "no checkpoint in the early window (0.05 to 0.25 of the run)"
    assert verdict.details["not_judged"] == window


@pytest.mark.parametrize("primal", [-1.03, -1.0, 0.0])
def test_arms_with_decaying_rates_are_never_judged(primal):
    """N1 and N2 under dual rate decay: slopes -1.03 and -1.00 without any MVI."""
    assert convergence(around(primal, 0.01), around(0.0)).holds is (primal < 0)
    verdict = convergence(around(primal, 0.01), around(0.0), constant_rates=False)
    assert verdict.holds == "inconclusive"
    assert "freezing the dual alone" in verdict.reason
    assert verdict.details["not_judged"] == "a learning rate decays"
    assert json.loads(json.dumps(verdict.to_json()))["details"]["constant_rates"] is False


def test_exact_games_may_have_an_interval_of_width_zero():
    primal = exact_squared_norm(np.tile(np.where(STEPS < 500, 1.0, 0.0), (5, 1)))
    verdict = convergence(primal, exact_squared_norm(np.ones_like(primal.value)), exact=True)
    assert verdict.holds is True
    assert verdict.ci_low == verdict.value == verdict.ci_high
    assert 0 < verdict.value < 1e-100


def test_a_game_at_rounding_from_the_start_is_not_refuted():
    primal = exact_squared_norm(np.full((5, STEPS.size), 1e-31))
    dual = exact_squared_norm(np.ones((5, STEPS.size)))
    assert convergence(primal, dual, exact=True).holds is False
    verdict = convergence(primal, dual, exact=True, floor=PrimalDual(1e-30, 1e-30))
    assert verdict.holds == "inconclusive"
    assert "5 without a number" in verdict.reason


def test_every_player_has_a_rounding_floor_of_its_own():
    """A dual player that is at rest, to its own rounding, is not one that does not converge."""
    primal = exact_squared_norm(np.tile(1 / STEPS.astype(float), (5, 1)))
    dual = exact_squared_norm(np.full((5, STEPS.size), 2.9e-10))
    assert convergence(primal, dual, exact=True, floor=PrimalDual(1e-13, 1e-13)).holds is True
    verdict = convergence(primal, dual, exact=True, floor=PrimalDual(1e-13, 1e-9))
    assert verdict.holds == "inconclusive"
    assert verdict.details["P2"]["holds"] == "inconclusive"


def gate(passes, note=""):
    passes = np.asarray(passes)
    return Gate(passes, ["" if p else "too blurred" for p in passes], note, {"frechet": 0.1})


GATES = {  # primal exponents of passing and of failing seeds, all duals flat: P4, claim
    "holds in both": ((-1.3, -1.3), True, True),
    "holds only in failing": ((0.0, -1.3), False, False),
    "does not hold in failing": ((-1.3, 0.0), True, "inconclusive"),
    "undecided in passing": ((-0.6, -1.3), "inconclusive", "inconclusive"),
    "holds in neither": ((0.0, 0.0), "inconclusive", False),
}


@pytest.mark.parametrize("name", GATES)
def test_quality_gate(name):
    (passing, failing), p4, holds = GATES[name]
    primal = np.r_[around(passing, 0.01), around(failing, 0.01)]
    verdict = convergence(primal, np.zeros(10), quality_gate=gate(np.arange(10) < 5))
    assert verdict.details["P4"]["holds"] == p4
    assert verdict.holds == holds


@pytest.mark.parametrize(
    ("passing", "expected"), [(0, "inconclusive"), (2, "inconclusive"), (3, True)]
)
def test_three_seeds_must_pass_the_gate(passing, expected):
    verdict = convergence(
        around(-1.3, 0.01), np.zeros(5), quality_gate=gate(np.arange(5) < passing)
    )
    assert verdict.details["P4"]["holds"] == verdict.holds == expected
    assert verdict.details["P4"]["passing_seeds"] == passing


def test_a_diverged_seed_does_not_pass_the_gate():
    verdict = convergence(
        np.r_[around(-1.3, 0.01), -1.3],
        np.zeros(6),
        quality_gate=gate(np.arange(6) >= 3),
        diverged=np.arange(6) == 5,
    )
    assert verdict.details["P4"]["passing_seeds"] == 2
    assert verdict.holds == "inconclusive"


def test_the_verdict_says_what_the_gate_left_out():
    note = "the absolute part was not evaluated"
    verdict = convergence(
        around(-1.3), np.zeros(5), quality_gate=gate([True, True, False, True, True], note)
    )
    assert verdict.reason.endswith(f"4 of 5 seeds pass the quality gate ({note}).")
    told = json.loads(json.dumps(verdict.to_json(), allow_nan=False))["details"]["quality_gate"]
    assert told == {
        "passes": [True, True, False, True, True],
        "reasons": ["", "", "too blurred", "", ""],
        "note": note,
        "limits": {"frechet": 0.1},
    }
    lost = np.arange(5) >= 4
    verdict = convergence(
        around(-1.3), np.zeros(5), quality_gate=gate(np.arange(5) < 3), diverged=lost
    )
    assert verdict.reason.endswith("3 of 4 seeds pass the quality gate.")


@pytest.mark.parametrize("given", [None, no_gate("none was asked for")])
def test_without_a_gate_the_verdict_is_p1_to_p3_and_says_so(given):
    verdict = convergence(around(-1.3), around(0.0), quality_gate=given)
    assert verdict.holds is True
    assert "P4" not in verdict.details
    assert verdict.reason.endswith("No quality gate was evaluated (none was asked for).")
    told = json.loads(json.dumps(verdict.to_json(), allow_nan=False))["details"]["quality_gate"]
    assert told["passes"] is None
    assert told["note"] == "none was asked for"


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"expected \[R, S\]"):
        convergence(around(0), around(0), diverged=np.zeros(4, bool))


KEYS = [
    "claim",
    "optimizer",
    "holds",
    "value",
    "ci_low",
    "ci_high",
    "runs",
    "hyperparameters",
    "reason",
    "details",
    "measure",
]


@pytest.mark.parametrize("seeds", [1, 5])
def test_json_is_strict(seeds):
    both = [
        convergence(around(-1.3)[:seeds], np.zeros(seeds), quality_gate=gate(np.ones(seeds, bool))),
        mvi(0.0, 0.9, seeds=seeds),
    ]
    for verdict in both:
        parsed = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
        assert list(parsed) == KEYS
        assert (parsed["ci_low"] is None) == (seeds == 1)
        assert parsed["holds"] == (True if seeds == 5 else "inconclusive")
        assert parsed["reason"].endswith(".")
        assert parsed["runs"] == seeds
    assert parsed["hyperparameters"] == {}
    parsed = both[0].to_json()
    assert parsed["hyperparameters"] == {"b1": 0.5}
    assert set(parsed["details"]["P1"]["primal_ratio"]) == {"mean", "low", "high"}


# ---------------------------------------------------------------- one-sided MVI

COIN = SignFractions(np.full(20, 0.5), np.full(20, 0.5))
PASSES = SignFractions(np.full(20, 0.0), np.full(20, 0.9))


def mvi(negative, positive, *, seeds=5, size=20, spread=0.0, **changes):
    """Cross matrices whose off-diagonal entries hold the given fractions, shuffled."""
    rng = np.random.default_rng(0)
    off, count = ~np.eye(size, dtype=bool), size * (size - 1)
    signs = np.zeros((seeds, size, size), int)
    for seed, shift in enumerate(spread * np.linspace(-1, 1, seeds)):
        n, p = round((negative + shift) * count), round((positive - shift) * count)
        signs[seed, off] = rng.permutation(np.repeat([-1, 1, 0], [n, p, count - n - p]))
    options = {
        "optimizer": "adam",
        "hyperparameters": {},
        "signs": signs,
        "valid": np.ones_like(signs, bool),
        "target": "held-out continuation",
        "criteria": CRITERIA,
        "null": COIN,
        "fresh_dual": COIN,
    }
    return one_sided_mvi(**(options | changes))


@pytest.mark.parametrize(
    ("negative", "positive", "spread", "holds"),
    [
        (0.0, 1.0, 0.0, True),
        (0.02, 0.7, 0.01, True),
        (0.02, 0.45, 0.0, "inconclusive"),  # too few positive
        (0.1, 0.9, 0.0, "inconclusive"),  # between the thresholds
        (0.05, 0.9, 0.05, "inconclusive"),  # straddles
        (0.04, 0.9, 0.04, "inconclusive"),
        (0.02, 0.505, 0.02, "inconclusive"),
        (0.25, 0.7, 0.1, "inconclusive"),
        (0.3, 0.7, 0.05, False),
        (0.9, 0.05, 0.05, False),
        (0.0, 0.0, 0.0, "inconclusive"),  # nothing significant
    ],
)
def test_table_of_p5(negative, positive, spread, holds):
    verdict = mvi(negative, positive, spread=spread)
    assert verdict.holds == holds
    assert verdict.value == pytest.approx(negative, abs=2e-3)
    assert 0 <= verdict.ci_low <= verdict.value <= verdict.ci_high <= 1
    assert verdict.details["P5"]["positive"].mean == pytest.approx(positive, abs=2e-3)


def test_the_interval_of_a_fraction_stays_a_fraction():
    signs = np.ones((5, 20, 20), int)
    signs[0, :, ::2] = -1
    verdict = mvi(0, 0, signs=signs)
    assert (verdict.ci_low, verdict.details["P5"]["positive"].high) == (0, 1)
    assert verdict.value == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(("negative", "positive"), [(0.0, 1.0), (0.9, 0.1)])
def test_p5_rules_of_size(negative, positive):
    assert mvi(negative, positive).holds is (negative == 0)
    few = mvi(negative, positive, seeds=4)
    assert few.holds == "inconclusive"
    assert "asks for 5 seeds" in few.reason
    small = mvi(negative, positive, size=19)
    assert small.holds == "inconclusive"
    assert "20 rows and columns" in small.reason
    truncated = np.ones((5, 20, 20), bool)
    truncated[:, 10:] = False
    assert mvi(negative, positive, valid=truncated).holds is (negative == 0)
    truncated[3, 9] = False
    short = mvi(negative, positive, valid=truncated)
    assert short.holds == "inconclusive"
    assert "leaves 1 of the seeds with less than 50% of the rows" in short.reason


@pytest.mark.parametrize("control", ["null", "fresh_dual"])
@pytest.mark.parametrize(
    ("given", "target", "holds"),
    [
        (COIN, "held-out continuation", True),
        (None, "held-out continuation", "inconclusive"),  # a control that was not run
        (None, "known x*", True),
        (PASSES, "held-out continuation", "inconclusive"),  # no power
        (PASSES, "known x*", "inconclusive"),
        (SignFractions(COIN.negative[:19], COIN.positive[:19]), "known x*", "inconclusive"),
        (SignFractions(0 * COIN.negative, 0 * COIN.positive), "held-out continuation", True),
        (SignFractions(np.full(20, np.nan), COIN.positive), "known x*", "inconclusive"),
    ],
)
def test_null_controls(control, given, target, holds):
    verdict = mvi(0.0, 0.9, target=target, **{control: given})
    assert verdict.holds == holds
    assert (control in verdict.reason) == (holds != True)  # noqa: E712
    assert mvi(0.5, 0.5, target=target, **{control: given}).holds is False


@pytest.mark.parametrize(
    ("negative", "holds"), [(np.full(5, 0.9), True), (np.zeros(5), "inconclusive")]
)
def test_the_flipped_dual_must_be_refuted(negative, holds):
    flipped = SignFractions(negative, 0.9 - negative)
    assert mvi(0.0, 0.9, flipped_dual=flipped).holds == holds
    assert mvi(0.0, 0.9, flipped_dual=None).holds is True


def test_diagonal_and_truncated_entries_do_not_count():
    signs = np.ones((5, 20, 20), int)
    signs[:, np.arange(20), np.arange(20)] = -1
    assert mvi(0, 0, signs=signs).value == 0
    signs[:, :, 15:] = -1
    assert mvi(0, 0, signs=signs).value > 0.2
    assert mvi(0, 0, signs=signs, valid=np.tile(np.arange(20) < 15, (5, 20, 1))).value == 0
    wide = np.ones((5, 20, 25), int)
    with pytest.raises(ValueError, match="expected off_diagonal"):
        mvi(0, 0, signs=wide, valid=wide == 1)
    wide[:, :, 20:] = -1
    mask = np.tile(np.arange(25) < 20, (20, 1))
    assert mvi(0, 0, signs=wide, valid=wide != 0, off_diagonal=mask).value == 0


def test_an_own_final_iterate_is_no_target():
    with pytest.raises(ValueError, match="target = 'own final iterate'"):
        mvi(0, 1, target="own final iterate")
    with pytest.raises(ValueError, match=r"\[R, S, T\] twice"):
        mvi(0, 1, valid=np.ones((5, 20, 19), bool))


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=6, max_size=6))
def test_sign_fractions_are_shares(signs):
    matrix = np.reshape(signs, (2, 3))
    fractions = sign_fractions(matrix, True)
    assert fractions.negative == signs.count(-1) / 6
    assert fractions.positive == signs.count(1) / 6
    flipped = sign_fractions(-matrix, True)
    assert (flipped.negative, flipped.positive) == (fractions.positive, fractions.negative)
    assert np.isnan(sign_fractions(matrix, False).negative)


# ---------------------------------------------------------------- the tautology


def noise_path(seed, steps=360, n=200, rate=0.1):
    """Plain descent on gradients that are noise: ``(iterates [T, n], gradients [T, n])``."""
    gradients = np.random.default_rng(seed).normal(size=(steps, n))
    iterates = np.concatenate([np.zeros((1, n)), -rate * np.cumsum(gradients[:-1], 0)])
    return iterates, gradients


def test_naive_test_passes_on_pure_noise_because_it_is_an_identity():
    rate = 0.1
    fractions = []
    for seed in range(10):
        x, g = noise_path(seed, rate=rate)
        fraction, total = naive_mvi_test(x, g)
        identity = ((x[0] - x[-1]) ** 2).sum() / (2 * rate) + rate / 2 * (g[:-1] ** 2).sum()
        assert total == pytest.approx(identity, rel=1e-12)
        assert total > 0
        fractions.append(fraction)
        fresh, _ = naive_mvi_test(x, np.random.default_rng(seed + 100).normal(size=g.shape))
        assert fresh == pytest.approx(0.5, abs=0.12)
    assert np.mean(fractions) == pytest.approx(0.87, abs=0.02)


def test_naive_test_passes_on_a_function_without_any_mvi():
    """f = -|x|^2 / 2: full-batch gradients do not cure the tautology."""
    x = 1.1 ** np.arange(50)[:, None] * np.ones(3)
    assert naive_mvi_test(x, -x)[0] == 1.0


def test_one_sided_mvi_does_not_pass_on_the_same_noise():
    signs = []
    for seed in range(5):
        x, _ = noise_path(seed)
        rows = x[np.linspace(0, 240, 20).astype(int)] - x[-1]  # held out: only t <= T / 1.5
        fresh = np.random.default_rng(seed + 100).normal(size=(20, 32, 200))
        samples = np.einsum("sn,tkn->stk", rows, fresh)
        mean, t, _ = mean_t(samples)
        signs.append(significant_signs(mean, t, 32))
    signs = np.array(signs)
    nothing = SignFractions(np.zeros(20), np.zeros(20))
    verdict = mvi(0, 0, signs=signs, null=nothing, fresh_dual=nothing)
    assert verdict.holds == "inconclusive"
    assert verdict.details["P5"]["positive"].high < 0.2


# ---------------------------------------------------------------- criteria


@pytest.mark.parametrize(
    ("field", "value", "expectation"),
    [
        ("early_window", (0.25, 0.05), "0 < begin < end <= 1"),
        ("early_window", (0.05, 0.9), "to end before late_window"),
        ("slope_window", (0.0, 1.0), "0 < begin < end <= 1"),
        ("late_window", 0.8, "two fractions"),
        ("slope_bins", 2, "an integer, at least 3"),
        ("slope_bins", 20.0, "an integer, at least 3"),
        ("min_seeds", True, "an integer, at least 2"),
        ("primal_ratio_supported", 0.9, "at most primal_ratio_refuted = 0.8"),
        ("dual_ratio_refuted", 0.6, "at most dual_ratio_supported = 0.5"),
        ("mvi_negative_supported", 0.3, "at most mvi_negative_refuted = 0.2"),
        ("dual_slope_supported", 0.1, "finite and at most 0"),
        ("ratio_of_ratios", 0, "a finite number above 0"),
        ("ratio_of_ratios_share", 1.1, "at most 1"),
        ("truncation_factor", float("nan"), "a finite number above 0"),
        ("alpha", 0.5, "strictly between 0 and 0.5"),
        ("level", "95%", "strictly between 0 and 1"),
        ("microbatches", 2, "an integer, at least 3"),
        ("gate_modes", 90, "a share above 0 and at most 1"),
        ("gate_high_quality", 0, "a share above 0 and at most 1"),
        ("gate_class_entropy", 1.5, "a share above 0 and at most 1"),
        ("gate_frechet_ratio", 0.9, "finite and at least 1"),
        ("gate_frechet_factor", 0, "a finite number above 0"),
        ("gate_frechet_reference", 0.0, "a finite number above 0, or None"),
        ("gate_frechet_reference", "0.1", "a finite number above 0, or None"),
        ("quality_samples", 99, "an integer, at least 100"),
        ("quality_seeds", 1, "an integer, at least 2"),
    ],
)
def test_criteria_name_the_bad_field(field, value, expectation):
    with pytest.raises(ValueError, match=f"Criteria.{field} = ") as error:
        Criteria(**{field: value})
    assert repr(value) in str(error.value)
    assert expectation in str(error.value)


def test_criteria_decide():
    assert convergence(around(-0.7), around(0.0)).holds == "inconclusive"
    relaxed = dataclasses.replace(CRITERIA, primal_ratio_supported=0.6)
    assert convergence(around(-0.7), around(0.0), criteria=relaxed).holds == "inconclusive"  # P3
    relaxed = dataclasses.replace(relaxed, ratio_of_ratios=1.5)
    assert convergence(around(-0.7), around(0.0), criteria=relaxed).holds is True
    assert mvi(0.1, 0.9, criteria=Criteria(mvi_negative_supported=0.15)).holds is True
    assert mvi(0.1, 0.9, criteria=Criteria(mvi_negative_refuted=0.06)).holds is False
    late = dataclasses.replace(CRITERIA, late_window=(0.3, 0.4))
    assert convergence(around(-1.3), around(0.0), criteria=late).holds == "inconclusive"


@pytest.mark.parametrize(
    ("target", "exact", "holds"),
    [
        ("known x*", True, True),
        ("known x*", False, "inconclusive"),
        ("held-out continuation", True, "inconclusive"),
    ],
)
def test_equality_meets_the_inequality_only_where_entries_and_target_are_exact(
    target, exact, holds
):
    verdict = one_sided_mvi(
        optimizer="a",
        hyperparameters={},
        signs=np.zeros((5, 20, 20), int),
        valid=np.ones((5, 20, 20), bool),
        target=target,
        criteria=Criteria(),
        exact=exact,
    )
    assert verdict.holds == holds
