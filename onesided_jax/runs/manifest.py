"""The manifest of a run directory: one file with a checksum, written atomically."""

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
from onesided_jax.runs.files import write_json_atomically

__all__ = ["FORMAT", "MANIFEST", "READABLE", "now", "origin", "read", "write"]

FORMAT = 2
READABLE = (1, 2)
"""Formats that this version reads; format 2 added the checksum."""
MANIFEST = "manifest.json"
_PARTS = {"plan", "recipe", "widths"}


def write(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the manifest atomically, and returns it with its format and checksum."""
    content = {**manifest, "format": FORMAT}
    content["sha256"] = _digest(content)
    write_json_atomically(folder / MANIFEST, content)
    return content


def origin() -> dict[str, dict[str, Any]]:
    """Versions, platform and settings; results also depend on these, bit for bit."""
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
    """The time (UTC) in ISO format."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a folder.

    Raises:
      ValueError: if it is damaged, or has a format that this version does not read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{str(path)!r} is damaged: {reason}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"{str(path)!r} is damaged: it has format {found!r}")
    whole = "sha256" in manifest and manifest["sha256"] == _digest(manifest)
    if found not in READABLE and whole:
        writer = manifest.get("versions", {}).get("onesided-jax")
        raise ValueError(
            f"{str(path)!r} has format {found}, and version {_version('onesided-jax')} of "
            f"onesided-jax reads formats {READABLE[0]} to {READABLE[-1]}: "
            f"install version {writer}, which wrote it"
        )
    if found != 1 and not whole:
        raise ValueError(f"{str(path)!r} was altered (its SHA-256 differs)")
    if missing := _PARTS - set(manifest):
        raise ValueError(f"{str(path)!r} is damaged: {sorted(missing)} missing")
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
    """XLA's flags, without the number of host devices, which changes no bit."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(flag for flag in flags if "host_platform_device_count" not in flag)


def _processor() -> str:
    """Name of the host's processor; programs compiled for another one may round differently."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return host.processor()
