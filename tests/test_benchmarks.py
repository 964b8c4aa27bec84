"""The benchmark harness on made-up rows, and its NumPy side against ours; no timing, no torch."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks is not installed

import onesided_jax as osj
from benchmarks import harness, ours, peers_numpy, summary
from benchmarks.__main__ import main
from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import results, table, work
from benchmarks.harness import Row, Scale, SuiteResult
from benchmarks.suites import SUITES, games, scaling

ROOT = Path(__file__).parents[1]
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


def test_scaling_varies_one_axis_at_a_time():
    for name in ("small", "full"):
        chosen = scaling.configurations(Scale(name, 1))
        assert len({scaling.name_of(*c) for c in chosen}) == len(chosen)
        for game, sizes in chosen:
            base = scaling.BASES[name][game]
            assert sum(sizes[axis] != base[axis] for axis in base) <= 1


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_flops_counted_by_hand_grow_with_the_image_as_xla_counts_them(shape):
    # XLA also counts elementwise passes and the optimizer, which weigh more on a small network.
    game = ours.dcgan_game(8, 4, "gemm", ours.images(64, shape[0], shape[2]))
    by_xla = ours.counted_flops(game, ours.optimizer())
    assert by_xla is not None
    assert 0.4 < ours.dcgan_step_flops(8, 4, shape) / by_xla < 1.0


def test_arithmetic_in_bfloat16_leaves_parameters_and_outputs_in_float32():
    network, _ = osj.networks.mlp((2,), 4, 8)
    narrow = ours.computing_in("bfloat16", network)
    params, state = narrow.init(jax.random.key(0))
    latents = jax.random.normal(jax.random.key(1), (3, 4))
    wide, close = (n.apply(params, state, latents)[0] for n in (network, narrow))
    assert close.dtype == np.float32
    assert 0 < np.abs(wide - close).max() < 0.05


# --- benchmarks.accelerator

MISSING_THERE = ("tyro", "pooch", "h5netcdf", "mlxtend", "jinja2", "cooper")


def run_accelerator(*arguments, **environment):
    command = [sys.executable, "-m", "benchmarks.accelerator", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


def test_every_section_runs_at_tiny_size_with_what_a_borrowed_machine_has(tmp_path):
    """Packages that are missing there cannot be imported here either."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({MISSING_THERE}))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    out = tmp_path / "out"
    cache = str(ROOT / ".cache" / "jax")
    done = run_accelerator(
        "--tiny", "--minutes=30", "--out", out, PYTHONPATH=path, JAX_COMPILATION_CACHE_DIR=cache
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"tiny-cpu.json", "registered", "runs"}
    sections = json.loads((out / "tiny-cpu.json").read_text())["sections"]
    assert list(sections) == ["facts", "right", "fast", "science"]
    for section in sections.values():
        for name, job in section["jobs"].items():
            assert job["complete"], (name, job["problem"])
            assert job["rows"] or section is sections["science"], name
    judged = [row for job in sections["right"]["jobs"].values() for row in job["rows"]]
    assert all(row.get("met", True) for row in judged)
    assert {row.get("what") for row in judged} >= {"DCGAN, native", "ring, stopped and resumed"}
    if importlib.util.find_spec("torch") is None:
        (row,) = sections["fast"]["jobs"]["PyTorch ring float32"]["rows"]
        assert "left out: this suite needs PyTorch" in row["note"]
    assert list(out.glob("registered/alternating_adam-bars-*/runs.csv"))
    assert "run-steps/s" in done.stdout


