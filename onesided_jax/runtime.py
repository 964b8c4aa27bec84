"""JAX settings for fast sweeps on a CPU; importing this file changes nothing."""

from __future__ import annotations

import os

__all__ = ["configure_cpu"]

_EXTRA = "--xla_backend_extra_options="
_FUSION = "xla_cpu_use_multi_output_fusion"
_DEVICES_FLAG = "xla_force_host_platform_device_count"


def configure_cpu(devices: int | None = None) -> None:
    """Prepares JAX for sweeps on a CPU: one device per core, and multi-output fusion.

    By default XLA:CPU runs small operations on one core and recomputes work that several results
    share. With these settings a sweep uses all cores and computes shared work once. On two cores, a
    sweep of 4,096 runs of an analytic game is about ten times faster; small GANs are twice as fast.
    GPUs and TPUs are not affected.

    Call it before JAX's first computation; the ``onesided`` command does so itself. Compiler
    options change bits, so a run resumes to identical bits only under the same setting.

    Args:
      devices: number of CPU devices, ``>= 1``. ``None`` keeps a number that is set already
        (``jax_num_cpu_devices`` or ``XLA_FLAGS``), else takes the cores this process may use.

    Raises:
      ValueError: if ``devices < 1``.
      RuntimeError: if JAX has already computed; nothing is changed then.

    Example:
      In the first lines of a program::

        import onesided_jax as osj

        osj.configure_cpu()
    """
    import jax

    if devices is not None and devices < 1:
        raise ValueError(f"devices={devices}: expected an integer >= 1")
    flags, before = os.environ.get("XLA_FLAGS", ""), jax.config.values["jax_num_cpu_devices"]
    is_set = _DEVICES_FLAG in flags or before > 0
    count = devices or (before if is_set else _cores())
    try:
        # After its first computation JAX refuses to change this number, but not to set it again.
        jax.config.update("jax_num_cpu_devices", max(before, 0) + 1)
    except RuntimeError as error:
        raise RuntimeError(
            "configure_cpu must be called before JAX's first computation in this process"
        ) from error
    jax.config.update("jax_num_cpu_devices", count)
    if _EXTRA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_EXTRA}{_FUSION}".strip()


def _cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
