"""Too little memory: an error that names a width to try, and everything saved is whole."""

from __future__ import annotations

import json

import jax
import pytest

import onesided_jax as osj
from onesided_jax.cli import main
from onesided_jax.sweeps import memory as memory_of
from onesided_jax.sweeps.memory import OutOfMemoryError, is_out_of_memory

from . import memory
from .victims import run
from .workload import ONE, differences, recipe, recipe_file


@pytest.fixture(scope="module")
def tiny():
    return recipe(game="carousel", steps=40, every=10, seeds=[0, 1, 2, 3], optimizers=ONE)


@pytest.mark.parametrize("compiling", [False, True])
def test_before_the_first_chunk_another_width_can_be_tried(compiling, tiny, tmp_path):
    with memory.exhausting(lambda width, number: width > 2, compiling=compiling) as widths:
        message = "after step 0, with 8 runs at a time on each device: pass width=4 or less"
        with pytest.raises(OutOfMemoryError, match=message):
            osj.run(tiny, tmp_path / "run", width=8)
        run = osj.run(tiny, tmp_path / "run", width=2)
    assert run.manifest["widths"] == {"adam": 2}
    assert set(widths) == ({2} if compiling else {8, 2})
    # The same bits as if the width had been right from the beginning, from checkpoint 0 on.
    assert differences(osj.run(tiny, tmp_path / "narrow", width=2), run) == []


def test_an_automatic_width_is_one_that_compiles(tiny, tmp_path):
    with memory.exhausting(lambda width, number: width > 1, compiling=True):
        run = osj.run(tiny, tmp_path / "run")
    assert run.finished()
    assert set(run.manifest["widths"].values()) == {1}


def test_not_even_one_run_fits(tiny, tmp_path):
    message = "with 1 runs at a time on each device: a single run does not fit"
    with (
        memory.exhausting(lambda width, number: True),
        pytest.raises(OutOfMemoryError, match=message),
    ):
        osj.run(tiny, tmp_path / "run", width=1)


def test_later_the_sweep_ends_cleanly_and_is_continued_at_the_same_width(tiny, tmp_path, capsys):
    whole = osj.run(tiny, tmp_path / "whole", width=8)
    out = tmp_path / "run"
    command = ["sweep", recipe_file(tmp_path, tiny), "--out", str(out), "--width", "8"]
    with memory.exhausting(lambda width, number: number == 2):
        assert main(command) == 1
    said = capsys.readouterr().err
    assert "out of memory after step 20, with 8 runs at a time on each device: pass width=4" in said
    assert f"To continue: onesided resume {out}" in said
    assert "Traceback" not in said
    with memory.exhausting(lambda width, number: number == 0):  # and at once when continued
        assert main(["resume", str(out)]) == 1
    assert main(["resume", str(out)]) == 0
    assert osj.open_run(out).manifest["widths"]["adam"] == 8
    assert differences(whole, out) == []


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x"))
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: x"))
    assert not is_out_of_memory(ValueError("RESOURCE_EXHAUSTED: a disk"))  # as Orbax says it


def test_a_control_group_limits_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_of, "_control_group_limits", lambda: [2**30, 2**31])
    assert memory_of.memory_bytes(jax.devices()[:1]) == 2**30
    assert memory_of.memory_bytes(jax.devices()[:1] * 2) == 2**29


def test_many_runs_stay_within_their_memory(start, tmp_path):
    """Ten times as many runs take what ten times the state takes, not more."""
    peaks = {}
    for runs in (1_000, 10_000):
        to = tmp_path / f"{runs}.json"
        out = tmp_path / f"run-{runs}"
        arguments = ["faults.memory:many_small", [str(out), runs, 100], str(to)]
        code, said = run(start, "faults.memory:peak_of", *arguments)
        assert code == 0, said
        found = json.loads(to.read_text())
        assert found["returned"] == [runs, 0, 5]
        peaks[runs] = found["peak"]
    assert peaks[10_000] < 1.5 * 2**30
    assert peaks[10_000] - peaks[1_000] < 300e6
