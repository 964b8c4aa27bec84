"""Checks of the players, state and batch of a diagnostic; unit vectors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, make_key

__all__ = ["as_players", "batch_for", "check_match", "unit"]


def unit(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``v / norm`` and the norm, scaled because squares may underflow; a zero vector stays zero."""
    scale = jnp.max(jnp.abs(v), initial=0)
    nonzero = scale != 0
    v = v / jnp.where(nonzero, scale, 1)
    norm = jnp.sqrt(jnp.sum(v * v))
    return v / jnp.where(nonzero, norm, 1), scale * norm


def as_players(name: str, players: Any) -> PrimalDual:
    """Casts the players to floating point; ``ValueError`` unless they are a ``PrimalDual``."""
    if not isinstance(players, PrimalDual):
        raise ValueError(f"{name}: expected a PrimalDual, got {type(players).__name__}")
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(a, float)), players)


def check_match(name: str, tree: Any, like_name: str, like: Any) -> None:
    """Raises ``ValueError`` unless ``tree`` has the structure and shapes of ``like``."""
    structure, expected = jax.tree.structure(tree), jax.tree.structure(like)
    if structure != expected:
        raise ValueError(
            f"{name}: expected the structure of {like_name}, {expected}, got {structure}"
        )
    for (path, a), b in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(like)):
        if np.shape(a) != np.shape(b):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}{where} of shape {np.shape(a)}: expected {np.shape(b)}, "
                f"as in {like_name}{where}"
            )


def batch_for(game: Game, players: Any, state: ArrayTree, batch: ArrayTree) -> ArrayTree:
    """The batch, or the game's for key 0; ``ValueError`` if the field rejects these inputs."""
    batch = game.batch(make_key(0)) if batch is None else batch
    try:
        F, _ = jax.eval_shape(game.field, players, state, batch)
    except Exception as error:
        raise ValueError(
            "the game's field does not take these players, state and batch: expected "
            "players, state = game.init(key) and batch = game.batch(key), and leading axes of "
            "the players only where the function has axes"
        ) from error
    check_match("the field", F, "players", players)
    return batch