def test_no_accelerator_is_one_sentence():
    done = run_accelerator(JAX_PLATFORMS="cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "no accelerator: jax.devices() shows only CPUs; --tiny runs on them"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "facts,fst"], "did you mean 'fast'?"),
        (["--minutes", "0"], "expected a number above 0"),
        (["--data-dir", "nowhere"], "is no directory"),
    ],
)
def test_an_accelerators_bad_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as refused:
        accelerator.main(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


CONTEXT = work.Context(False, "cpu", None, "")


def child(source, seconds=60.0):
    job = work.Job("made up", seconds, command=(sys.executable, "-c", source))
    return work.run("fast", job, CONTEXT, [], 60.0)


def test_a_job_that_is_cut_off_or_fails_keeps_its_rows():
    row = "print('row {{\"runs\": 1}}', flush=True)\n"
    slow = child("import time\n" + row + "time.sleep(60)", 2.0)
    assert slow.rows == [{"runs": 1}]
    assert slow.problem == "cut off after 2 s"
    broken = child(row + "raise ValueError('no such kernel')")
    assert broken.rows == [{"runs": 1}]
    assert broken.problem == "ValueError: no such kernel"
    assert child(row).problem is None


def test_out_of_memory_is_a_row_and_larger_numbers_are_not_tried(monkeypatch):
    from benchmarks.accelerator import speed

    def measure(case, game, runs, tiny):
        if runs > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory, 9 GB")
        return {"run_steps_per_second": {"median": 1.0}}

    monkeypatch.setattr(speed, "_measure", measure)
    rows = list(speed.speeds(speed.Case("ring"), (4, 16, 64), tiny=True))
    assert [row.get("problem") for row in rows] == [
        None,
        "out of memory",
        "not tried: 16 runs are too many",
    ]


DEVICE = {"platform": "gpu", "kind": "Made Up/9000 (80 GB)", "count": 1}
MEASURED = {"game": "dcgan28", "dtype": "float32", "losses": [0.7, 1.4]}


def speed_row(side, runs, speed, conv="auto", **more):
    spread = {"median": speed, "lower_quartile": speed, "upper_quartile": speed}
    row = {"side": side, "runs": runs, "conv": conv, "run_steps_per_second": spread}
    return MEASURED | row | more


def made_up_results(out):
    kept = results.Results(out, DEVICE, tiny=False)
    product = {"what": "product", "precision": "float32", "size": 8192, "tflops": 100.0}
    kept.keep("facts", "device", work.Outcome([product], None, 1.0))
    mine = {"planned_bytes": 64 * 2**20, "gigaflop_per_run_step": 2.0}
    rows = [
        speed_row("ours", 64, 10_000.0, "native", **mine),
        speed_row("ours", 64, 20_000.0, "gemm", **mine),
        MEASURED | {"side": "ours", "conv": "gemm", "runs": 256, "problem": "out of memory"},
    ]
    kept.keep("fast", "ours", work.Outcome(rows, None, 1.0))
    rows = [
        speed_row("eager", 1, 500.0),
        speed_row("CUDA graph of a step", 1, 8_000.0),
        speed_row("ensemble of 64", 64, 5_000.0, peak_bytes=32 * 2**20),
    ]
    kept.keep("fast", "peers", work.Outcome(rows, "cut off after 90 s", 1.0))
    note = {"side": "PyTorch", "game": "ring", "dtype": "bfloat16", "note": "left out: no CUDA"}
    kept.keep("fast", "other peers", work.Outcome([note], None, 1.0))
    return kept


def test_a_second_call_does_what_is_left(tmp_path):
    kept = made_up_results(tmp_path)
    assert kept.path.name == "Made-Up-9000-80-GB.json"
    again = results.Results(tmp_path, DEVICE, tiny=False)
    assert again.finished("fast", "ours")
    assert not again.finished("fast", "peers")
    assert len(again.rows("fast", "peers")) == 3
    again.keep("fast", "peers", work.Outcome([speed_row("compiled", 1, 1.0)], None, 1.0))
    assert again.finished("fast", "peers")
    assert len(again.rows("fast", "peers")) == 4
    with pytest.raises(ValueError, match="choose another --out"):
        results.Results(tmp_path, DEVICE | {"count": 2}, tiny=False)


def test_the_table_of_an_accelerator_judges_ratios_by_their_goals(tmp_path):
    made_up_results(tmp_path)
    lines = table.lines(results.read(next(tmp_path.glob("*.json"))))
    told = {line.what: line for line in lines}
    prefix, of = "ours, 64 runs, gemm / PyTorch", "dcgan28 float32"
    assert told[f"{prefix} eager, {of}"][2:] == ("40.0", "≥ 20", "yes")
    assert told[f"{prefix} CUDA graph of a step, {of}"][2:] == ("2.50", "≥ 5", "no")
    assert told[f"{prefix} ensemble of 64, {of}"][2:] == ("4.00", "≥ 2", "yes")
    assert told[f"memory a run, {prefix} ensemble of 64, {of}"][2:] == ("2.00", "≤ 1", "no")
    assert told[f"faster form, 64 runs, {of}"].figure == "gemm"
    assert told[f"ours, {of.replace(' ', ' gemm ')}, 256 runs"].figure == "out of memory"
    figure = told[f"ours, {of.replace(' ', ' gemm ')}, 64 runs"].figure
    assert figure == "20,000 run-steps/s, 40.0 % of the peak, 1.00 MiB a run"
    assert told["PyTorch, ring bfloat16"].figure == "left out: no CUDA"
    assert told["peers"].figure == "cut off after 90 s"
    written = table.write(tmp_path).read_text()
    assert "Made Up/9000 (80 GB)" in written
    assert table.NOT_YET not in written


def test_the_committed_table_is_that_of_the_committed_results(tmp_path):
    committed = ROOT / "benchmarks" / "results" / "accelerator"
    for path in committed.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert table.write(tmp_path).read_bytes() == (committed / table.FILE).read_bytes()


def test_what_a_borrowed_machine_would_not_send_back_is_said(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "x").touch()
    (tmp_path / "a b").touch()
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", results.MOST_BYTES + 1)
    assert results.too_much(tmp_path) == [
        "x lies in more than 2 folders",
        "'a b' is no plain name",
        "large is larger than 16 MiB",
    ]
    for number in range(results.MOST_FILES):
        (tmp_path / f"{number}").touch()
    assert "11 files, 8 come back" in results.too_much(tmp_path)
