"""Settings of the runtime: made once, before JAX computes, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import pytest

import onesided_jax as osj

SHOW = """
import json, os, jax, onesided_jax as osj
{before}
osj.configure_cpu({arguments})
print(json.dumps([jax.local_device_count(), os.environ["XLA_FLAGS"]]))
"""


def configured(before: str = "", arguments: str = "", flags: str = "") -> list:
    code = SHOW.format(before=before, arguments=arguments)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_device_for_every_core_and_fused_loops():
    count, flags = configured()
    assert count == len(os.sched_getaffinity(0))
    assert "multi_output_fusion" in flags


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"arguments": "3"}, 3),
        ({"before": "jax.config.update('jax_num_cpu_devices', 5)"}, 5),
        ({"before": "jax.config.update('jax_num_cpu_devices', 5)", "arguments": "2"}, 2),
        ({"flags": "--xla_force_host_platform_device_count=4"}, 4),
    ],
    ids=str,
)
def test_a_number_that_somebody_asked_for_is_kept(options, count):
    assert configured(**options)[0] == count


def test_options_of_the_user_are_kept():
    flags = "--xla_backend_extra_options=xla_cpu_optimize_for_size"
    assert configured(flags=flags)[1] == flags


def test_too_late_is_an_error_and_changes_nothing():
    jax.block_until_ready(jax.numpy.zeros(1))
    before = jax.config.values["jax_num_cpu_devices"], os.environ.get("XLA_FLAGS")
    with pytest.raises(RuntimeError, match="before JAX's first computation"):
        osj.configure_cpu()
    assert (jax.config.values["jax_num_cpu_devices"], os.environ.get("XLA_FLAGS")) == before


def test_no_devices_is_an_error():
    with pytest.raises(ValueError, match="devices=0: expected an integer >= 1"):
        osj.configure_cpu(0)
