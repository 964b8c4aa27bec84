"""The manifest of a run directory: two copies under a checksum, each replaced in one piece."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform as host
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from onesided_jax.players import PRNG_IMPLEMENTATION
from onesided_jax.runs._words import write_json_atomically

__all__ = ["COPY", "FORMAT", "MANIFEST", "READABLE", "now", "origin", "read", "write"]

FORMAT = 2
READABLE = (1, 2)
"""Formats that this version reads; 2 added the checksum and the copy."""
MANIFEST = "manifest.json"
COPY = "manifest.copy.json"
_PARTS = {"plan", "recipe", "widths"}


class _DamagedError(ValueError):
    """A manifest that is not as it was written."""


def read(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a folder, and one sentence if it was damaged and its copy was read.

    Raises:
      ValueError: if both copies are damaged, or it has a format that this version does not read.
    """
    try:
        return _read(folder / MANIFEST), ""
    except _DamagedError as error:
        with contextlib.suppress(_DamagedError):
            return _read(folder / COPY), f"{error}; its copy {COPY} is whole"
        raise


def write(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the copy, then the manifest: at every moment one of them is whole.

    Returns:
      What was written.
    """
    content = {**manifest, "format": FORMAT}
    content["sha256"] = _digest(content)
    for name in (COPY, MANIFEST):
        write_json_atomically(folder / name, content)
    return content


def origin() -> dict[str, dict[str, Any]]:
    """Versions, platform and settings: beside recipe and widths, what bits depend on."""
    names = ("onesided-jax", "jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "numpy")
    return {
        "versions": {"python": host.python_version()} | {name: _version(name) for name in names},
        "platform": {
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processor": _processor(),
            "machine": host.machine(),
            "system": host.system(),
            "xla_flags": _compiler_flags(),
        },
        "settings": {
            "matmul_precision": jax.config.values["jax_default_matmul_precision"],
            "random_generator": PRNG_IMPLEMENTATION,
        },
    }


def now() -> str:
    """The time, as manifests have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _DamagedError(f"{str(path)!r} is damaged: {reason}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise _DamagedError(f"{str(path)!r} is damaged: it has format {found!r}")
    whole = "sha256" in manifest and manifest["sha256"] == _digest(manifest)
    if found not in READABLE and whole:
        writer = manifest.get("versions", {}).get("onesided-jax")
        raise ValueError(
            f"{str(path)!r} has format {found}, and version {_version('onesided-jax')} of "
            f"onesided-jax reads formats {READABLE[0]} to {READABLE[-1]}: "
            f"install version {writer}, which wrote it"
        )
    if found != 1 and not whole:
        raise _DamagedError(f"{str(path)!r} was altered (its SHA-256 differs)")
    if missing := _PARTS - set(manifest):
        raise _DamagedError(f"{str(path)!r} is damaged: {sorted(missing)} missing")
    return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


def _compiler_flags() -> str:
    """XLA's flags, but for the number of host devices, on which no bit depends."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(flag for flag in flags if "host_platform_device_count" not in flag)


def _processor() -> str:
    """The host's processor by name: programs compiled for another one may round differently."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return host.processor()
