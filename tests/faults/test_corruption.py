"""Damaged files are found, told and passed over; nothing is deleted that was not replaced."""

from __future__ import annotations

import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax.analysis.source import from_run
from onesided_jax.cli import main
from onesided_jax.runs import DamagedCheckpointError, checkpoints, open_run

from . import corruption
from .damage import DAMAGE, files_of
from .workload import ONE, differences, leftovers, recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep of eleven checkpoints, analysed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    osj.run(recipe(game="carousel", steps=40, every=4, optimizers=ONE), out)
    return corruption.analysed(out)


def test_the_newest_checkpoint_is_recomputed_bit_for_bit(finished, tmp_path):
    chosen = random.Random(0).sample(corruption.places(finished, 40), 5)
    found = corruption.of_newest(tmp_path, finished, chosen)
    assert found.kept(), found
    assert leftovers(tmp_path / "newest") == []


def test_analysis_skips_an_older_checkpoint_and_changes_no_other_number(finished, tmp_path):
    chosen = random.Random(1).sample(corruption.places(finished, 20), 2)
    found = corruption.of_older(tmp_path, finished, 20, chosen)
    assert found.kept(), found


def test_a_damaged_manifest_is_told_and_never_misread(finished, tmp_path):
    found = corruption.of_manifest(tmp_path, finished, every=13)
    assert found.kept(), found


def test_every_checkpoint_damaged_begins_again_and_says_so(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    store = open_run(out).store("adam")
    for step in store.steps():
        DAMAGE["truncated"](files_of(store.path / str(step))[0], random.Random(step))
    said = []
    osj.resume(out, on_damage=said.append)
    assert len(said) == 11
    assert all(message.endswith("; beginning again") for message in said)
    assert differences(finished, out) == []


def test_nothing_is_deleted_that_was_not_replaced(finished, tmp_path):
    """A damaged checkpoint stays until the one computed anew has been committed."""
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    store = open_run(out).store("adam")
    for step in (32, 36, 40):
        DAMAGE["bit flipped"](files_of(store.path / str(step))[-1], random.Random(step))
    chunks = []

    class EnoughError(Exception):
        pass

    def on_chunk(label, progress):
        chunks.append(progress.step)
        raise EnoughError

    with pytest.raises(EnoughError):
        osj.resume(out, on_chunk=on_chunk, on_damage=[].append)
    assert chunks == [32]
    assert store.steps() == list(range(0, 44, 4))
    assert [store.holds(step) for step in store.steps()] == [True] * 9 + [False] * 2


def test_a_report_survives_damage_to_the_last_checkpoint(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    (open_run(out).store("adam").path / "40" / "info.json").write_bytes(b"\0" * 10)
    assert main(["report", str(out)]) == 0
    assert main(["analyze", str(out)]) == 0
    assert "adam/checkpoints/40" in capsys.readouterr().out.replace("\n", "")


def test_a_directory_of_format_1_is_opened_analysed_and_finished(tmp_path):
    """Written by onesided-jax 0.1.0 before format 2, stopped at step 8 of 12."""
    with zipfile.ZipFile(Path(__file__).with_name("format1.zip")) as archive:
        archive.extractall(tmp_path)
    out = tmp_path / "format1"
    run = open_run(out)
    assert run.manifest["format"] == 1
    before = run.store("amsgrad_xeg").read(8)
    assert before["players"]["primal"].shape == (4, 2)
    said = []
    run = osj.resume(out, on_damage=said.append)
    assert run.finished()
    assert run.store("amsgrad_xeg").steps() == [0, 4, 8, 12]
    after = run.store("amsgrad_xeg").read(12)
    assert np.isfinite(after["players"]["primal"]).all()
    assert after["step"].tolist() == [12] * 4
    assert open_run(out).manifest["format"] in (1, 2)  # 2 where there was something to note
    source = from_run(run, "amsgrad_xeg", osj.runs.build_game(run.recipe.game))
    assert source.steps == [0, 4, 8, 12]
    assert source.damaged == []


def test_a_checkpoint_of_another_state_says_so(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    store = open_run(out).store("adam")
    arrays = store.read(40)
    arrays["players"]["primal"] = np.zeros((4, 7), np.float32)
    shutil.rmtree(store.path / "40")
    store.write(36, arrays, {"seconds": 1.0})
    with pytest.raises(ValueError, match=r"holds another run.*primal"):
        osj.resume(out, on_damage=[].append)


def test_a_whole_checkpoint_that_orbax_cannot_read_is_not_called_damaged(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    store = open_run(out).store("adam")
    shutil.rmtree(store.path / "40")
    folder = store.path / "36"
    shutil.rmtree(folder / "arrays")
    (folder / "arrays").mkdir()
    sums = [f"{digest}  {name}\n" for name, digest in checkpoints._digests(folder)]
    (folder / "SHA256SUMS").write_text("".join(sums))
    with pytest.raises(ValueError, match="is undamaged, but this version of orbax") as error:
        osj.resume(out, on_damage=[].append)
    assert not isinstance(error.value, DamagedCheckpointError)


@pytest.mark.parametrize("name", ["a[b]c", "a\\b", "gs:", "\udc80"])
def test_a_folder_in_which_orbax_would_lose_everything_is_refused(name, tmp_path, capsys):
    out = tmp_path / name / "run"
    with pytest.raises(ValueError, match="checkpoints cannot be stored under a path that"):
        osj.run(recipe(game="carousel"), out)
    assert main(["sweep", "carousel", "--out", str(out)]) == 2
    assert list(tmp_path.iterdir()) == []
