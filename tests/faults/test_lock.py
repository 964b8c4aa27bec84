"""Two processes never write one run directory."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import time

import pytest

from onesided_jax.runs import LockedError, lock

from .victims import until


def hold(path, announce):
    """A victim that holds a lock until it is killed."""
    import time
    from pathlib import Path

    with lock(Path(path)):
        Path(announce).touch()
        time.sleep(600)


def count(path, counter, times):
    """A victim that takes the lock again and again to add one to a file, not atomically."""
    from pathlib import Path

    done = 0
    while done < times:
        try:
            with lock(Path(path)):
                value = int(Path(counter).read_text())
                Path(counter).write_text(str(value + 1))
                done += 1
        except LockedError:
            pass


def without_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_living_holder_is_named_and_a_killed_one_is_taken_over(start, tmp_path):
    path = tmp_path / "lock"
    victim = start("faults.test_lock:hold", str(path), str(tmp_path / "announce"))
    until((tmp_path / "announce").exists)
    for _ in range(2):
        with pytest.raises(LockedError, match=rf"in use by process {victim.pid} on this host"):
            lock(path).__enter__()
    victim.kill(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert json.loads(path.read_text())["pid"] == victim.pid  # it could not clean up
    with lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.glob("lock*")) == []


def test_processes_that_race_for_the_lock_lose_no_update(start, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    racers = [
        start("faults.test_lock:count", str(tmp_path / "lock"), str(counter), 30) for _ in range(4)
    ]
    assert [racer.wait() for racer in racers] == [0] * 4
    assert counter.read_text() == "120"


ME = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}


@pytest.mark.parametrize("host", [ME["host"], "node-7"])
def test_without_flock_a_file_that_names_an_owner_is_a_lock(host, tmp_path, monkeypatch):
    without_flock(monkeypatch)
    path = tmp_path / "lock"
    path.write_text(json.dumps({**ME, "host": host}))
    with (
        pytest.raises(LockedError, match=r"locked by process \d+ on .*remove the lock"),
        lock(path),
    ):
        pass
    assert json.loads(path.read_text())["host"] == host
    path.unlink()
    with lock(path), pytest.raises(LockedError, match="locked by process"), lock(path):
        pass
    assert not path.exists()


def test_another_hosts_lock_is_never_overruled_and_says_how_to_remove_it(tmp_path):
    path = tmp_path / "a run" / "lock"
    path.parent.mkdir()
    path.write_text(json.dumps({**ME, "host": "node-7"}))  # flock is free: it may not cross hosts
    with pytest.raises(
        LockedError, match=r"remove the lock and try again: (rm .*lock'?)$"
    ) as error:
        lock(path).__enter__()
    command = str(error.value).rpartition("again: ")[2]
    assert os.system(command) == 0  # what it says to do works
    with lock(path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00", b'{"pid": "x"}'])
def test_half_a_record_is_no_owner(content, tmp_path):
    path = tmp_path / "lock"
    path.write_bytes(content)
    if content.startswith(b'{"pid'):  # a host that is not this one
        with pytest.raises(LockedError, match="host None"), lock(path):
            pass
    else:
        with lock(path):
            pass
