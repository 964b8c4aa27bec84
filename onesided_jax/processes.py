"""Several processes as one program: connecting them, and what they have to agree on.

Everything stands on JAX's own runtime (`jax.distributed`, `jax.experimental.multihost_utils`). In a
program of one process each function here does its work at once and costs nothing. All processes
call the same functions in the same order, from their main thread.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from onesided_jax.players import keys_like

__all__ = [
    "LostProcessError",
    "NotJoinedError",
    "connect",
    "count",
    "fetch",
    "first",
    "highest",
    "index",
    "is_first",
    "together",
]

T = TypeVar("T")

_KINDS = (MemoryError, OSError, ValueError, TypeError, ImportError, RuntimeError)
_HEARTBEAT = 20  # seconds without a sign of life; a process that dies while others compute
_CLUSTERS = "Slurm, Kubernetes (GKE), Open MPI or a TPU pod"


class LostProcessError(RuntimeError):
    """Another process of this program has died, or cannot be reached any more."""


class NotJoinedError(ValueError):
    """The processes did not find each other; JAX may still be waiting, in a thread."""


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float = 300.0,
) -> None:
    """Joins the processes of one program, through `jax.distributed.initialize`.

    Args:
      coordinator: ``HOST:PORT`` of process 0, the same for all; ``None`` asks the environment:
        Slurm, GKE, Open MPI and TPU pods say all three.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: for arguments that cannot be, no such environment, or a coordinator that does not
        answer in time.
      NotJoinedError: a ``ValueError``; not all processes came in time. The program can only end.

    Example:
      >>> from onesided_jax.processes import connect
      >>> connect("10.0.0.1:1234", num_processes=2, process_id=2)
      Traceback (most recent call last):
      ...
      ValueError: process id 2: expected 0 to 1, there being 2 processes
    """
    given = (coordinator, num_processes, process_id)
    by_hand = any(value is not None for value in given)
    if by_hand:
        _check(coordinator, num_processes, process_id)
        if process_id != 0:
            assert coordinator is not None
            timeout = _wait_for(coordinator, timeout)
    failures: list[Exception] = []

    def join() -> None:
        try:
            # Its own time-out ends the process without a word that a user understands.
            wait = round(timeout) + 60
            jax.distributed.initialize(
                *given, initialization_timeout=wait, heartbeat_timeout_seconds=_HEARTBEAT
            )
        except (ValueError, RuntimeError) as error:
            failures.append(error)

    joining = threading.Thread(target=join, name="joining", daemon=True)
    joining.start()
    joining.join(timeout)
    if joining.is_alive():
        reason = f"not all came within {timeout:g} s"
    elif failures:
        reason = str(failures[0]).partition("\n")[0]
    elif num_processes is not None and jax.process_count() != num_processes:
        reason = f"told {num_processes} processes here, and {jax.process_count()} by process 0"
    else:
        return
    if not by_hand and "be defined" in reason:
        raise ValueError(
            f"no cluster was found (looked for {_CLUSTERS}): expected coordinator (HOST:PORT of "
            "process 0), num_processes and process_id"
        )
    raise NotJoinedError(
        f"{coordinator or 'the cluster'}: the processes could not be joined: {reason}. Expected "
        "the same coordinator and number of processes on all, and each process id once"
    )


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    names = ("coordinator", "num_processes", "process_id")
    values = (coordinator, num_processes, process_id)
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} missing: coordinator (HOST:PORT of process 0), num_processes "
            "and process_id go together"
        )
    assert coordinator is not None
    assert num_processes is not None
    assert process_id is not None
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):([0-9]{1,5})", coordinator)
    if found is None or not 0 < int(found[2]) < 2**16:
        raise ValueError(f"coordinator {coordinator!r}: expected HOST:PORT, as in 10.0.0.1:1234")
    if num_processes < 1:
        raise ValueError(f"{num_processes} processes: expected 1 or more")
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process id {process_id}: expected 0 to {num_processes - 1}, there being "
            f"{num_processes} processes"
        )


def _wait_for(coordinator: str, timeout: float) -> float:
    """Waits until somebody listens there; returns the seconds that are left."""
    host, _, port = coordinator.rpartition(":")
    end, reason = time.monotonic() + timeout, "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return max(1.0, end - time.monotonic())
        except OSError as error:
            reason = error.strerror or str(error) or reason
            time.sleep(min(0.2, max(0.0, left)))
    raise ValueError(
        f"coordinator {coordinator}: nobody answered within {timeout:g} s ({reason}). Is process 0 "
        "running there, and may this host reach the port?"
    )


def count() -> int:
    """How many processes there are."""
    return jax.process_count()


def index() -> int:
    """Which one this is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is process 0, which alone writes manifests, holds locks and talks to people."""
    return index() == 0


def highest(number: int) -> int:
    """The highest of a number that each process has."""
    return number if count() == 1 else int(_all(np.int32(number)).max())


def first(work: Callable[[], Any]) -> Any:
    """Does something on process 0 only, and gives its result (of JSON's types) to all.

    What it raises is raised on all.
    """
    if count() == 1:
        return work()
    result, failure = None, None
    if is_first():
        try:
            result = work()
        except Exception as error:
            failure = error
    _raise_any(failure)
    text = "".join(_texts(json.dumps(result) if is_first() else ""))
    return result if is_first() else json.loads(text)


def together(work: Callable[[], T]) -> T:
    """Does something on every process; what one of them raises is raised on all."""
    if count() == 1:
        return work()
    result, failure = None, None
    try:
        result = work()
    except Exception as error:
        failure = error
    _raise_any(failure)
    return result  # pyright: ignore[reportReturnType]


def fetch(tree: Any, rows: int) -> Any:
    """The first so many rows of arrays that are spread over all devices, on every host."""

    def on_host(leaf: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return keys_like(on_host(jax.random.key_data(leaf)), leaf)
        if not leaf.is_fully_addressable:
            from jax.experimental import multihost_utils

            with _losing():
                leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)[:rows]

    return jax.tree.map(on_host, tree)


def _raise_any(failure: Exception | None) -> None:
    """Raises, on every process, the failure of one; its own where it has one."""
    described = "" if failure is None else json.dumps(_describe(failure))
    found = _texts(described)
    if failure is not None:
        raise failure
    for process, text in enumerate(found):
        if text:
            raise _rebuild(process, json.loads(text))


def _describe(error: Exception) -> dict[str, Any]:
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), RuntimeError)
    return {
        "kind": kind.__name__,
        "text": str(error) or type(error).__name__,
        "errno": getattr(error, "errno", None),
    }


def _rebuild(process: int, described: dict[str, Any]) -> Exception:
    kind = next(kind for kind in _KINDS if kind.__name__ == described["kind"])
    if kind is OSError and described["errno"] is not None:
        return OSError(described["errno"], described["text"])
    return kind(f"{described['text']} (process {process})")


def _texts(text: str) -> list[str]:
    """The text of every process, on all."""
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = _all(np.int32(content.size))
    if not sizes.any():
        return [""] * len(sizes)
    length = 1 << int(sizes.max() - 1).bit_length()  # few lengths: each is compiled once
    rows = _all(np.pad(content, (0, length - content.size)))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def _all(value: Any) -> np.ndarray:
    """The values of every process, stacked in their order."""
    return _gathered(value)[_order()]


@functools.cache
def _order() -> np.ndarray:
    """Where the value of each process is among those that were gathered."""
    return np.argsort(_gathered(np.int32(index())))


def _gathered(value: Any) -> np.ndarray:
    from jax.experimental import multihost_utils

    with _losing():
        return np.asarray(multihost_utils.process_allgather(value)).reshape(
            count(), *np.shape(value)
        )


@contextlib.contextmanager
def _losing():
    """Says in plain words what the runtime says of a process that is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise LostProcessError(
            f"another process of the {count()} is gone, or cannot be reached: {reason}"
        ) from error
