"""The estimators against brute force, against simulation with a known truth, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onesided_jax.analysis import estimators as est
from onesided_jax.analysis import inference

quick = settings(deadline=None, max_examples=50)
NAN = float("nan")
gradients_of = st.integers(3, 9).flatmap(
    lambda k: hnp.arrays(np.float64, (k, 4), elements=st.floats(-100, 100, width=32))
)


def gram(gradients):
    return gradients @ np.swapaxes(gradients, -1, -2)


@pytest.fixture(scope="module")
def simulated():
    """Microbatch gradients with ||g||^2 = 1 and noise trace 100, isotropic in 2000 dimensions."""
    rng = np.random.default_rng(0)
    n = 2000

    def draw(count, repeats):
        gradients = np.sqrt(np.float32(100 / n)) * rng.standard_normal((repeats, count, n), "f")
        gradients[..., 0] += 1.0
        return gram(gradients)

    return {8: draw(8, 500), 32: draw(32, 200)}


@pytest.mark.parametrize(("count", "sd", "naive"), [(8, 0.451, 13.5), (32, 0.128, 4.125)])
def test_u_is_unbiased_where_the_minibatch_norm_is_not(simulated, count, sd, naive):
    grams = simulated[count]
    value = est.squared_norm(grams).value
    assert value.mean() == pytest.approx(1.0, abs=4 * sd / np.sqrt(len(value)))
    assert value.std() == pytest.approx(sd, rel=0.15)
    assert (value < 0).any() == (count < 32)  # unclipped
    assert (grams.sum((1, 2)) / count**2).mean() == pytest.approx(naive, rel=0.02)


@pytest.mark.parametrize("count", [8, 32])
def test_standard_error_is_conservative(simulated, count):
    norm = est.squared_norm(simulated[count])
    assert 1.2 < (norm.standard_error**2).mean() / norm.value.var() < 3.0


def test_more_microbatches_lift_a_norm_above_the_floor(simulated):
    norm = est.squared_norm(simulated[32])
    assert est.below_noise_floor(norm).mean() < 0.01
    assert est.below_noise_floor(est.squared_norm(simulated[8])).mean() > 0.2


@quick
@given(gradients_of)
def test_gram_form_is_the_direct_form(g):
    count = len(g)
    scale = (g**2).sum() + 1e-30
    norm = est.squared_norm(gram(g))
    total = g.sum(0)
    direct = (total @ total - (g**2).sum()) / (count * (count - 1))
    assert norm.value == pytest.approx(direct, abs=1e-10 * scale)


@quick
@given(gradients_of)
def test_jackknife_is_brute_force_leave_one_out(g):
    count = len(g)
    pairs = gram(g) * (1 - np.eye(count))
    left_out = [
        np.delete(np.delete(pairs, k, 0), k, 1).sum() / ((count - 1) * (count - 2))
        for k in range(count)
    ]
    variance = (count - 1) / count * ((left_out - np.mean(left_out)) ** 2).sum()
    got = est.squared_norm(gram(g)).standard_error
    assert got == pytest.approx(np.sqrt(variance), abs=1e-8 * ((g**2).sum() + 1e-30))


def test_leading_axes_are_batches():
    g = np.random.default_rng(1).normal(size=(2, 3, 5, 7))
    together = est.squared_norm(gram(g))
    for i, j in np.ndindex(2, 3):
        for field, alone in zip(together, est.squared_norm(gram(g[i, j]))):
            assert field.shape == (2, 3)
            assert field[i, j] == pytest.approx(float(alone))


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (5,), ()])
def test_a_gram_matrix_without_a_standard_error_is_refused(shape):
    with pytest.raises(ValueError, match=r"gram of shape .*K >= 3"):
        est.squared_norm(np.ones(shape))


def test_non_finite_gradients_give_nan_and_no_warning():
    norm = est.squared_norm(np.full((3, 3), np.inf))
    assert np.isnan(norm.value)
    assert est.below_noise_floor(norm)


def test_exact_values_are_never_below_the_floor():
    norm = est.exact_squared_norm([0.0, 1e-300, 5.0])
    assert not est.below_noise_floor(norm).any()
    assert (norm.standard_error == 0).all()


def test_t_interval_covers_what_it_promises():
    rng = np.random.default_rng(0)
    limits = [inference.t_interval(row) for row in rng.normal(3.0, 2.0, (2000, 5))]
    assert np.mean([i.low <= 3.0 <= i.high for i in limits]) == pytest.approx(0.95, abs=0.015)
    limits = [inference.t_interval(row, level=0.5) for row in rng.normal(3.0, 2.0, (2000, 5))]
    assert np.mean([i.low <= 3.0 <= i.high for i in limits]) == pytest.approx(0.5, abs=0.035)


def test_t_interval_against_the_table():
    values = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    half = 2.776445105 * values.std(ddof=1) / np.sqrt(5)
    assert inference.t_interval(values) == pytest.approx((5.0, 5.0 - half, 5.0 + half))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (NAN, NAN, NAN)),
        ([NAN, NAN], (NAN, NAN, NAN)),
        ([2.0], (2.0, NAN, NAN)),
        ([2.0, NAN], (2.0, NAN, NAN)),
        ([0.1] * 7, (0.1, 0.1, 0.1)),
    ],
)
def test_t_interval_edges(values, expected):
    np.testing.assert_array_equal(inference.t_interval(values), expected)


@pytest.mark.parametrize("values", [[1.0, np.inf], [np.inf, 1.0], [-np.inf, np.inf]])
def test_t_interval_of_an_infinite_value_has_no_limits(values):
    assert np.isnan(inference.t_interval(values)[1:]).all()


EARLY, LATE = ([1, 1, 0, 0, 0], [0, 0, 1, 1, 1])


def exact(*values):
    return est.exact_squared_norm(np.array(values))


def noisy(value, error):
    value, error = np.array(value), np.array(error)
    return est.SquaredNorm(value, error)


def test_change_is_a_ratio_of_medians():
    found = est.change_of_norm(exact([4.0, 4.0, 1.0, 1e9, 1.0]), EARLY, LATE)
    assert (found.early, found.late, found.ratio) == ([2.0], [1.0], [0.5])
    assert not found.early_floored.any()
    assert not found.late_floored.any()


@quick
@given(st.floats(1e-3, 1e3), st.floats(1e-100, 1e100))
def test_a_ratio_ignores_the_scale(late, scale):
    values = np.array([1.0, 1.0, late, late, late])
    found = est.change_of_norm(exact(values, scale * values), EARLY, LATE)
    np.testing.assert_allclose(found.ratio, np.sqrt(late))


def test_a_norm_below_two_standard_errors_becomes_the_floor():
    norm = noisy([[4.0, 4.0, -1.0, -1.0, -1.0], [0.1, 0.1, 4.0, 4.0, 4.0]], np.full((2, 5), 0.5))
    found = est.change_of_norm(norm, EARLY, LATE)
    np.testing.assert_allclose(found.ratio, [0.5, 2.0])  # floors of 1 under late, and under early
    assert found.late_floored.tolist() == [True, False]
    assert found.early_floored.tolist() == [False, True]


def test_an_exact_zero_has_a_floor_and_is_counted():
    found = est.change_of_norm(exact([4.0, 4.0, 0.0, 0.0, 0.0], [0.0] * 5), EARLY, LATE)
    np.testing.assert_allclose(found.ratio, [1e-12, 1.0])
    assert found.late_floored.all()
    assert found.early_floored.tolist() == [False, True]


def test_a_rounding_floor_hides_noise_over_noise():
    rounding = [1e-32, 1e-32, 1e-30, 1e-30, 1e-30]
    assert est.change_of_norm(exact(rounding), EARLY, LATE).ratio == pytest.approx([10.0])
    found = est.change_of_norm(exact(rounding), EARLY, LATE, floor=1e-28)
    assert found.ratio == [1.0]
    assert found.early_floored.all()


def test_a_norm_that_is_no_number_stays_none():
    found = est.change_of_norm(exact([1.0, np.nan, 1.0, 1.0, 1.0]), EARLY, LATE)
    assert np.isnan(found.ratio).all()
