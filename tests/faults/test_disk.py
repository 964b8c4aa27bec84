"""A full, read-only or slow disk: the sweep ends, told with path and bytes, and can go on."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import shlex

import pytest

import onesided_jax as osj
from onesided_jax.cli import main
from onesided_jax.runs import open_run
from onesided_jax.runs.checkpoints import without_tracebacks

from . import disk
from .victims import COMMAND_LINE, run
from .workload import ONE, differences, leftovers, recipe, recipe_file

ENDS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]


@pytest.fixture(scope="module")
def tiny():
    return recipe(game="carousel", steps=40, every=10, optimizers=ONE)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory, tiny):
    return recipe_file(tmp_path_factory.mktemp("recipe"), tiny)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny):
    return osj.run(tiny, tmp_path_factory.mktemp("undisturbed") / "run").path


@pytest.mark.parametrize("write", [0, 2, 4])
def test_a_write_that_fails_ends_the_sweep_and_it_goes_on(write, tiny, undisturbed, tmp_path):
    message = rf"checkpoints/{10 * write}': cannot write .* bytes: No space left on device \("
    with disk.refusing(write), pytest.raises(osj.runs.WriteError, match=message):
        osj.run(tiny, tmp_path / "run")
    made = osj.resume(tmp_path / "run")
    assert differences(undisturbed, made) == []
    assert leftovers(made.path) == []


@pytest.mark.parametrize("code", ENDS)
def test_a_disk_that_stays_bad_ends_the_sweep_and_it_can_be_resumed(
    code, tiny_file, undisturbed, tmp_path, capsys
):
    out = tmp_path / "a run"
    with disk.refusing(*range(2, 50), code=code):
        assert main(["sweep", tiny_file, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "/adam/checkpoints/20': cannot write " in said
    assert os.strerror(code) in said
    store = open_run(out).store("adam")
    assert store.steps() == [0, 10]
    assert all(store.holds(step) for step in (0, 10))
    assert not (out / "lock").exists()
    command = said.rpartition("To continue: ")[2].splitlines()[0]
    assert command == f"onesided resume '{out}'"
    assert main(shlex.split(command)[1:]) == 0
    assert differences(undisturbed, out) == []
    assert leftovers(out) == []


def test_an_error_that_is_not_the_disks_is_not_taken_for_one(tiny, tmp_path):
    def fail(n, store, step):
        raise KeyError("a defect")

    with disk.before_writes(fail), pytest.raises(KeyError, match="a defect"):
        osj.run(tiny, tmp_path / "run")


def test_a_slow_disk_delays_and_holds_no_more_than_one_write(tiny, undisturbed, tmp_path):
    with disk.slow(0.1) as most:
        made = osj.run(tiny, tmp_path / "run")
    assert most == [1]
    assert differences(undisturbed, made) == []


def test_a_file_system_that_is_really_full(start, tiny_file, tmp_path, tmpfs):
    path = tmpfs(16_000_000)
    out, ballast = path / "run", path / "ballast"
    outside = tmp_path / "undisturbed"
    code, said = run(start, COMMAND_LINE, "sweep", tiny_file, "--out", str(outside))
    assert code == 0, said

    def fails(*command):
        code, said = run(start, *command)
        assert code == 1, said
        assert "Traceback" not in said
        assert "No space left on device" in said
        return said

    said = fails("faults.disk:sweep_filling", 2, str(path), "sweep", tiny_file, "--out", str(out))
    assert "adam/checkpoints/20': cannot write " in said
    assert f"To continue: onesided resume {out}" in said
    assert open_run(out).store("adam").steps() == [0, 10]
    fails(COMMAND_LINE, "resume", str(out))  # still full
    ballast.unlink()
    for command in ("resume", "analyze", "report"):
        if command != "resume":
            disk.ballast(path, 4096)
            fails(COMMAND_LINE, command, str(out))
            ballast.unlink()
        code, said = run(start, COMMAND_LINE, command, str(out))
        assert code == 0, said
    assert differences(outside, out) == []
    assert leftovers(out) == []


def test_a_file_system_that_turns_read_only(tiny, undisturbed, tmp_path, tmpfs, capsys):
    path = tmpfs(16_000_000)
    out = path / "run"
    asked = iter([False] * 3)
    osj.run(tiny, out, stop=lambda: next(asked, True))
    disk.remount(path, "ro")
    assert main(["resume", str(out)]) == 1
    assert f"Read-only file system: '{out / 'lock'}'" in capsys.readouterr().err
    assert main(["sweep", "carousel", "--out", str(path / "other")]) == 1
    disk.remount(path, "rw")
    assert main(["resume", str(out)]) == 0
    assert differences(undisturbed, out) == []
    disk.remount(path, "ro")
    assert main(["analyze", str(out)]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out


@pytest.mark.parametrize(("file", "told"), [("orbax/handlers.py", 0), ("other.py", 1)])
def test_what_orbax_raises_in_tasks_nobody_awaits_is_not_told(file, told, monkeypatch):
    """Arrays are written at once, and asyncio tells of each that failed after the first."""
    names, said = {}, []
    exec(compile("async def write():\n    raise OSError(28, 'full')", file, "exec"), names)

    async def save():
        tasks = [asyncio.ensure_future(names["write"]()) for _ in range(2)]
        await asyncio.wait(tasks)
        await tasks[0]

    @without_tracebacks()
    def program():
        for name in ("absl", "asyncio"):  # as a handler: pytest's would keep the exceptions alive
            monkeypatch.setattr(
                logging.getLogger(name), "callHandlers", lambda record: said.append(record.name)
            )
        loop = asyncio.new_event_loop()
        with pytest.raises(OSError, match="full") as caught:
            loop.run_until_complete(save())
        loop.close()
        logging.getLogger("absl").error("a write failed", exc_info=caught.value)

    program()
    gc.collect()
    assert said == ["absl", "asyncio"] * told
