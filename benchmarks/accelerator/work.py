"""Runs each job in its own process with a time limit, and receives the rows one by one.

Each job has its own process, because XLA and PyTorch never return device memory. In one process,
the first would starve the second. ``XLA_PYTHON_CLIENT_PREALLOCATE`` is off, so XLA takes only the
memory that a program needs, not three quarters of the device at once. The process that starts the
jobs computes nothing, because a TPU, for example, belongs to a single process.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import ROOT, progress

Row = dict[str, Any]
QUICK = " --xla_backend_optimization_level=0"
MARK = "row "  # prefix of a line of a child's output that holds a row
PROBE = """
import json, jax
d = jax.devices()
print(json.dumps({"platform": d[0].platform, "kind": d[0].device_kind, "count": len(d)}))
"""


class Context(NamedTuple):
    """Settings that every job gets.

    Attributes:
      tiny: only show that everything works.
      platform: ``"gpu"``, ``"tpu"`` or ``"cpu"``.
      data_dir: folder with MNIST's official files, or ``None``.
      out: folder of the results.
      cache: folder of compiled programs that tiny jobs share; ``None`` if compiling is timed.
    """

    tiny: bool
    platform: str
    data_dir: str | None
    out: str
    cache: str | None = None


class Job(NamedTuple):
    """A part of a section.

    Attributes:
      name: of the job, unique in its section.
      seconds: time limit of the process; tiny jobs may use all the time left.
      flags: for XLA.
      command: another program to run instead; ``{minutes}`` stands for the minutes left.
    """

    name: str
    seconds: float = 90.0
    flags: str = ""
    command: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """The outcome of a job.

    Attributes:
      rows: measured before it ended.
      problem: why it ended early, or ``None``.
      seconds: wall time.
    """

    rows: list[Row]
    problem: str | None
    seconds: float


def probe() -> dict[str, Any]:
    """Platform, kind and number of the devices, read in a separate process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment()
    )
    if done.returncode:
        raise RuntimeError(f"jax.devices() failed: {_last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def run(section: str, job: Job, context: Context, done: list[Row], seconds: float) -> Outcome:
    """Runs a job for at most ``seconds``; it need not measure the rows in ``done`` again."""
    start = time.perf_counter()
    about = {"section": section, "job": job.name, "context": context._asdict(), "done": done}
    command = [sys.executable, "-m", "benchmarks.accelerator.child", json.dumps(about)]
    if job.command:
        command = [part.format(minutes=f"{seconds / 60:.1f}") for part in job.command]
    rows: list[Row] = []
    limit = seconds if context.tiny else min(seconds, job.seconds)
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "stderr").open("w+") as errors:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment(job.flags, scratch, context),
            start_new_session=True,  # PyTorch's compiler starts processes too
        ) as process:
            timer = threading.Timer(limit, _end, [process])
            timer.start()
            try:
                rows.extend(_rows(process.stdout or ()))
                process.wait()
            finally:
                timer.cancel()
                _end(process)
        took = time.perf_counter() - start
        errors.seek(0)
        problem = None
        if process.returncode:
            told = _last_line(errors.read())
            problem = f"cut off after {took:.0f} s" if took >= limit else told
    return Outcome(rows, problem, round(took, 1))


def emit(row: Mapping[str, Any]) -> None:
    """Sends a row from a child to `run`."""
    print(MARK + json.dumps(row), flush=True)


def _rows(lines: Iterable[str]) -> Iterable[Row]:
    for line in lines:
        if line.startswith(MARK):
            yield json.loads(line.removeprefix(MARK))
        elif line.strip():
            progress(line)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a process and those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    return lines[-1][:300] if lines else "no message"


def environment(
    flags: str = "", scratch: str | None = None, context: Context | None = None
) -> dict[str, str]:
    """The environment of a job."""
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    if context is not None and context.tiny and context.platform == "cpu":
        flags += QUICK
    if scratch is not None:
        path += [_as_if_installed(Path(scratch))]
    changed = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
    }
    if context is not None and context.cache is not None:
        changed |= {
            "JAX_COMPILATION_CACHE_DIR": context.cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        changed["JAX_PLATFORMS"] = f"{platforms},cpu"  # the device is compared with the CPU
    return os.environ | changed


def _as_if_installed(scratch: Path) -> str:
    """A folder for Python's path that names this package's version, if pip does not.

    A manifest records the installed version, and on a borrowed machine nothing is installed.
    """
    try:
        importlib.metadata.version("onesided-jax")
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        folder = scratch / f"onesided_jax-{project['version']}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        return str(scratch)
    return ""
