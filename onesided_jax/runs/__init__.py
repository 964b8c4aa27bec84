"""Recipes and run directories; the only room that touches Orbax."""

from onesided_jax.runs.build import build_game, precision
from onesided_jax.runs.builtin import RECIPES
from onesided_jax.runs.checkpoints import (
    CheckpointStore,
    DamagedCheckpointError,
    pack,
    unpack,
)
from onesided_jax.runs.criteria import Criteria
from onesided_jax.runs.directory import (
    Run,
    create_or_open,
    latest_valid,
    open_run,
    read_metrics,
    record_width,
)
from onesided_jax.runs.recipe import (
    Cell,
    GameSpec,
    OptimizerSpec,
    Recipe,
    cells,
    grid,
    hyperparameters_of,
)

__all__ = [
    "RECIPES",
    "Cell",
    "CheckpointStore",
    "Criteria",
    "DamagedCheckpointError",
    "GameSpec",
    "OptimizerSpec",
    "Recipe",
    "Run",
    "build_game",
    "cells",
    "create_or_open",
    "grid",
    "hyperparameters_of",
    "latest_valid",
    "open_run",
    "pack",
    "precision",
    "read_metrics",
    "record_width",
    "unpack",
]
