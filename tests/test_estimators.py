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
STEPS = np.arange(1, 2001)
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

    return {2: draw(2, 2000), 8: draw(8, 500), 32: draw(32, 200)}


@pytest.mark.parametrize(
    ("count", "sd", "naive"), [(2, 2.26, 51.0), (8, 0.451, 13.5), (32, 0.128, 4.125)]
)
def test_u_is_unbiased_where_the_minibatch_norm_is_not(simulated, count, sd, naive):
    grams = simulated[count]
    value = est.u_statistic(grams)
    assert value.mean() == pytest.approx(1.0, abs=4 * sd / np.sqrt(len(value)))
    assert value.std() == pytest.approx(sd, rel=0.15)
    assert (value < 0).any() == (count < 32)  # unclipped
    assert (grams.sum((1, 2)) / count**2).mean() == pytest.approx(naive, rel=0.02)


@pytest.mark.parametrize("count", [8, 32])
def test_standard_error_is_conservative_and_noise_trace_unbiased(simulated, count):
    norm = est.squared_norm(simulated[count])
    assert 1.2 < (norm.standard_error**2).mean() / norm.value.var() < 3.0
    assert norm.noise_trace.mean() == pytest.approx(100, rel=0.01)
    np.testing.assert_allclose(norm.snr, norm.value / (norm.noise_trace / count))


def test_a_known_norm_may_have_a_small_signal_to_noise_ratio(simulated):
    norm = est.squared_norm(simulated[32])
    assert np.median(norm.snr) < 0.5
    assert est.below_noise_floor(norm).mean() < 0.01
    assert est.below_noise_floor(est.squared_norm(simulated[8])).mean() > 0.2


@quick
@given(gradients_of)
def test_gram_form_is_the_direct_form(g):
    count = len(g)
    scale = (g**2).sum() + 1e-30
    norm = est.squared_norm(gram(g))
    total, centred = g.sum(0), g - g.mean(0)
    direct = (total @ total - (g**2).sum()) / (count * (count - 1))
    assert norm.value == pytest.approx(direct, abs=1e-10 * scale)
    assert norm.noise_trace == pytest.approx((centred**2).sum() / (count - 1), abs=1e-10 * scale)


@quick
@given(gradients_of)
def test_jackknife_is_brute_force_leave_one_out(g):
    count = len(g)
    left_out = [est.u_statistic(gram(np.delete(g, k, 0))) for k in range(count)]
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
    assert (norm.noise_trace == 0).all()
    assert np.isposinf(norm.snr).all()


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


@pytest.mark.parametrize("power", [-2.0, -1.0, 0.0, 0.5])
def test_window_ratio_of_a_power_law(power):
    ratio = est.window_ratio(STEPS, STEPS**power, total_steps=2000)
    assert ratio == pytest.approx((0.9 / 0.15) ** (power / 2), rel=2e-3)


def test_window_ratio_windows_are_closed_and_use_medians():
    steps = [4, 5, 25, 26, 79, 80, 100, 101]
    value = [1e9, 4.0, 4.0, 1e9, 1e9, 1.0, 1.0, 1e9]
    assert est.window_ratio(steps, value, total_steps=100) == 0.5
    value = [[0, 4.0, 4.0, 4.0, 0, 0, 1.0, 1e9, 1.0]]
    steps = [1, 5, 10, 20, 30, 40, 80, 90, 100]
    assert est.window_ratio(steps, value, total_steps=100).tolist() == [0.5]


@quick
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_window_ratio_ignores_the_scale(early, scale):
    value = np.where(STEPS < 1000, early, 1.0)
    ratio = est.window_ratio(STEPS, [value, scale * value], total_steps=2000)
    np.testing.assert_allclose(ratio, early**-0.5)


def test_window_ratio_below_the_noise_floor_is_no_number():
    value = np.array([[1.0, 1.0], [1.0, -0.1], [-0.1, 1.0], [1.0, NAN], [1.0, 0.0]])
    ratio = est.window_ratio([10, 90], value, total_steps=100)
    assert np.isnan(ratio).tolist() == [False, True, True, True, True]


