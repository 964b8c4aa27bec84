"""The command line end to end at tiny size, and its errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

import onesided_jax as osj
from onesided_jax.analysis import generate
from onesided_jax.cli import main
from onesided_jax.runs import RECIPES, Recipe, open_run, out_of_reach

pytestmark = pytest.mark.usefixtures("quick_sweeps")

RATES = {"primal_learning_rate": [1e-3], "dual_learning_rate": [1e-3]}
SMALL = {
    "microbatches": 3,
    "mvi_samples": 16,
    "mvi_rows": 3,
}


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x_train=rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    return path


def recipe_file(tmp_path, dataset):
    options = {"dataset": dataset, "network": "mlp", "width": 4, "latent_dim": 4, "batch_size": 8}
    content = {
        "name": "tiny",
        "game": {"name": "gan", "options": {**options, "loss": "minimax"}},
        "optimizers": [{"name": "adam", "axes": RATES}, {"name": "amsgrad_xeg", "axes": RATES}],
        "seeds": [0, 1],
        "steps": 30,
        "checkpoint_every": 2,
        "criteria": SMALL,
    }
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(content))
    return path


def analytic_file(tmp_path, game, **changes):
    """A recipe with one optimizer: every further one is another program to compile."""
    content = {
        "name": game.replace("_", "-"),
        "game": {"name": game},
        "optimizers": [{"name": "amsgrad_xeg", "axes": RATES}],
        "seeds": [0],
        "steps": 40,
        "checkpoint_every": 2,
        "criteria": SMALL,
        **changes,
    }
    path = tmp_path / f"{game}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    """A sweep of the carousel, and the command for it; to be copied before anything changes it."""
    folder = tmp_path_factory.mktemp("carousel")
    command = ["sweep", str(analytic_file(folder, "carousel")), "--out"]
    assert main([*command, str(folder / "run")]) == 0
    return folder / "run", command


def test_sweep_analyze_report_sample_on_images(tmp_path, images, capsys):
    """The data move on the way: sampling needs none, the others are told the new place."""
    out, moved = tmp_path / "run", tmp_path / "moved.npz"
    recipe = recipe_file(tmp_path, f"npz:{images}")
    assert (
        main(["sweep", str(recipe), "--out", str(out), "--set", "b2=0.9,0.99", "--steps", "60"])
        == 0
    )
    run = open_run(out)
    assert run.recipe.steps == 60
    assert run.recipe.checkpoint_every == 4  # follows the steps
    assert len(run.seeds("adam")) == 4
    assert main(["resume", str(out)]) == 0  # nothing left to do
    images.rename(moved)
    assert main(["sample", str(out), "--count", "9"]) == 0
    assert len(list((out / "samples").glob("*.png"))) == 8
    printed = capsys.readouterr().out
    assert main(["analyze", str(out)]) == 2
    assert f"onesided analyze {out} --data FILE" in capsys.readouterr().err
    assert main(["analyze", str(out), "--data", str(moved)]) == 0
    verdicts = json.loads((out / "verdict.json").read_text())
    assert len(verdicts) == 2 * 2 * 2
    assert {v["status"] for v in verdicts} == {"undecided"}
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "amsgrad_xeg" in page
    assert not re.search(r"(src|href)=.https?:", page)
    names = {p.name for p in (out / "figures").iterdir()}
    assert {"gradient_norms.svg", "mvi.pdf", "samples.svg", "grid.svg"} - names <= {"grid.svg"}
    printed += capsys.readouterr().out
    assert "16 runs" not in printed
    assert "8 runs x 60 steps" in printed
    assert "Next: onesided analyze" in printed
    words = " ".join(printed.split())
    assert words.count("2 undecided") == 4  # claims and optimizers
    assert "Undecided: 2 seeds, 3 needed" in words
    assert f"numbers and sentences: {out / 'verdict.json'}" in printed
    assert main(["resume", str(out), "--data", str(moved)]) == 0
    np.savez(tmp_path / "other.npz", x_train=np.zeros((40, 8, 8, 3), np.uint8))
    capsys.readouterr()
    for name in ("analyze", "resume"):
        assert main([name, str(out), "--data", str(tmp_path / "other.npz")]) == 2
        assert "SHA-256 differs" in capsys.readouterr().err


def test_a_conditional_gan_is_swept_and_sampled_by_class(tmp_path, capsys):
    rng, archive, out = np.random.default_rng(0), tmp_path / "labelled.npz", tmp_path / "run"
    images = rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    np.savez(archive, x_train=images, y_train=np.arange(30) % 3)
    recipe = json.loads(recipe_file(tmp_path, f"npz:{archive}").read_text())
    recipe["game"]["options"]["classes"] = 3
    recipe |= {"steps": 2, "seeds": [0], "optimizers": recipe["optimizers"][:1]}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(recipe))
    assert main(["sweep", str(path), "--out", str(out)]) == 0
    assert main(["sample", str(out), "--count", "10"]) == 0  # three rows of three
    assert main(["sample", str(out), "--count", "10", "--class", "2"]) == 0
    sizes = {}
    for picture in (out / "samples").glob("*.png"):
        with Image.open(picture) as opened:
            sizes[picture.stem] = opened.size
    assert sizes == {"adam-run0-step2": (26, 26), "adam-run0-step2-class2": (35, 26)}
    rows = {label: next(generate(open_run(out), count=3, label=label))[3] for label in (None, 2)}
    np.testing.assert_allclose(rows[None][2], rows[2][2], atol=1e-6)  # the same latents
    assert np.abs(rows[None][0] - rows[2][0]).max() > 1e-3
    assert main(["export", str(out)]) == 0
    program = jax.export.deserialize(bytearray((out / "export" / "generator.jax").read_bytes()))
    ones = np.ones((3, program.in_avals[0].shape[1]), np.float32)
    drawn = np.asarray(program.call(ones, np.array([2, 0, 2], np.int32)))
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    assert main(["sample", str(out), "--class", "3"]) == 2
    assert "labels=3: expected integers from 0 to 2" in capsys.readouterr().err
    np.savez(archive, x_train=images)
    assert main(["sweep", str(path), "--out", str(tmp_path / "other")]) == 2
    assert "has no labels; expected data with labels" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_unfinished_run_is_shown_as_one_and_several_share_a_page(tmp_path, carousel, capsys):
    out, chunks = tmp_path / "run", iter([False] * 16)
    recipe = Recipe.load(analytic_file(tmp_path, "moving_target"))
    osj.run(recipe, out, stop=lambda: next(chunks, True))
    assert open_run(out).store("amsgrad_xeg").steps()[-1] == 30

    unfinished = "amsgrad_xeg: trained to 30 of 40 steps; `onesided resume`"
    assert main(["analyze", str(out)]) == 0  # three quarters: no continuation to take x* from
    assert unfinished in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert unfinished in page
    assert "<dt>Steps</dt><dd>30 of 40</dd>" in page
    assert page.count('class="num">–') >= 2  # no late norms

    assert main(["resume", str(out)]) == 0
    capsys.readouterr()
    assert main(["report", str(out)]) == 0
    stale = f"the run has continued to 40; analyze it again: onesided analyze {out}"
    assert stale in capsys.readouterr().out
    assert stale in (out / "report.html").read_text()

    assert main(["analyze", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "<dt>Steps</dt><dd>40</dd>" in page
    assert 'class="note"' not in page

    other = shutil.copytree(carousel[0], tmp_path / "other")
    assert main(["analyze", str(other)]) == 0
    assert main(["report", str(other), str(out), "--out", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text()
    assert "moving-target" in page
    assert "carousel" in page


def test_demo_runs_both_parts_and_ends_with_a_page(tmp_path, monkeypatch):
    import dataclasses

    carousel = Recipe.load(analytic_file(tmp_path, "carousel"))
    monkeypatch.setitem(RECIPES, "demo-carousel", carousel)
    gan = Recipe.load(recipe_file(tmp_path, "ring"))
    monkeypatch.setitem(RECIPES, "demo", dataclasses.replace(gan, name="demo"))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert "known" in (tmp_path / "demo" / "report.html").read_text()
    out = tmp_path / "demo" / "digits"  # whose samples are points
    assert main(["sample", str(out), "--count", "5"]) == 0
    (first, *_) = sorted((out / "samples").glob("adam*.csv"))
    assert np.loadtxt(first, delimiter=",").shape == (5, 2)


@pytest.mark.parametrize("name", ["demo", "demo-carousel"])
def test_the_demo_can_decide_everything_that_it_judges(name):
    assert out_of_reach(RECIPES[name]) == []


def test_recipes_are_listed_and_printed_as_json(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    assert main(["recipes", "demo"]) == 0
    printed = capsys.readouterr()
    assert Recipe.from_json(printed.out) == RECIPES["demo"]
    # Dense 64 x (7 * 7 * 16), 4 x 4 convolutions 16 -> 8 -> 1; back again, and 784 -> 1.
    generator = (64 + 1) * 784 + 16 * 16 * 8 + 8 + 16 * 8 + 1
    discriminator = 16 * 8 + 8 + 16 * 8 * 16 + 16 + 784 + 1
    assert f"{generator:,} of the primal player, {discriminator:,} of the dual" in printed.err


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_parameters_are_counted_without_the_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ONESIDED_DATA", str(tmp_path))
    assert main(["recipes", name]) == 0
    assert re.search(r"^Parameters: [\d,]+ of the primal", capsys.readouterr().err, re.MULTILINE)


def test_a_folder_of_images_is_swept_sampled_and_checked(tmp_path, capsys):
    rng, folder = np.random.default_rng(0), tmp_path / "faces"
    folder.mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    recipe = json.loads(RECIPES["images-64"].to_json())
    small = {"width": 1, "batch_size": 2, "latent_dim": 2, "image_size": 16, "network": "mlp"}
    recipe["game"]["options"] |= {**small, "normalization": "none"}
    recipe["optimizers"] = recipe["optimizers"][:1]
    path, out = tmp_path / "own.json", tmp_path / "run"
    path.write_text(json.dumps(recipe))
    arguments = ["--out", str(out), "--steps", "2", "--seeds", "1"]
    assert main(["sweep", str(path), *arguments]) == 2
    assert "images: no folder; expected images:FOLDER" in capsys.readouterr().err
    assert not out.exists()
    assert main(["sweep", str(path), *arguments, "--data-dir", str(folder)]) == 0
    assert main(["sample", str(out), "--count", "4"]) == 0
    (picture,) = (out / "samples").glob("*.png")
    with Image.open(picture) as opened:
        assert opened.size == (33, 33)
    (folder / "2.png").unlink()
    assert "is not the folder that the run was begun with" in open_run(out).changed_data()


BAD = {
    "unknown recipe": (["sweep", "caruosel"], "did you mean 'carousel'"),
    "missing recipe file": (["sweep", "none.json"], "cannot be read"),
    "negative rate": (["sweep", "carousel", "--set", "dual_learning_rate=-1"], "=-1.0: expected"),
    "NaN rate": (
        ["sweep", "carousel", "--set", "dual_learning_rate=nan"],
        "nan: expected a finite",
    ),
    "no hyperparameter": (
        ["sweep", "carousel", "--set", "momentum=1"],
        "not a float hyperparameter",
    ),
    "not a float": (["sweep", "carousel", "--set", "convention=classic"], "NAME=V1,V2"),
    "static option": (["sweep", "carousel", "--set", "convention=1"], "not a float hyperparameter"),
    "no value": (["sweep", "carousel", "--set", "b2"], "NAME=V1,V2"),
    "zero seeds": (["sweep", "carousel", "--seeds", "0"], "seeds=0: expected"),
    "zero steps": (["sweep", "carousel", "--steps", "0"], "steps=0: expected"),
    "zero width": (["sweep", "carousel", "--width", "0"], "width=0: expected"),
    "cadence": (["sweep", "carousel", "--steps", "10", "--checkpoint-every", "3"], "multiple of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_created(case, tmp_path, capsys):
    arguments, message = BAD[case]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["resume", "analyze", "report", "sample"])
def test_a_folder_without_a_run_is_exit_2(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_report_before_the_analysis_says_what_to_do(carousel, capsys):
    assert main(["report", str(carousel[0])]) == 2
    assert "onesided analyze" in capsys.readouterr().err


def test_another_recipe_in_the_same_folder_changes_nothing(tmp_path, carousel, capsys):
    out = shutil.copytree(carousel[0], tmp_path / "run")
    command = [*carousel[1], str(out)]
    assert main([*command, "--seeds", "1"]) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert main([*command, "--seeds", "2"]) == 2
    assert "holds another run" in capsys.readouterr().err
    # A manifest that was edited is not the one that was written.
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["recipe"]["steps"] = 80
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert main(["resume", str(out)]) == 2
    assert "was altered (its SHA-256 differs)" in capsys.readouterr().err
    after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert {p for p in before if before[p] != after[p]} == {out / "manifest.json"}


def test_a_corrupt_data_file_is_one_error(tmp_path, images, capsys):
    images.write_bytes(images.read_bytes()[:100])
    recipe = recipe_file(tmp_path, f"npz:{images}")
    assert main(["sweep", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "images.npz" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_sweep_says_first_which_verdicts_it_cannot_reach(tmp_path, capsys):
    arguments = ["sweep", str(analytic_file(tmp_path, "carousel")), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--devices", "0"]) == 2  # before anything is trained
    assert "Every verdict will be undecided: 1 seed, 3 needed." in capsys.readouterr().out


def test_help_teaches(capsys):
    assert main(["sweep", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example: onesided sweep" in text
    assert "NAME=V1,V2" in text


@pytest.mark.parametrize("text", ["2e1", "2_0"])
def test_whole_numbers_are_taken_as_people_write_them(text, tmp_path, capsys):
    out = tmp_path / "run"
    code = main(
        ["sweep", str(analytic_file(tmp_path, "carousel")), "--out", str(out), "--steps", text]
    )
    assert code == 0, capsys.readouterr().err
    assert osj.open_run(out).manifest["plan"]["steps"] == 20


def test_other_texts_are_one_error(tmp_path, capsys):
    for text in ("1.5", "many", "nan", "inf", "1e400"):
        assert main(["sweep", "carousel", "--out", str(tmp_path / "run"), "--steps", text]) == 2
        shown = capsys.readouterr()
        assert "expected a whole number" in " ".join((shown.err + shown.out).split())
        assert not (tmp_path / "run").exists()


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("onesided", f"{sys.executable} -m onesided_jax")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_the_terminal_can_show_decides_nothing():
    done = in_shell("onesided recipes && onesided games", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert all(name in done.stdout for name in osj.games.GAMES)


def test_a_reader_that_stops_reading_is_no_error():
    done = in_shell("set -o pipefail; onesided recipes carousel | head -1")
    assert done.stderr == "Parameters: 2 of the primal player, 1 of the dual\n"
    assert done.stdout == "{\n"


@pytest.mark.parametrize("arguments", ["--version", "--help", "sweep --help"])
def test_help_needs_no_jax(arguments):
    code = "import sys; from onesided_jax.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not {"jax", "numpy", "optax"} & set(done.stdout.splitlines()[-1].split())


def test_version():
    done = in_shell("onesided --version")
    assert done.stdout.startswith(f"onesided-jax {osj.__version__} (JAX ")


def test_a_recipe_takes_whole_numbers_written_as_floats(tmp_path):
    recipe = Recipe.load(analytic_file(tmp_path, "carousel", steps=40.0, seeds=[0.0, 1.0]))
    assert (recipe.steps, recipe.seeds) == (40, (0, 1))
    with pytest.raises(ValueError, match=r"steps=40.5: expected an integer"):
        Recipe.load(analytic_file(tmp_path, "carousel", steps=40.5))


def test_control_c_ends_a_command_at_any_moment(tmp_path):
    """While it imports, compiles or trains: exit code 130, no traceback, and it does end."""
    recipe = analytic_file(tmp_path, "carousel", steps=2_000_000, checkpoint_every=1_000)
    code = "import sys; from onesided_jax.cli import main; print(flush=True); sys.exit(main())"
    victims = []
    for i, delay in enumerate((0.0, 0.3, 1.0, 2.0, 4.0)):
        arguments = ["sweep", str(recipe), "--out", str(tmp_path / str(i))]
        victim = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        victim.stdout.readline()
        time.sleep(delay + 0.05)
        victim.send_signal(signal.SIGINT)
        victims.append(victim)
    for victim in victims:
        _, said = victim.communicate(timeout=120)
        assert victim.returncode == 130, said
        assert "Traceback" not in said
        assert "Ended by SIGINT" in said


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, quick_sweeps):
    """A run of a small GAN that keeps averages, made longer after its end."""
    folder = tmp_path_factory.mktemp("averaged")
    out = folder / "run"
    ring = {"dataset": "ring", "network": "mlp", "width": 4, "latent_dim": 3, "batch_size": 8}
    content = {
        "name": "ring",
        "game": {"name": "gan", "options": ring},
        "optimizers": [{"name": "adam", "axes": RATES}],
        "seeds": [0, 1],
        "steps": 20,
        "checkpoint_every": 2,
        "criteria": SMALL,
    }
    (folder / "ring.json").write_text(json.dumps(content))
    assert main(["sweep", str(folder / "ring.json"), "--out", str(out), "--ema", "0.9"]) == 0
    assert main(["resume", str(out), "--steps", "30"]) == 0
    return open_run(out)


def players_of(run, index, raw):
    """The game, one run's players (the primal one averaged unless ``raw``) and its state."""
    found = osj.restore(run, "adam")
    primal = found.state.players.primal if raw else found.observers["ema"]
    players = found.state.players._replace(primal=primal)
    return found.game, *jax.tree.map(lambda leaf: leaf[index], (players, found.state.state))


