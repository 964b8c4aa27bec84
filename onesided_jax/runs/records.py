"""What a run's manifest is told while it is trained: widths, the program, other versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from onesided_jax import processes
from onesided_jax.runs import manifest as manifests
from onesided_jax.runs.directory import Run

__all__ = ["record_program", "record_samples", "record_session", "record_width"]

_FINGERPRINT = "begin, step, observers"  # what it is of


def record_width(run: Run, cell: str, width: int, layout: Mapping[str, Any] | None = None) -> Run:
    """Records the width of a cell, on which its bits depend, before its first step.

    ``layout`` tells how it was chosen, and on how many devices; nothing depends on that.
    """
    if run.manifest["widths"].get(cell) == width or not processes.is_first():
        return run
    changed = {"widths": {**run.manifest["widths"], cell: width}}
    if layout is not None:
        changed["layouts"] = {**run.manifest.get("layouts", {}), cell: dict(layout)}
    manifest = manifests.write(run.path, {**run.manifest, **changed})
    return dataclasses.replace(run, manifest=manifest)


def record_samples(run: Run, shape: tuple[int, ...]) -> Run:
    """Notes the shape of a sample: a generator can be built again without the data."""
    if "sample_shape" in run.manifest or not processes.is_first():
        return run
    manifest = manifests.write(run.path, {**run.manifest, "sample_shape": list(shape)})
    return dataclasses.replace(run, manifest=manifest)


def record_program(run: Run, sha256: str) -> Run:
    """Notes the program that a sweep without a recipe trains, and refuses another one.

    Other versions may trace the same step to another program, and another platform may round the
    arrays in it otherwise: only programs of the same versions and platform are compared, and
    fingerprints of the same things.

    Args:
      run: the run.
      sha256: the run's fingerprint, of `sweeps.contract`.

    Returns:
      The run.

    Raises:
      ValueError: if the runs that are here were trained by another program.
    """

    def note() -> None:
        nonlocal run
        here = {"sha256": sha256, "of": _FINGERPRINT, **manifests.origin()}
        here["platform"].pop("devices")
        known = run.manifest.get("program", {})
        if known == here:
            return
        if known and {**known, "sha256": sha256} == here:
            raise ValueError(
                f"{str(run.path)!r} holds another run (of another game, optimizer or "
                "observer: what a run computes has changed): choose another output folder"
            )
        manifest = manifests.write(run.path, {**run.manifest, "program": here})
        run = dataclasses.replace(run, manifest=manifest)

    processes.first(note)
    return run


def record_session(run: Run) -> tuple[Run, str]:
    """Notes versions and platform if they are others than those of the sessions before.

    Returns:
      The run, and one sentence that says what differs, or ``""``.
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
    manifest = manifests.write(run.path, {**run.manifest, "sessions": sessions})
    return dataclasses.replace(run, manifest=manifest), (
        f"{str(run.path)!r} is continued with {'; '.join(differs)}: from here on its last bits may "
        "differ from those of an uninterrupted run"
    )
