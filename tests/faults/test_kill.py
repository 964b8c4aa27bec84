"""Kill anywhere: what is left is continued to the same bits, and nothing is left behind."""

from __future__ import annotations

from . import kill
from .victims import COMMAND_LINE, nursery, run
from .workload import differences, recipe, recipe_file


def test_kill_9_at_random_moments(start, tmp_path, small_file, whole):
    found = kill.at_random_moments(start, tmp_path, small_file, whole, kills=5)
    assert found.kept(), found
    assert max(found.seconds_lost) < 20


def test_kill_9_at_changes_to_the_file_system(start, tmp_path, small_file, whole):
    found = kill.at_every_change(start, tmp_path, small_file, whole, points=range(3, 2000, 90))
    assert found.kept(), found
    assert found.injected >= 3


def test_kill_9_in_analysis_and_report(start, tmp_path, whole):
    found = kill.in_analysis_and_report(start, tmp_path, whole, kills=2)
    assert found.kept(), found


def test_signals_at_random_moments(start, tmp_path, small_file, whole):
    found = kill.by_signal(start, tmp_path, small_file, whole, times=3)
    assert found.kept(), found


def test_a_second_writer_is_refused(start, tmp_path, small_file, whole):
    found = kill.second(start, tmp_path, small_file, whole, times=3)
    assert found.kept(), found


def test_a_compilation_cache_that_a_kill_cut_off_changes_nothing(tmp_path):
    rates = {"primal_learning_rate": [0.1], "dual_learning_rate": [0.1]}
    tiny = recipe(game="bilinear", steps=4, every=2, optimizers=[{"name": "sgda", "axes": rates}])
    path, cache = recipe_file(tmp_path, tiny), tmp_path / "cache"
    with nursery(tmp_path, JAX_COMPILATION_CACHE_DIR=str(cache)) as start:
        for name in ("cold", "cut off"):
            code, said = run(start, COMMAND_LINE, "sweep", path, "--out", str(tmp_path / name))
            assert code == 0, said
            entries = [p for p in cache.iterdir() if p.is_file()]
            assert entries
            for entry in entries:
                entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    assert differences(tmp_path / "cold", tmp_path / "cut off") == []
