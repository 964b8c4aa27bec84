"""Checkpoints written in the background, and tried again once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from onesided_jax import processes
from onesided_jax.runs import CheckpointStore, WriteError

__all__ = ["Writer"]


class _Job(NamedTuple):
    """One checkpoint to write."""

    step: int
    arrays: dict[str, Any]
    info: dict[str, Any]


class Writer:
    """Writes checkpoints in the order given, one at a time, while the next chunk computes.

    A checkpoint that the disk does not take is kept in memory and written with the next one, or at
    the end; if that fails too, the sweep ends with the :class:`WriteError`. Until then nothing is
    lost, and no more than two checkpoints are in memory however slow the disk is. The first
    checkpoint of a process is read back, so that hours are not spent on what cannot be.

    Where there are several processes, each takes part in every checkpoint, in the same order as in
    everything else that they do together: `submit` returns when it is written.

    Args:
      store: where to; ``None`` writes nothing.
      tell: called with one sentence when a write will be tried again.
    """

    def __init__(self, store: CheckpointStore | None, tell: Callable[[str], None]):
        self._store, self._tell = store, tell
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[tuple[_Job, WriteError] | None] | None = None
        self._failed: _Job | None = None
        self._checked = False

    def submit(self, step: int, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Queues one checkpoint; raises what ended the writing of those before."""
        if self._store is None:
            return
        self._wait()
        again, self._failed = self._failed, None
        if processes.count() > 1:
            self._note(self._write(again, _Job(step, arrays, info)))
        else:
            self._pending = self._pool.submit(self._write, again, _Job(step, arrays, info))

    def _write(self, again: _Job | None, job: _Job) -> tuple[_Job, WriteError] | None:
        assert self._store is not None
        if again is not None:
            self._store.write(*again)
        try:
            self._store.write(*job)
        except WriteError as error:
            return job, error
        if not self._checked:
            store = self._store
            processes.together(lambda: store.read(job.step))
            self._checked = True
        return None

    def _wait(self) -> None:
        """Waits for the checkpoint being written; one that failed first is kept."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._note(pending.result())

    def _note(self, failure: tuple[_Job, WriteError] | None) -> None:
        if failure is not None:
            self._failed, error = failure
            self._tell(f"{error}; it will be tried again at the next checkpoint")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._wait()
                if self._store is not None and self._failed is not None:
                    self._store.write(*self._failed)
        finally:
            self._pool.shutdown(wait=True)