def test_window_ratio_of_exact_zeros():
    value = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, NAN], [1.0, 1e-118]])
    ratio = est.window_ratio([10, 90], value, total_steps=100, exact=True)
    assert 0 < ratio[0] < 1e-150
    assert np.isnan(ratio[[1, 3]]).all()  # nothing to compare; diverged
    assert ratio[2] > 1e150
    assert ratio[4] == pytest.approx(1e-59)


def test_rounding_noise_is_not_a_gradient_that_fails_to_fall():
    value = np.array([[3e-32, 2e-32], [1.0, 2e-32]])
    options = {"total_steps": 100, "exact": True}
    assert est.window_ratio([10, 90], value, **options)[0] > 0.8
    ratio = est.window_ratio([10, 90], value, **options, floor=1e-30)
    assert np.isnan(ratio[0])
    assert ratio[1] == pytest.approx(1e-15)


@pytest.mark.parametrize("function", ["window_ratio", "loglog_slope"])
def test_a_window_without_a_checkpoint_is_an_error(function):
    rest = [[0.0, 0.0]] if function == "loglog_slope" else []
    with pytest.raises(ValueError, match="expected at least one checkpoint in it"):
        getattr(est, function)([1, 2], [1.0, 1.0], *rest, total_steps=1000)
    rest = [[0.0]] if function == "loglog_slope" else []
    with pytest.raises(ValueError, match=r"expected \[S\] and \[..., S\]"):
        getattr(est, function)([1, 2], [1.0], *rest, total_steps=2)


@quick
@given(st.floats(-2, 2), st.floats(1e-6, 1e6))
def test_slope_recovers_the_exponent(power, scale):
    value = scale * STEPS**power
    slope = est.loglog_slope(STEPS, value, 0.01 * value, total_steps=2000)
    assert slope == pytest.approx(power, abs=5e-3)


def test_slope_of_noisy_checkpoints():
    rng = np.random.default_rng(0)
    truth = STEPS**-0.5
    value = truth * (1 + rng.normal(0, 0.8, (20, STEPS.size)))
    assert (value < 0).any()  # single checkpoints are below 0, their bins are not
    slope = est.loglog_slope(
        STEPS, value, np.broadcast_to(0.2 * truth, value.shape), total_steps=2000
    )
    assert slope.shape == (20,)
    assert slope.mean() == pytest.approx(-0.5, abs=0.03)


def test_slope_on_few_checkpoints_drops_empty_bins():
    steps = np.array([100, 200, 400, 1000])
    slope = est.loglog_slope(steps, steps**-1.0, np.zeros(4), total_steps=1000)
    assert slope == pytest.approx(-1.0)
    slope = est.loglog_slope(steps[1:3], steps[1:3] ** -1.0, np.zeros(2), total_steps=1000)
    assert np.isnan(slope)


