"""Connects several processes into one program and lets them exchange values.

Built on `jax.distributed` and `jax.experimental.multihost_utils`. All processes must call these
functions in the same order, from their main thread. With one process they communicate nothing.
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
_HEARTBEAT = 20  # seconds of silence after which JAX counts a process as dead
_CLUSTERS = "Slurm, Kubernetes (GKE), Open MPI or a TPU pod"


class LostProcessError(RuntimeError):
    """Another process of this program has died or cannot be reached."""


class NotJoinedError(ValueError):
    """The processes could not be joined; a thread of JAX may still be waiting."""


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float = 300.0,
) -> None:
    """Joins the processes of one program with `jax.distributed.initialize`.

    Pass the first three arguments together, or none of them: Slurm, GKE, Open MPI and TPU pods
    provide all three.

    Args:
      coordinator: ``HOST:PORT`` of process 0, the same in every process.
      num_processes: number of processes, ``>= 1``.
      process_id: number of this process, from 0 to ``num_processes - 1``.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: for an invalid argument, if no cluster is detected, or if the coordinator does not
        answer in time.
      NotJoinedError: a ``ValueError``: not all processes joined in time. The program must exit.

    Example:
      >>> from onesided_jax.processes import connect
      >>> connect("10.0.0.1:1234", num_processes=2, process_id=2)
      Traceback (most recent call last):
      ...
      ValueError: process id 2: expected 0 to 1 for 2 processes
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
            # JAX's own time-out kills the process with an obscure message, so ours comes first.
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
        reason = f"not all joined within {timeout:g} s"
    elif failures:
        reason = str(failures[0]).partition("\n")[0]
    elif num_processes is not None and jax.process_count() != num_processes:
        reason = f"num_processes is {num_processes} here and {jax.process_count()} in process 0"
    else:
        return
    if not by_hand and "be defined" in reason:
        raise ValueError(
            f"no cluster was found (looked for {_CLUSTERS}): pass coordinator (HOST:PORT of "
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
            f"{', '.join(missing)} missing: expected coordinator (HOST:PORT of process 0), "
            "num_processes and process_id together"
        )
    assert coordinator is not None
    assert num_processes is not None
    assert process_id is not None
    address = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):([0-9]{1,5})", coordinator)
    if address is None or not 0 < int(address[2]) < 2**16:
        raise ValueError(f"coordinator {coordinator!r}: expected HOST:PORT, as in 10.0.0.1:1234")
    if num_processes < 1:
        raise ValueError(f"{num_processes} processes: expected 1 or more")
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process id {process_id}: expected 0 to {num_processes - 1} for "
            f"{num_processes} processes"
        )


def _wait_for(coordinator: str, timeout: float) -> float:
    """Waits until the coordinator's port is open; returns the remaining seconds."""
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
        f"coordinator {coordinator}: no answer within {timeout:g} s ({reason}). Check that "
        "process 0 runs there and that this host can reach the port"
    )


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def index() -> int:
    """Number of this process, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is process 0; only process 0 writes manifests, holds locks and prints."""
    return index() == 0


def highest(number: int) -> int:
    """The maximum of ``number`` over all processes."""
    return number if count() == 1 else int(_all(np.int32(number)).max())


def first(work: Callable[[], Any]) -> Any:
    """Runs ``work`` on process 0 and returns its JSON-serialisable result on every process.

    An exception of ``work`` is raised on every process.
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
    """Runs ``work`` on every process; if it fails on one, all raise that exception."""
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
    """Copies the first ``rows`` rows of arrays sharded over all devices to every host."""

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
    """If a process failed, raises on every process: its own failure, or the first other one."""
    texts = _texts("" if failure is None else json.dumps(_describe(failure)))
    if failure is not None:
        raise failure
    for process, text in enumerate(texts):
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
    """The texts of all processes, in order, on every process."""
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = _all(np.int32(content.size))
    if not sizes.any():
        return [""] * len(sizes)
    length = 1 << int(sizes.max() - 1).bit_length()  # powers of 2, because each length compiles
    rows = _all(np.pad(content, (0, length - content.size)))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def _all(value: Any) -> np.ndarray:
    """The values of all processes, stacked in process order."""
    return _gathered(value)[_order()]


@functools.cache
def _order() -> np.ndarray:
    """Row of each process in a gathered array."""
    return np.argsort(_gathered(np.int32(index())))


def _gathered(value: Any) -> np.ndarray:
    from jax.experimental import multihost_utils

    with _losing():
        return np.asarray(multihost_utils.process_allgather(value)).reshape(
            count(), *np.shape(value)
        )


@contextlib.contextmanager
def _losing():
    """Turns the runtime's error about a lost process into a ``LostProcessError``."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise LostProcessError(
            f"another of the {count()} processes is gone or cannot be reached: {reason}"
        ) from error
