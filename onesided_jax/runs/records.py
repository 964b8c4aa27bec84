"""Updates a run's manifest during training: layouts, and sessions under other versions."""

from __future__ import annotations

import dataclasses
from typing import Any

from onesided_jax import processes
from onesided_jax.runs import manifest as manifests
from onesided_jax.runs.directory import Run

__all__ = ["record", "record_session"]


def record(run: Run, **changes: Any) -> Run:
    """Changes parts of a run's manifest, and returns the run; the run must be locked for writing.

    Values have JSON types. With several processes, only the first one writes.
    """
    manifest = {**run.manifest, **changes}
    if manifest == run.manifest:
        return run
    if processes.is_first():
        manifest = manifests.write(run.path, manifest)
    return dataclasses.replace(run, manifest=manifest)


def record_session(run: Run) -> tuple[Run, str]:
    """Records versions and platform if they differ from those of the last session.

    Returns:
      The run, and one sentence that names the differences, or ``""``.
    """
    if not processes.is_first():
        return run, ""
    here, sessions = manifests.origin(), run.manifest.get("sessions", [])
    last = sessions[-1] if sessions else run.manifest
    differs = [
        f"{name} {known} before, {here[part].get(name)} now"
        for part in here
        for name, known in last.get(part, {}).items()
        if name != "devices" and here[part].get(name) != known
    ]
    if not differs:
        return run, ""
    sessions = [*sessions, {"began": manifests.now(), **here}]
    return record(run, sessions=sessions), (
        f"{str(run.path)!r} is continued with {'; '.join(differs)}: from here on, rounding may "
        "differ from that of an uninterrupted run"
    )
