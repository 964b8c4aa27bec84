"""Recipes, run directories and checkpoints; only this package imports Orbax."""

from onesided_jax.runs.build import build_game, numerics, shape_of_data
from onesided_jax.runs.builtin import RECIPES
from onesided_jax.runs.cells import Cell, Runs, cells, grid
from onesided_jax.runs.checkpoints import CheckpointStore, MissingCheckpointError
from onesided_jax.runs.criteria import Criteria
from onesided_jax.runs.data_file import place_data, with_absolute_data
from onesided_jax.runs.directory import (
    Run,
    create_or_open,
    latest_valid,
    open_run,
    read_metrics,
    replacing,
    writing,
)
from onesided_jax.runs.files import WriteError
from onesided_jax.runs.joining import join
from onesided_jax.runs.lock import LockedError, lock
from onesided_jax.runs.packing import DamagedCheckpointError, pack, unpack
from onesided_jax.runs.reach import out_of_reach
from onesided_jax.runs.recipe import Recipe
from onesided_jax.runs.records import record, record_session
from onesided_jax.runs.specs import GameSpec, OptimizerSpec, hyperparameters_of

__all__ = [
    "RECIPES",
    "Cell",
    "CheckpointStore",
    "Criteria",
    "DamagedCheckpointError",
    "GameSpec",
    "LockedError",
    "MissingCheckpointError",
    "OptimizerSpec",
    "Recipe",
    "Run",
    "Runs",
    "WriteError",
    "build_game",
    "cells",
    "create_or_open",
    "grid",
    "hyperparameters_of",
    "join",
    "latest_valid",
    "lock",
    "numerics",
    "open_run",
    "out_of_reach",
    "pack",
    "place_data",
    "read_metrics",
    "record",
    "record_session",
    "replacing",
    "shape_of_data",
    "unpack",
    "with_absolute_data",
    "writing",
]
