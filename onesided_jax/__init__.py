"""Adam-type optimizers, sweeps and one-sided convergence analysis for min-max games in JAX.

In ``min_x max_y f(x, y)`` the primal player ``x`` (a GAN's generator) descends, and the dual player
``y`` (the discriminator) ascends. The main entry points:

* optimizers, as optax transformations: ``osj.amsgrad_eg(1e-3, 1e-3)``, ``osj.OPTIMIZERS``;
* games: ``osj.games.gan(...)``, ``osj.games.carousel()``, or your own ``osj.Game``;
* sweeps: ``osj.sweep(game, make_optimizer, runs, steps=...)``;
* analysis: ``osj.analyze(result)``.

Each name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onesided_jax import (
        analysis,
        datasets,
        games,
        networks,
        optimizers,
        report,
        runs,
        sweeps,
        theory,
    )
    from onesided_jax.analysis import analyze
    from onesided_jax.games import Game, GameFacts, GameInfo
    from onesided_jax.networks import Network
    from onesided_jax.optimizers import (
        OPTIMIZERS,
        acgd,
        adam,
        alex_gda,
        alternating,
        alternating_adam,
        alternating_extrapolation,
        amsgrad,
        amsgrad_eg,
        amsgrad_eg_drd,
        amsgrad_xeg,
        anchored,
        apply_if_finite,
        consensus,
        descent_ascent,
        dual_rate_decay,
        extra_adam,
        extra_sgd,
        extragradient,
        extragradient_plus,
        iterate,
        lookahead_adam,
        lookahead_minmax,
        nupi,
        oadagrad,
        optimistic,
        optimistic_adam,
        past_amsgrad_eg,
        past_extra_adam,
        past_extragradient,
        projected,
        reset,
        sgda,
        tiada,
        with_player_keys,
    )
    from onesided_jax.players import PrimalDual
    from onesided_jax.runs import Criteria, GameSpec, OptimizerSpec, Recipe, Runs, grid, open_run
    from onesided_jax.runtime import configure_cpu
    from onesided_jax.sweeps import (
        Observer,
        StepView,
        SweepResult,
        make_step,
        restore,
        resume,
        run,
        sweep,
    )
    from onesided_jax.theory import certificate, certify

_ROOMS = (
    "analysis",
    "datasets",
    "games",
    "networks",
    "optimizers",
    "report",
    "runs",
    "sweeps",
    "theory",
)
_LAZY = {
    "analysis": ("analyze",),
    "games": ("Game", "GameFacts", "GameInfo"),
    "networks": ("Network",),
    "optimizers": (
        "OPTIMIZERS",
        "acgd",
        "adam",
        "alex_gda",
        "alternating",
        "alternating_adam",
        "alternating_extrapolation",
        "amsgrad",
        "amsgrad_eg",
        "amsgrad_eg_drd",
        "amsgrad_xeg",
        "anchored",
        "apply_if_finite",
        "consensus",
        "descent_ascent",
        "dual_rate_decay",
        "extra_adam",
        "extra_sgd",
        "extragradient",
        "extragradient_plus",
        "iterate",
        "lookahead_adam",
        "lookahead_minmax",
        "nupi",
        "oadagrad",
        "optimistic",
        "optimistic_adam",
        "past_amsgrad_eg",
        "past_extra_adam",
        "past_extragradient",
        "projected",
        "reset",
        "sgda",
        "tiada",
        "with_player_keys",
    ),
    "players": ("PrimalDual",),
    "runs": ("Criteria", "GameSpec", "OptimizerSpec", "Recipe", "Runs", "grid", "open_run"),
    "runtime": ("configure_cpu",),
    "sweeps": (
        "Observer",
        "StepView",
        "SweepResult",
        "make_step",
        "restore",
        "resume",
        "run",
        "sweep",
    ),
    "theory": ("certificate", "certify"),
}
_HOME = {name: room for room, names in _LAZY.items() for name in names}

__all__ = [
    "OPTIMIZERS",
    "Criteria",
    "Game",
    "GameFacts",
    "GameInfo",
    "GameSpec",
    "Network",
    "Observer",
    "OptimizerSpec",
    "PrimalDual",
    "Recipe",
    "Runs",
    "StepView",
    "SweepResult",
    "acgd",
    "adam",
    "alex_gda",
    "alternating",
    "alternating_adam",
    "alternating_extrapolation",
    "amsgrad",
    "amsgrad_eg",
    "amsgrad_eg_drd",
    "amsgrad_xeg",
    "analysis",
    "analyze",
    "anchored",
    "apply_if_finite",
    "certificate",
    "certify",
    "configure_cpu",
    "consensus",
    "datasets",
    "descent_ascent",
    "dual_rate_decay",
    "extra_adam",
    "extra_sgd",
    "extragradient",
    "extragradient_plus",
    "games",
    "grid",
    "iterate",
    "lookahead_adam",
    "lookahead_minmax",
    "make_step",
    "networks",
    "nupi",
    "oadagrad",
    "open_run",
    "optimistic",
    "optimistic_adam",
    "optimizers",
    "past_amsgrad_eg",
    "past_extra_adam",
    "past_extragradient",
    "projected",
    "report",
    "reset",
    "restore",
    "resume",
    "run",
    "runs",
    "sgda",
    "sweep",
    "sweeps",
    "theory",
    "tiada",
    "with_player_keys",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onesided-jax")
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if not name.startswith("_"):  # a registered optimizer that is not listed above
        optimizers = importlib.import_module(f"{__name__}.optimizers").OPTIMIZERS
        if name in optimizers:
            return optimizers[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
