"""What works without the packages of the extra `analysis`, and what says which one it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PACKAGES = ("scipy", "xarray", "h5netcdf", "matplotlib", "jinja2")

CALLS = {  # a call: the packages without which it says so, and what it says it is
    "osj.analyze('no/run')": (("scipy", "xarray", "h5netcdf"), "analyze"),
    "osj.analyze(None, osj.games.carousel())": (("scipy", "xarray"), "analyze"),
    "osj.analysis.load_analysis(None)": (("xarray", "h5netcdf"), "load_analysis"),
    "osj.analysis.frechet_distance(np.eye(3), np.eye(3))": (("scipy",), "the Fréchet distance"),
    "osj.certificate(osj.games.carousel(), 'amsgrad_xeg', {'eps': 0.5})": ((), ""),
    "osj.report.figures": (("xarray", "matplotlib", "jinja2"), "onesided_jax.report"),
    "demo()": (PACKAGES, "onesided demo"),
}

BLOCK = """
import json, sys
for package in sys.argv[1].split(","):
    sys.modules[package] = None
import numpy as np
import onesided_jax as osj
"""

TABLE = """
from onesided_jax.cli._commands import demo
said = {}
for call in json.loads(sys.argv[2]):
    try:
        eval(call)
    except ImportError as error:
        said[call] = str(error)
    except Exception:  # it went on to what is wrong with the arguments
        pass
print(json.dumps(said))
"""

SWEEP = """
runs = osj.grid(seeds=2, primal_learning_rate=0.02, dual_learning_rate=0.2)
make = osj.adam
result = osj.sweep(osj.games.carousel(), make, runs=runs, steps=4)
print(json.dumps(len(result.seeds)))
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_one_sentence_at_the_first_call_that_needs_it(package):
    said = run(TABLE, package, json.dumps(list(CALLS)))
    assert said == {
        call: f"{purpose} needs {package}: pip install 'onesided-jax[analysis]'"
        for call, (packages, purpose) in CALLS.items()
        if package in packages
    }


def test_importing_and_sweeping_need_none_of_them():
    assert run(SWEEP, ",".join(PACKAGES)) == 2
