"""Sweeps of several processes on loopback: the same bits, also after one is lost."""

from __future__ import annotations

import re
import signal
import socket
import time

import jax.numpy as jnp
import numpy as np
import pytest

from onesided_jax import processes
from onesided_jax.runs import open_run

from .victims import COMMAND_LINE, run, until
from .workload import differences, is_same_tree, leftovers, recipe, recipe_file


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def together(start, count, *command, port=None, numbers=None):
    """Starts a command in so many processes of one program."""
    address = f"127.0.0.1:{port or free_port()}"
    return [
        start(
            COMMAND_LINE, *command, "--coordinator", address,
            "--num-processes", str(count if numbers is None else numbers[i]),
            "--process-id", str(i), "--connect-timeout", "60",
        )
        for i in range(count)
    ]  # fmt: skip


def ended(victims):
    """Exit codes, and what each said."""
    codes = [victim.wait() for victim in victims]
    return codes, [victim.output.read_text() for victim in victims]


RATES = {"primal_learning_rate": [1e-3], "dual_learning_rate": [2e-3]}
ONE = [{"name": "adam", "axes": RATES}]
SMALL = {"steps": 40, "every": 10, "seeds": [0, 1, 2, 3, 4], "optimizers": ONE}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, start):
    """``make(game, width)``: a recipe of five runs, and its sweep by one process."""
    found = {}

    def make(game="carousel", width=2):
        if (game, width) not in found:
            folder = tmp_path_factory.mktemp(f"{game}-{width}")
            path = recipe_file(folder, recipe(**SMALL, game=game))
            out = folder / "run"
            code, said = run(
                start, COMMAND_LINE, "sweep", path, "--out", str(out), "--width", str(width)
            )
            assert code == 0, said
            found[game, width] = path, out
        return found[game, width]

    return make


@pytest.mark.as_shipped  # the old fusion emitters round the GAN differently in two processes
@pytest.mark.parametrize(
    ("game", "count", "width"),
    [("gan", 2, 2), ("carousel", 2, 1), ("carousel", 4, 2), ("carousel", 2, 8)],
)
def test_processes_write_the_same_checkpoints_as_one(game, count, width, start, narrow, tmp_path):
    path, alone = narrow(game, width)
    out = tmp_path / "run"
    command = ("sweep", path, "--out", str(out), "--width", str(width))
    codes, said = ended(together(start, count, *command))
    assert codes == [0] * count, said
    assert differences(alone, out) == []
    assert leftovers(out) == []
    assert "Next: onesided analyze" in said[0]
    assert all("run-steps" not in text for text in said[1:])  # one of them talks
    last = open_run(out).store("adam")
    assert len(last.read(40)["diverged_at"]) == 5
    shards = list((last.path / "40").glob("arrays/**/ocdbt.process_*"))
    assert len(shards) == count  # each wrote its own


def test_the_width_is_chosen_by_one_for_all(start, narrow, tmp_path):
    path, _ = narrow()
    out = tmp_path / "run"
    codes, said = ended(together(start, 2, "sweep", path, "--out", str(out)))
    assert codes == [0, 0], said
    found = open_run(out)
    assert set(found.manifest["widths"]) == {"adam"}
    assert found.finished()
    code, text = run(start, COMMAND_LINE, "resume", str(out))
    assert code == 0, text


def test_a_lost_process_ends_the_others_and_any_number_goes_on(start, tmp_path):
    long = recipe_file(tmp_path, recipe(**{**SMALL, "steps": 40_000}, game="carousel", name="long"))
    out = tmp_path / "run"
    victims = together(start, 2, "sweep", long, "--out", str(out), "--width", "2")
    until(lambda: list(out.glob("cells/adam/checkpoints/30")))
    victims[1].kill(signal.SIGKILL)
    began = time.monotonic()
    code = victims[0].wait()
    said = victims[0].output.read_text()
    assert code == 1, said
    assert time.monotonic() - began < 30
    assert "another of the 2 processes is gone" in said
    assert f"onesided resume {out}" in said
    assert "Traceback" not in said
    # The lock went with its holder; what is there is whole, and goes on with three processes,
    victims = together(start, 3, "resume", str(out))
    reached = max(open_run(out).store("adam").steps())
    until(lambda: list(out.glob(f"cells/adam/checkpoints/{reached + 20}")))
    victims[2].kill(signal.SIGTERM)  # told one, all stop, with everything saved,
    codes, said = ended(victims)
    assert codes == [128 + signal.SIGTERM] * 3, said
    assert leftovers(out) == []
    # and with one alone; all of it is what one process would have made.
    stopped = open_run(out).store("adam").steps()
    other = tmp_path / "alone"
    victim = start(COMMAND_LINE, "sweep", long, "--out", str(other), "--width", "2")
    until(lambda: list(other.glob(f"cells/adam/checkpoints/{stopped[-1]}")))
    victim.kill(signal.SIGTERM)
    victim.wait()
    ours, theirs = open_run(out).store("adam"), open_run(other).store("adam")
    for step in stopped:
        assert is_same_tree(ours.read(step), theirs.read(step)), step


