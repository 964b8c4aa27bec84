"""Settings of the JAX runtime that make sweeps fast on a CPU; nothing here happens on import."""

from __future__ import annotations

import os

__all__ = ["configure_cpu"]

_EXTRA = "--xla_backend_extra_options="
_FUSION = "xla_cpu_use_multi_output_fusion"
_DEVICES_FLAG = "xla_force_host_platform_device_count"


def configure_cpu(devices: int | None = None) -> None:
    """Prepares JAX for sweeps on a CPU: one device a core, and fused loops with several results.

    XLA:CPU runs the small operations of a small game on one core, and by default evaluates anew for
    every result what the results have in common. With this, a sweep's runs are shared between the
    cores and common work is done once: on two cores a sweep of 4,096 runs of an analytic game is
    some ten times faster, one of small GANs twice. The ``onesided`` command does this by itself; in
    a program of your own call it before JAX's first computation. It has no effect on GPUs and TPUs.

    Bits depend on the compiler's options, so a run directory is continued to the very same bits
    only under the same setting.

    Args:
      devices: how many devices the CPU shows; ``None`` takes the cores this process may use, unless
        JAX has been told a number already (``jax_num_cpu_devices``, or in ``XLA_FLAGS``).

    Raises:
      ValueError: for fewer than one device.
      RuntimeError: if JAX has been computing already; nothing is changed then.

    Example:
      Call it in the first lines of a program::

        import onesided_jax as osj

        osj.configure_cpu()
    """
    import jax

    if devices is not None and devices < 1:
        raise ValueError(f"devices={devices}: expected an integer >= 1")
    flags, before = os.environ.get("XLA_FLAGS", ""), jax.config.values["jax_num_cpu_devices"]
    told = _DEVICES_FLAG in flags or before > 0
    wanted = devices or (before if told else _cores())
    try:
        # JAX refuses a change, and only a change, once it has been computing.
        jax.config.update("jax_num_cpu_devices", max(before, 0) + 1)
    except RuntimeError as error:
        raise RuntimeError(
            "configure_cpu must be called before JAX's first computation in this process"
        ) from error
    jax.config.update("jax_num_cpu_devices", wanted)
    if _EXTRA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_EXTRA}{_FUSION}".strip()


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