def test_slope_below_the_noise_floor_is_no_number():
    value = np.ones((3, STEPS.size))
    error = np.full(value.shape, 0.1)
    error[1, 1780:] = 0.6  # one bin of the second run
    value[2, 500] = NAN
    slope = est.loglog_slope(STEPS, value, error, total_steps=2000)
    assert slope[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(slope[1:]).all()


def test_errors_of_one_evaluation_set_do_not_average_out():
    error = np.full(STEPS.size, 0.6)  # each bin holds dozens of checkpoints
    assert np.isnan(est.loglog_slope(STEPS, np.ones(STEPS.size), error, total_steps=2000))


def test_slope_of_exact_zeros():
    zeros = np.zeros(STEPS.size)
    dies = np.where(STEPS < 1000, 1.0, 0.0)
    slope = est.loglog_slope(STEPS, [dies, zeros], [zeros, zeros], total_steps=2000, exact=True)
    assert slope[0] < -100
    assert np.isnan(slope[1])
    assert np.isnan(est.loglog_slope(STEPS, dies, zeros, total_steps=2000))


def test_mean_t_covers_what_it_promises():
    samples = np.random.default_rng(0).normal(2.0, 3.0, (4000, 8))
    mean, t, half = inference.mean_t(samples)
    assert (np.abs(mean - 2.0) <= half).mean() == pytest.approx(0.95, abs=0.012)
    np.testing.assert_allclose(t, mean / (samples.std(1, ddof=1) / np.sqrt(8)))
    np.testing.assert_allclose(mean, samples.mean(1))


@quick
@given(st.floats(-1e12, 1e12), st.integers(2, 40))
def test_equal_samples_are_exact_whatever_their_rounding(value, count):
    mean, t, half = inference.mean_t(np.full(count, value))
    assert mean == value
    assert np.isnan(t)
    assert half == 0


def test_mean_t_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        inference.mean_t([1.0])


steps_lists = st.lists(st.integers(0, 50), min_size=1, max_size=12, unique=True).map(sorted)


@quick
@given(steps_lists, steps_lists)
def test_regions_partition_the_matrix(rows, columns):
    regions = inference.cross_regions(rows, columns)
    parts = [regions[name].astype(int) for name in ("diagonal", "newer_dual", "older_dual")]
    assert (sum(parts) == 1).all()
    assert (regions["off_diagonal"] == ~regions["diagonal"]).all()
    assert not (regions["near"] & regions["diagonal"]).any()
    s, t = np.array(rows)[:, None], np.array(columns)[None]
    np.testing.assert_array_equal(regions["newer_dual"], t > s)
    np.testing.assert_array_equal(regions["diagonal"], t == s)


def test_near_counts_checkpoints_not_steps():
    steps = [0, 10, 1000, 2000, 2001]
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(
        inference.cross_regions(steps, steps)["near"], (lag > 0) & (lag <= 2)
    )
    np.testing.assert_array_equal(  # rows that are a part of the columns
        inference.cross_regions(steps[::2], steps)["near"], ((lag > 0) & (lag <= 2))[::2]
    )


def test_bootstrap_respects_rows_and_columns():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 1)) * np.ones((30, 30))  # 30 independent numbers, not 900
    low, high = inference.two_way_bootstrap(rows, np.mean, draws=600)
    independent = 2 * 1.96 * rows[:, 0].std() / np.sqrt(30)
    assert high - low == pytest.approx(independent, rel=0.15)
    low, high = inference.two_way_bootstrap(rows.T, np.mean, draws=600)
    assert high - low == pytest.approx(independent, rel=0.15)
    assert inference.two_way_bootstrap(rows, np.mean) == inference.two_way_bootstrap(rows, np.mean)
    assert inference.two_way_bootstrap(rows, np.mean, seed=1) != inference.two_way_bootstrap(
        rows, np.mean
    )


def test_bootstrap_of_entries_that_do_not_count():
    matrix = np.where(np.eye(6, dtype=bool), NAN, 1.0)
    assert inference.two_way_bootstrap(matrix, np.nanmean, draws=50) == (1.0, 1.0)
    low, high = inference.two_way_bootstrap(matrix, lambda m: NAN, draws=5)
    assert np.isnan([low, high]).all()


def test_signs_have_the_size_they_promise():
    samples = np.random.default_rng(0).normal(size=(20_000, 16))
    mean, t, _ = inference.mean_t(samples)
    signs = inference.significant_signs(mean, t, 16, alpha=0.05)
    assert (signs > 0).mean() == pytest.approx(0.05, abs=0.007)
    assert (signs < 0).mean() == pytest.approx(0.05, abs=0.007)
    mean, t, _ = inference.mean_t(samples - 3.0)
    assert (inference.significant_signs(mean, t, 16) == -1).mean() > 0.99


def test_exact_signs_count_beyond_rounding():
    mean, t = np.array([1.0, -1.0, 1e-10, -1e-10, 0.0, NAN]), np.full(6, NAN)
    assert inference.significant_signs(mean, t, 1, scale=1.0).tolist() == [1, -1, 0, 0, 0, 0]
    assert inference.significant_signs(mean, t, 1, scale=1e-3).tolist() == [1, -1, 1, -1, 0, 0]
    with pytest.raises(ValueError, match="scale = None"):
        inference.significant_signs(mean, t, 1)
