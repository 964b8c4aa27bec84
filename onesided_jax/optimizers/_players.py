"""Players as a ``PrimalDual``, or as any tree whose two top-level keys say who is who."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from onesided_jax.optimizers._checks import check_not_masked
from onesided_jax.optimizers._extra_args import with_extra_args
from onesided_jax.players import PrimalDual

__all__ = ["over_players", "with_player_keys"]

# The names that programs give the min and the max player.
_PAIRS = (
    ("primal", "dual"),
    ("generator", "discriminator"),
    ("generator", "critic"),
    ("gen", "disc"),
    ("gen", "critic"),
    ("netG", "netD"),
    ("G", "D"),
    ("g", "d"),
    ("x", "y"),
    ("min", "max"),
)
Split = tuple[PrimalDual, Callable[[PrimalDual], Any]]


def with_player_keys(
    tx: optax.GradientTransformation, primal: str, dual: str
) -> optax.GradientTransformationExtraArgs:
    """Lets ``tx`` play a tree with two top-level keys of any names.

    Not needed for a ``PrimalDual`` nor for the usual names (``generator`` and ``discriminator``,
    ``primal`` and ``dual``, ``x`` and ``y``, ...): every optimizer here knows them, in a dict, in
    linen params and in an nnx state.

    Args:
      tx: an optimizer of ``PrimalDual`` trees.
      primal: top-level key of the min player.
      dual: top-level key of the max player.

    Returns:
      The same optimizer for such trees; ``grad_fn`` too sees and returns them.

    Raises:
      ValueError: from ``init`` or ``update``, if the tree does not have exactly these two keys.

    Example:
      >>> import optax
      >>> from onesided_jax import sgda, with_player_keys
      >>> tx = with_player_keys(sgda(0.1, 0.1), primal="classifier", dual="adversary")
      >>> players = {"adversary": 1.0, "classifier": 2.0}
      >>> F = {"adversary": -3.0, "classifier": 1.0}
      >>> updates, _ = tx.update(F, tx.init(players), players)
      >>> {key: round(float(u), 3) for key, u in updates.items()}
      {'adversary': 0.3, 'classifier': -0.1}
    """
    if primal == dual:
        raise ValueError(f"primal={primal!r} and dual={dual!r}: expected two different keys")
    return _adapted("with_player_keys", tx, ((primal, dual),))


def over_players(
    name: str, tx: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """An optimizer of ``PrimalDual`` trees that also takes trees with two known keys."""
    return _adapted(name, tx, _PAIRS)


def _adapted(name: str, tx: optax.GradientTransformation, pairs) -> Any:
    tx = with_extra_args(tx)

    def init(params):
        return tx.init(_split(name, params, pairs)[0])

    def update(updates, state, params=None, **extra_args):
        field, join = _split(name, updates, pairs)
        if params is not None:
            params = _split(name, params, pairs)[0]
        grad_fn = extra_args.get("grad_fn")
        if grad_fn is not None:
            extra_args["grad_fn"] = lambda players, i: _split(
                name, grad_fn(join(players), i), pairs
            )[0]
        step: Any
        step, state = tx.update(field, state, params, **extra_args)  # pyright: ignore[reportArgumentType]
        return join(step), state

    return optax.GradientTransformationExtraArgs(init, update)


def _split(name: str, tree: Any, pairs: tuple[tuple[str, str], ...]) -> Split:
    """The players in ``tree``, and the way back to its own structure."""
    if tree is None:
        raise ValueError(
            f"{name} needs params: pass the players to init, and to update(F, state, params, ...); "
            "and a grad_fn that returns F"
        )
    if isinstance(tree, PrimalDual) and pairs is _PAIRS:
        check_not_masked(name, tree)
        return tree, lambda players: players
    children, treedef = jax.tree.flatten_with_path(tree, is_leaf=lambda part: part is not tree)
    keys = [_key(path[0]) if path else None for path, _ in children]
    for pair in pairs:
        if len(keys) == 2 and set(pair) == set(keys):
            order = [keys.index(key) for key in pair]
            players = PrimalDual(*(children[i][1] for i in order))
            check_not_masked(name, players)
            # Of two, the order that sorts the keys is also the one that sorts them back.
            return players, lambda players, order=order: treedef.unflatten(
                [players[i] for i in order]
            )
    had = f" with top-level keys {keys}" if len(children) < 9 and any(keys) else ""
    if pairs is _PAIRS:
        expected = "PrimalDual(primal, dual), or a tree with two top-level keys such as "
        expected += "'generator' and 'discriminator'"
        hint = "; with_player_keys(tx, primal=..., dual=...) takes other names"
        if len(keys) > 2:
            hint = "; put what belongs to one player under one key"
    else:
        expected, hint = f"top-level keys {list(pairs[0])}", ""
    raise ValueError(
        f"{name} expected the players as {expected}, got {type(tree).__name__}{had}{hint}"
    )


def _key(entry: Any) -> str | None:
    """The name in a path entry of a mapping or of a class with attributes."""
    key = getattr(entry, "key", getattr(entry, "name", None))
    return key if isinstance(key, str) else None
