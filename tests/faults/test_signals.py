"""SIGTERM and SIGINT: the chunk in flight is saved, and the way to go on is printed."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from onesided_jax.cli._interrupt import Interrupted, interruptible, stopping

from .victims import COMMAND_LINE, ROOT, run, until
from .workload import differences, leftovers, recipe, recipe_file


def first_checkpoint(out):
    return until(lambda: list(out.glob("cells/*/checkpoints/15")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_chunk_and_says_how_to_go_on(number, start, tmp_path, small_file, whole):
    out = tmp_path / "a run"
    victim = start(COMMAND_LINE, "sweep", small_file, "--out", str(out))
    first_checkpoint(out)
    victim.kill(number)
    assert victim.wait() == 128 + number
    said = victim.output.read_text()
    assert "stopping after this chunk" in said
    assert "Saved: adam to step " in said
    assert leftovers(out) == []  # no lock, nothing unfinished
    command = said.rpartition("To continue: ")[2].splitlines()[0]
    assert command == f"onesided resume '{out}'"
    code, said = run(start, COMMAND_LINE, *shlex.split(command)[1:])
    assert code == 0, said
    assert differences(whole, out) == []


def test_a_second_signal_ends_at_once(start, tmp_path):
    long = recipe_file(tmp_path, recipe(steps=2_000_000, every=2_000_000))
    out = tmp_path / "run"
    victim = start(COMMAND_LINE, "sweep", long, "--out", str(out))
    until(lambda: list(out.glob("cells/adam/checkpoints/0")))
    time.sleep(0.5)  # into a chunk of minutes
    victim.kill(signal.SIGTERM)
    until(lambda: "stopping after this chunk" in victim.output.read_text(), 10)
    time.sleep(0.5)
    assert victim.running()
    began = time.monotonic()
    victim.kill(signal.SIGTERM)
    assert victim.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
    assert "To continue: onesided resume" in victim.output.read_text()


def test_the_installed_command_in_a_process_of_its_own(tmp_path, start, whole, small_file):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "onesided_jax"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")}
    sweep = subprocess.Popen(
        [*command, "sweep", small_file, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    first_checkpoint(out)
    sweep.send_signal(signal.SIGSTOP)  # it still holds the folder
    second = subprocess.run(
        [*command, "resume", str(out)], capture_output=True, text=True, env=environment, check=False
    )
    assert second.returncode == 2
    assert f"in use by process {sweep.pid} on this host" in second.stderr
    sweep.send_signal(signal.SIGTERM)
    sweep.send_signal(signal.SIGCONT)
    said = sweep.communicate(timeout=60)[1]
    assert sweep.returncode == 143, said
    code, said = run(start, COMMAND_LINE, "resume", str(out))
    assert code == 0, said
    assert differences(whole, out) == []


def test_analysis_ends_by_a_signal_and_leaves_what_was_there(start, tmp_path, whole):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = {p: p.read_bytes() for p in out.iterdir() if p.is_file()}
    victim = start(COMMAND_LINE, "analyze", str(out))
    until(lambda: list(out.glob(".analysis.*")))  # the folder that it writes into
    victim.kill(signal.SIGTERM)
    assert victim.wait() == 143
    assert f"To repeat: onesided analyze {out}" in victim.output.read_text()
    assert leftovers(out) == []
    assert {p: p.read_bytes() for p in out.iterdir() if p.is_file()} == before


def test_one_signal_sent_twice_within_a_moment_counts_once():
    told = []
    with stopping(lambda number, now: told.append((number, now))) as stop:
        assert stop() == 0
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        until(stop, 5)
        time.sleep(0.05)
        assert stop() == signal.SIGINT
    assert told == [(signal.SIGINT, False)]


def test_handlers_come_back_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    try:
        with interruptible(), stopping(lambda number, now: None) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert stop() == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signal == signal.SIGTERM


def collect_and_wait():
    gc.collect()
    for _ in range(500):
        time.sleep(0.01)


@pytest.mark.parametrize("block", [collect_and_wait, gc.collect], ids=["long", "over before"])
def test_a_signal_in_the_garbage_collector_is_not_lost(block):
    """An exception in one of its callbacks is dropped, and JAX has such a callback."""
    sent = []

    def callback(phase, info):
        if not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGTERM)

    gc.callbacks.append(callback)
    try:
        with pytest.raises(Interrupted), interruptible():
            block()
    finally:
        gc.callbacks.remove(callback)
    assert sent


def test_a_signal_that_comes_back_too_soon_is_not_lost(monkeypatch):
    """On a busy machine it is there again before what sends it again has returned."""
    early = []

    class Early(threading.Timer):
        def start(self):
            if not early:
                early.append(1)
                signal.raise_signal(signal.SIGTERM)
            super().start()

    monkeypatch.setattr(threading, "Timer", Early)
    late = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: late.append(number))
    try:
        test_a_signal_in_the_garbage_collector_is_not_lost(collect_and_wait)
        time.sleep(0.1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert early
    assert late == []  # two were under way: the second does not end what comes after the block


def test_other_threads_take_no_signals():
    seen = []

    def work():
        with interruptible(), stopping(lambda number, now: None) as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
