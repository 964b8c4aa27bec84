"""What pip installs: versions, files and floors. `make wheel` installs the wheel itself."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import onesided_jax as osj

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert osj.__version__ == importlib.metadata.version("onesided-jax")
    assert PROJECT["version"] == osj.__version__ == citation["version"] == newest[1]
    assert citation["date-released"] == newest[2]


def test_requirements_have_floors_and_no_caps():
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    own = [line for line in requirements if line.startswith("onesided-jax[")]
    for line in set(requirements) - set(own):
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\[[a-z0-9]+\])?>=[0-9.]+", line), line


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "onesided_jax"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert names == {name for name in listed.stdout.split() if (ROOT / name).exists()}