def test_averages_are_sampled_and_measured_and_the_run_goes_on(averaged, tmp_path):
    assert (averaged.recipe.ema, averaged.recipe.steps, averaged.finished()) == (0.9, 30, True)
    out, samples = str(averaged.path), {}
    for raw, option in ((False, []), (True, ["--raw"])):
        folder = tmp_path / str(raw)
        assert main(["sample", out, "--count", "5", "--out", str(folder), *option]) == 0
        samples[raw] = np.loadtxt(folder / "adam-run1-step30.csv", delimiter=",")
        game, players, state = players_of(averaged, 1, raw)
        expected = game.generate(players, state, jax.random.key(0), 5)
        np.testing.assert_allclose(samples[raw], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(samples[False], samples[True])

    found = osj.analyze(averaged)
    assert {"quality_modes", "quality_raw_modes"} <= set(found.dataset)
    assert "quality_raw_high_quality" in (averaged.path / "runs.csv").read_text()
    assert main(["report", out]) == 0
    assert "Modes covered, last iterate" in (averaged.path / "report.html").read_text()


@pytest.mark.parametrize("raw", [False, True])
def test_an_exported_generator_draws_any_number_of_samples(averaged, tmp_path, raw):
    pytest.importorskip("flatbuffers")
    option = ["--raw"] if raw else []
    command = ["export", str(averaged.path), "--index", "1", "--out", str(tmp_path), *option]
    assert main(command) == 0
    program = jax.export.deserialize((tmp_path / "generator.jax").read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    game, players, state = players_of(averaged, 1, raw)
    for count in (1, 7):
        latent = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
        expected = game.generate(players, state, None, count, latent=latent)
        np.testing.assert_allclose(program.call(latent), expected, rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "generator.npz") as params:
        written = sorted(params[name].tobytes() for name in params)
    assert written == sorted(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(players.primal))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "2"], "index=2: expected 0 to 1"),
        (["--cell", "adan"], "did you mean 'adam'"),
    ],
)
def test_an_export_of_what_is_not_there(averaged, capsys, options, message):
    pytest.importorskip("flatbuffers")
    assert main(["export", str(averaged.path), *options]) == 2
    assert message in capsys.readouterr().err


def test_an_export_without_flatbuffers_says_so(averaged, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert main(["export", str(averaged.path)]) == 2
    assert "pip install 'onesided-jax[export]'" in capsys.readouterr().err
