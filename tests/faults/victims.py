"""Processes to be killed: forked in milliseconds from one that has imported everything already."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
COMMAND_LINE = "onesided_jax.cli:main"
_CACHE = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}


class Victim(NamedTuple):
    """A running process.

    Attributes:
      pid: its id.
      output: the file that its standard output and error go to.
      wait: waits for its end; the exit code, or minus the signal that ended it.
    """

    pid: int
    output: Path
    wait: Callable[[], int]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def running(self) -> bool:
        """Whether it has not ended; a zombie has."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"


@contextlib.contextmanager
def nursery(folder: Path, **environment: str) -> Iterator[Callable[..., Victim]]:
    """Starts victims: ``start("package.module:function", *arguments)``, arguments as in JSON.

    Importing JAX takes seconds and a fork milliseconds, so one process imports everything that a
    sweep, an analysis and a report need, starts no computation of its own, and is forked.

    Args:
      folder: for outputs.
      **environment: further environment variables of the victims.
    """
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **_CACHE, **environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )

    def ask(*question: Any) -> Any:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(question) + "\n")
        parent.stdin.flush()
        return json.loads(parent.stdout.readline())

    numbers = itertools.count()
    unwaited: set[int] = set()  # only these are surely ours: the number of others is given again

    def start(function: str, *arguments: Any) -> Victim:
        output = folder / f"victim-{next(numbers)}.txt"
        pid = ask("start", function, arguments, str(output))
        unwaited.add(pid)

        def wait() -> int:
            code = ask("wait", pid)
            unwaited.discard(pid)
            return code

        return Victim(pid, output, wait)

    try:
        yield start
    finally:
        for pid in unwaited:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert parent.stdin is not None
        parent.stdin.close()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


def run(start: Callable[..., Victim], function: str, *arguments: Any) -> tuple[int, str]:
    """Starts a victim, lets it live, and returns its exit code and what it said."""
    victim = start(function, *arguments)
    return victim.wait(), victim.output.read_text()


def until(condition: Callable[[], Any], seconds: float = 120.0, pause: float = 0.001) -> Any:
    """Waits for a condition and returns what it returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError(f"nothing happened in {seconds} s")


def _main() -> None:
    """The process that is forked."""
    for name in ("cli", "sweeps", "analysis", "report", "datasets"):
        importlib.import_module(f"onesided_jax.{name}")
    importlib.import_module("onesided_jax.runs.checkpoints")._orbax()
    for line in sys.stdin:
        what, *question = json.loads(line)
        answer = _fork(*question) if what == "start" else _status(*question)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _fork(name: str, arguments: list[Any], output: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(handle, standard)
    module, _, function = name.partition(":")
    code = 70  # an exception that was not caught
    try:
        arguments = [arguments] if name == COMMAND_LINE else arguments
        code = getattr(importlib.import_module(module), function)(*arguments) or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    _main()
