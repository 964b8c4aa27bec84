"""Many checkpoints in a row: nothing that is opened stays open, nothing that is written is left."""

from __future__ import annotations

from . import soak
from .victims import run
from .workload import leftovers


def test_memory_files_and_threads_stay_flat(start, tmp_path):
    out, samples = tmp_path / "run", tmp_path / "samples.csv"
    code, said = run(start, "faults.soak:sweep", str(out), str(samples), 10.0, 20, 20, 0.1)
    assert code == 0, said
    found = soak.trend(samples, out)
    assert found["checkpoints"] > 12, found
    assert abs(found["open files"][1] - found["open files"][0]) < 30, found
    assert abs(found["threads"][1] - found["threads"][0]) < 30, found
    assert found["bytes of a checkpoint"][1] < 1.2 * found["bytes of a checkpoint"][0], found
    assert found["megabytes grown"] < 50, found
    assert found["unfinished files at most"] <= 1, found
    assert leftovers(out) == []