def test_a_coordinator_that_is_not_there_is_named(start, narrow, tmp_path):
    path, _ = narrow()
    out, address = tmp_path / "run", f"127.0.0.1:{free_port()}"
    command = ["sweep", path, "--out", str(out), "--coordinator", address]
    command += ["--num-processes", "2", "--process-id", "1", "--connect-timeout", "1"]
    code, said = run(start, COMMAND_LINE, *command)
    assert code == 2
    assert f"coordinator {address}: no answer within 1 s" in said
    assert not out.exists()


def test_processes_that_do_not_come_are_missed(start, narrow, tmp_path):
    path, _ = narrow()
    out, address = tmp_path / "run", f"127.0.0.1:{free_port()}"
    command = ["sweep", path, "--out", str(out), "--coordinator", address]
    command += ["--num-processes", "2", "--process-id", "0", "--connect-timeout", "2"]
    code, said = run(start, COMMAND_LINE, *command)
    assert code == 2, said
    assert f"{address}: the processes could not be joined: not all joined within 2 s" in said
    assert not out.exists()


def test_counts_that_differ_are_refused(start, narrow, tmp_path):
    path, _ = narrow()
    victims = together(start, 2, "sweep", path, "--out", str(tmp_path / "run"), numbers=[2, 3])
    codes, said = ended(victims)
    assert codes[1] == 2, said
    assert "num_processes is 3 here and 2 in process 0" in said[1]
    assert codes[0] in (1, -signal.SIGABRT)  # by us, or by JAX, if it is the first to notice


def test_a_lost_coordinator_ends_the_others(start, tmp_path):
    long = recipe_file(tmp_path, recipe(**{**SMALL, "steps": 40_000}, game="carousel", name="long"))
    out = tmp_path / "run"
    victims = together(start, 2, "sweep", long, "--out", str(out), "--width", "2")
    until(lambda: list(out.glob("cells/adam/checkpoints/30")))
    victims[0].kill(signal.SIGKILL)
    assert victims[1].wait() in (1, -signal.SIGABRT)
    said = victims[1].output.read_text()
    assert "is gone" in said or "another task died" in said
    code, said = run(start, COMMAND_LINE, "resume", str(out), "--devices", "9")
    assert code == 2  # the lock went with its holder; now the devices are asked for
    assert "devices=9: expected 1 to" in said


def test_recipes_that_differ_are_refused(start, narrow, tmp_path):
    path, _ = narrow()
    other = recipe_file(tmp_path, recipe(**{**SMALL, "steps": 80}, game="carousel", name="other"))
    out, address = tmp_path / "run", f"127.0.0.1:{free_port()}"
    common = ["--out", str(out), "--coordinator", address, "--num-processes", "2"]
    victims = [
        start(COMMAND_LINE, "sweep", recipe, *common, "--process-id", str(i))
        for i, recipe in enumerate((path, other))
    ]
    codes, said = ended(victims)
    assert codes == [2, 2], said
    assert "holds another run" in said[1]
    assert "holds another run" in said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinator": "a:1"}, "num_processes, process_id missing"),
        ({"num_processes": 2}, "coordinator, process_id missing"),
        ({"coordinator": "a", "num_processes": 2, "process_id": 0}, "expected HOST:PORT"),
        ({"coordinator": "a:0", "num_processes": 2, "process_id": 0}, "expected HOST:PORT"),
        ({"coordinator": "a:99999", "num_processes": 2, "process_id": 0}, "expected HOST:PORT"),
        ({"coordinator": "a:1", "num_processes": 0, "process_id": 0}, "expected 1 or more"),
        ({"coordinator": "a:1", "num_processes": 2, "process_id": 2}, "expected 0 to 1"),
        ({"coordinator": "a:1", "num_processes": 2, "process_id": -1}, "expected 0 to 1"),
    ],
)
def test_arguments_are_checked_first(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        processes.connect(**arguments)


def test_one_process_alone_has_nothing_to_agree_on():
    rows = {"a": jnp.arange(3)}
    assert processes.first(lambda: object) is object
    assert processes.together(lambda: object) is object
    assert processes.highest(3) == 3
    np.testing.assert_array_equal(processes.fetch(rows, 2)["a"], [0, 1])


def test_no_cluster_is_said_so(start, narrow, tmp_path):
    path, _ = narrow()
    code, said = run(
        start, COMMAND_LINE, "sweep", path, "--out", str(tmp_path / "run"), "--distributed"
    )
    assert code == 2
    assert "no cluster was found" in said
    assert not (tmp_path / "run").exists()
