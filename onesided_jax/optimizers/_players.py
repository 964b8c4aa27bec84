"""Players as a ``PrimalDual``, or as a tree whose two top-level keys name the players."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_not_masked, check_returned_field
from onesided_jax.optimizers._trees import cast_like, kept_dtypes
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.players import PrimalDual

__all__ = [
    "counts_for",
    "merge_players",
    "over_players",
    "players_in",
    "two_counts",
    "with_player_keys",
]

_PAIRS = (  # usual names of the min and the max player
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
Pairs = tuple[tuple[str, str], ...]
Split = tuple[PrimalDual, Callable[[PrimalDual], Any]]


def with_player_keys(
    tx: optax.GradientTransformation, primal: str, dual: str
) -> optax.GradientTransformationExtraArgs:
    """Makes an optimizer accept trees with two top-level keys of any names.

    Not needed for ``PrimalDual`` or for usual names (``generator`` and ``discriminator``,
    ``primal`` and ``dual``, ``x`` and ``y``, ...). Every optimizer here accepts those in a dict, in
    linen params and in an nnx state.

    Args:
      tx: an optimizer of ``PrimalDual`` trees.
      primal: top-level key of the min player.
      dual: top-level key of the max player.

    Returns:
      The same optimizer for such trees; ``grad_fn`` also takes and returns such trees.

    Raises:
      ValueError: for two equal keys; from ``init`` or ``update``, for a tree with other keys.

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
    """Makes an optimizer of ``PrimalDual`` trees accept trees with two usual names."""
    return _adapted(name, tx, _PAIRS)


def _adapted(name: str, tx: optax.GradientTransformation, pairs: Pairs) -> Any:
    tx = with_extra_args(tx)

    def init(params):
        if _is_placeholder(params):
            return tx.init(params)
        return tx.init(_split(name, "the players", params, pairs)[0])

    def update(updates, state, params=None, **extra_args):
        field, join = _split(name, "the field F", updates, pairs)
        if params is not None:
            params = _split(name, "the players", params, pairs)[0]
        grad_fn = extra_args.get("grad_fn")
        if grad_fn is not None:

            def split_grad_fn(players, i):
                returned = grad_fn(join(players), i)
                returned, _ = _split(name, "the field that grad_fn returns", returned, pairs)
                check_returned_field(name, returned, field)
                return returned

            extra_args["grad_fn"] = split_grad_fn
        step: Any
        step, after = tx.update(field, state, params, **extra_args)  # pyright: ignore[reportArgumentType]
        # Cast here, at the end, because rates and decays may have any dtype.
        return join(cast_like(step, field if params is None else params)), kept_dtypes(after, state)

    return optax.GradientTransformationExtraArgs(init, update)


def two_counts() -> PrimalDual:
    """One counter per player, so that one can be reset alone; separate buffers, for donation."""
    return PrimalDual(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def counts_for(params: Any) -> Any:
    """One counter per player in the structure of ``params``, or one if it names no players."""
    pair = _matched(params, _PAIRS)
    return jnp.zeros((), jnp.int32) if pair is None else pair[1](two_counts())


def players_in(tree: Any) -> PrimalDual | None:
    """The two players of a tree with usual names, or ``None``."""
    pair = _matched(tree, _PAIRS)
    return None if pair is None else pair[0]


def merge_players(pick: Callable[[str | None, Any, Any], Any], old: Any, new: Any) -> Any:
    """Merges two optimizer states of equal structure, player by player.

    ``pick(player, old_share, new_share)`` returns the share to keep. ``player`` is ``"primal"``,
    ``"dual"``, or ``None`` for a leaf that both players share.
    """
    pair = _matched(old, _PAIRS)
    if pair is not None:
        other = _matched(new, _PAIRS)
        assert other is not None
        return pair[1](PrimalDual(*map(pick, PrimalDual._fields, pair[0], other[0])))
    if jax.tree_util.all_leaves([old]):
        return pick(None, old, new)
    children, treedef = jax.tree.flatten(old, is_leaf=lambda part: part is not old)
    others = jax.tree.leaves(new, is_leaf=lambda part: part is not new)
    return treedef.unflatten([merge_players(pick, a, b) for a, b in zip(children, others)])


def _is_placeholder(tree: Any) -> bool:
    """Whether ``tree`` is the leafless node that ``optax.tree_map_params`` passes to ``init``."""
    known = tree is None or isinstance(tree, (tuple, list, Mapping))
    return not known and not jax.tree.leaves(tree)


def _matched(tree: Any, pairs: Pairs) -> Split | None:
    """The players in ``tree`` and the inverse, or ``None`` if no pair matches its two keys."""
    children, treedef = jax.tree.flatten_with_path(tree, is_leaf=lambda part: part is not tree)
    if len(children) != 2:
        return None
    keys = [_key(path[0]) for path, _ in children]
    for pair in pairs:
        if set(pair) == set(keys):
            order = [keys.index(key) for key in pair]
            # A permutation of two is its own inverse.
            return (
                PrimalDual(*(children[i][1] for i in order)),
                lambda players, order=order: treedef.unflatten([players[i] for i in order]),
            )
    return None


def _split(name: str, role: str, tree: Any, pairs: Pairs) -> Split:
    """As ``_matched``, but an error if no pair matches; ``role`` is for the message."""
    matched = _matched(tree, pairs)
    if matched is not None:
        check_not_masked(name, matched[0])
        return matched
    children, _ = jax.tree.flatten_with_path(tree, is_leaf=lambda part: part is not tree)
    keys = [_key(path[0]) if path else None for path, _ in children]
    had = f" with top-level keys {keys}" if len(children) < 9 and any(keys) else ""
    if pairs is _PAIRS:
        expected = "PrimalDual(primal, dual), or a tree with two top-level keys such as "
        expected += "'generator' and 'discriminator'"
        hint = "; with_player_keys(tx, primal=..., dual=...) takes other names"
        if len(keys) > 2:
            hint = "; put each player's leaves under one key"
    else:
        expected, hint = f"top-level keys {list(pairs[0])}", ""
    raise ValueError(f"{name} expected {role} as {expected}, got {type(tree).__name__}{had}{hint}")


def _key(entry: Any) -> str | None:
    """The string key or attribute name in a path entry."""
    key = getattr(entry, "key", getattr(entry, "name", None))
    return key if isinstance(key, str) else None
