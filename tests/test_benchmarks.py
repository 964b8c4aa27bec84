"""The benchmark harness on made-up rows, and its NumPy side against ours; no timing, no torch."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks is not installed

import onesided_jax as osj
from benchmarks import harness, ours, peers_numpy, summary
from benchmarks.__main__ import main
from benchmarks.harness import Row, Scale, SuiteResult
from benchmarks.suites import SUITES, games, scaling

FACTS = {
    "cpu": "made up",
    "cores": 2,
    "jax": "0",
    "torch": None,
    "gemm_gflops": {"jax": 100.0, "torch": None},
}


def test_a_row_is_the_median_of_ratios_per_round_not_a_ratio_of_medians():
    row = harness.ratio_row("a", "b", [1.0, 20.0, 9.0], [1.0, 10.0, 3.0], goal=2.0)
    assert row.ratio == 2.0
    assert row.quartiles == (1.5, 2.5)
    assert np.median([1, 20, 9]) / np.median([1, 10, 3]) != row.ratio
    with pytest.raises(ValueError, match="zip"):
        harness.ratio_row("a", "b", [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no values"):
        harness.quantiles([])


@pytest.mark.parametrize(
    ("ratio", "goal", "better", "met"),
    [
        (2.0, 2.0, "higher", True),
        (1.9, 2.0, "higher", False),
        (1.05, 1.05, "lower", True),
        (1.06, 1.05, "lower", False),
        (1.0, None, "lower", None),
    ],
)
def test_a_goal_is_met_on_the_better_side(ratio, goal, better, met):
    assert Row("a", "b", ratio, (ratio, ratio), goal, better).met is met


def test_sides_take_turns_forwards_and_backwards(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE_SECONDS", 0.0)
    order = []
    sides = {name: lambda name=name: float(order.append(name) is None) for name in "ab"}
    assert harness.interleave(sides, 3) == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert "".join(order) == "abbaab"


def test_table_and_figure_of_made_up_rows(tmp_path):
    rows = [
        Row("ours", "theirs | piped", 2500.0, (2000.0, 3000.0), 1000.0, note="by hand"),
        Row("step", "step", 2.5, (2.4, 2.6), 2.05, "lower"),
        Row("memory", "memory", 0.5, (0.5, 0.5), None, "lower"),
    ]
    for name, scale in (("dcgan", Scale("full", 5)), ("games", Scale("small", 2))):
        content = harness.to_json(name, scale, SuiteResult(rows, {"n": np.int64(1)}), FACTS, 1.0)
        harness.write_json(tmp_path / f"{name}.json", content)
    stored = json.loads((tmp_path / "dcgan.json").read_text())
    assert [row["met"] for row in stored["rows"]] == [True, False, None]
    assert stored["details"] == {"n": 1}
    stored = json.loads((tmp_path / "games.json").read_text())
    assert [row["met"] for row in stored["rows"]] == [None] * 3  # small results are not judged

    table, rows, picture = summary.write(tmp_path, list(SUITES))
    text = table.read_text()
    assert "| ours | theirs \\| piped | 2,500 [2,000, 3,000] | ≥ 1,000 | yes |" in text
    assert "| step | step | 2.50 [2.40, 2.60] | ≤ 2.05 | no |" in text
    assert "games (small)" in text
    assert "by hand" in text
    assert "dcgan, games: made up, 2 cores, jax 0, GEMM GFLOP/s 100 in jax" in text
    assert picture.read_text().count("<svg") == 1
    assert rows.read_text().splitlines()[2] == 'step,step,"2.50 [2.40, 2.60]",≤ 2.05,no'


def test_the_curves_of_growth_have_an_axis_for_everything_that_varies(tmp_path):
    base = {"game": "mlp", "runs": 4, "batch": 64, "width": 32, "steps": 5, "devices": 1}
    lines = [base, *(base | {name: 2 * base[name]} for name in list(base)[1:])]
    times = ("lower_quartile", "microseconds_per_run_step", "upper_quartile")
    lines = [line | dict.fromkeys(times, 10_000.0 + 1000 * i) for i, line in enumerate(lines)]
    content = harness.to_json(
        "scaling", Scale("full", 5), SuiteResult([], {"lines": lines}), FACTS, 1.0
    )
    figure = summary.draw_scaling([content])
    points = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert points == [[10.0, 11.0 + i] for i in range(5)]


def test_a_folder_without_results_gives_an_empty_table(tmp_path):
    assert summary.write(tmp_path, list(SUITES)) == [
        tmp_path / "README.md",
        tmp_path / "benchmarks.csv",
    ]


def test_an_unknown_suite_is_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit):
        main(["dcgan", "nonsense"])
    assert "unknown suite 'nonsense'" in capsys.readouterr().err


def test_every_suite_has_its_module():
    root = Path(__file__).parents[1]
    assert all((root / (module.replace(".", "/") + ".py")).is_file() for module in SUITES.values())


@pytest.mark.parametrize("name", ["carousel", "bilinear"])
def test_numpy_and_our_extra_adam_take_the_same_steps(name):
    with jax.enable_x64(True):
        game = osj.games.make_game(name)
        field = {
            "carousel": lambda: peers_numpy.carousel,
            "bilinear": lambda: peers_numpy.bilinear(games.bilinear_matrix()),
        }[name]()
        sweep = games.sweep_of(game, runs=16, steps=games.COMPARED_STEPS)
        peer = games.numpy_peer(sweep, field)
        sweep.advance()
        for _ in range(games.COMPARED_STEPS):
            peer.step()
        after = sweep.players()
        assert after.primal.dtype == np.float64
        assert games.assert_equal(peer.players, after, "NumPy") < games.TOLERANCE
        peer.step()
        with pytest.raises(AssertionError, match="differ"):
            games.assert_equal(peer.players, after, "NumPy")


def test_numpy_carousel_is_the_gradient_inside_on_and_outside_the_ring():
    rng = np.random.default_rng(0)
    radius = np.linspace(0.1, 3.0, 40)
    angle, phase = rng.uniform(0, 6, (2, 40))
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    y = phase[:, None]
    with jax.enable_x64(True):
        field = jax.vmap(lambda x, y: osj.games.carousel().field(osj.PrimalDual(x, y), (), ())[0])
        expected = jax.tree.map(np.asarray, field(x, y))
    for actual, wanted in zip(peers_numpy.carousel(x, y), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-12)


def test_images_are_bytes_with_structure_and_always_the_same():
    images = ours.images(16)
    assert images.shape == (16, 28, 28, 1)
    assert images.dtype == np.uint8
    assert images.max() > 200
    assert np.median(images) < 20
    assert np.array_equal(images, ours.images(16))


def test_flops_counted_by_hand_are_most_of_what_xla_counts():
    game = ours.dcgan_game(width=8, batch=4, conv="gemm")
    by_xla = ours.counted_flops(game, ours.optimizer())
    # XLA also counts elementwise passes and the optimizer, which weigh more on a small network.
    assert by_xla is not None
    assert 0.4 < ours.dcgan_step_flops(width=8, batch=4) / by_xla < 1.0


def test_scaling_varies_one_axis_at_a_time():
    for name in ("small", "full"):
        chosen = scaling.configurations(Scale(name, 1))
        assert len({scaling.name_of(*c) for c in chosen}) == len(chosen)
        for game, sizes in chosen:
            base = scaling.BASES[name][game]
            assert sum(sizes[axis] != base[axis] for axis in base) <= 1
