"""Adam-type optimizers, sweeps and one-sided convergence analysis for min-max games in JAX.

``min_x max_y f(x, y)``: the primal player ``x`` (a GAN's generator) descends, the dual player
``y`` (its discriminator) ascends. Import what you need:

* optimizers, as optax transformations: ``osj.amsgrad_eg(1e-3, 1e-3)``, ``osj.OPTIMIZERS``;
* games: ``osj.games.gan(...)``, ``osj.games.carousel()``, or your own ``osj.Game``;
* sweeps: ``osj.sweep(game, make_optimizer, seeds=..., hyperparameters=..., steps=...)``;
* analysis: ``osj.analyze(run)``.

Names that need flax, orbax or xarray are imported when they are first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onesided_jax import optimizers
from onesided_jax.optimizers import *  # noqa: F403
from onesided_jax.optimizers import __all__ as _optimizer_names
from onesided_jax.players import PrimalDual

if TYPE_CHECKING:
    from onesided_jax import analysis, datasets, games, networks, report, runs, sweeps

_LAZY = {
    **dict.fromkeys(("Game", "GameFacts", "GameInfo"), "games"),
    **dict.fromkeys(("Network",), "networks"),
    **dict.fromkeys(
        ("Criteria", "GameSpec", "OptimizerSpec", "Recipe", "grid", "open_run"), "runs"
    ),
    **dict.fromkeys(
        ("Observer", "StepView", "SweepResult", "make_train", "resume", "run", "sweep"), "sweeps"
    ),
    **dict.fromkeys(("analyze",), "analysis"),
}
_ROOMS = ("analysis", "datasets", "games", "networks", "report", "runs", "sweeps")

__all__ = ["PrimalDual", "optimizers", *_ROOMS, *_LAZY, *_optimizer_names]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
