"""What a sweep asks of game and optimizer, tried on abstract values before any work is done."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from onesided_jax.games import Game
from onesided_jax.players import PrimalDual, make_key
from onesided_jax.sweeps.engine import Observers, view_of
from onesided_jax.sweeps.train import MakeOptimizer, make_train

__all__ = ["check_ranges", "check_step"]

_ADDRESS = re.compile(r"\b0x[0-9a-f]+")  # of functions, in the text of a program
_SET = re.compile(r"\{([^{}=:]*,[^{}=:]*)\}")  # its order is another in another process


def check_step(
    game: Game,
    make_optimizer: MakeOptimizer,
    names: Iterable[str],
    *,
    observers: Observers = (),
    independent_samples: bool,
) -> Callable[[], str]:
    """Traces the begin and one step of one run.

    Args:
      game: what is played.
      make_optimizer: as :func:`make_train` takes it.
      names: of the hyperparameters.
      observers: what is carried along.
      independent_samples: see :func:`make_train`.

    Returns:
      A function for the run's fingerprint: a SHA-256 of its programs and of the arrays in them.

    Raises:
      TypeError: for an optimizer in the place of a function that makes one, or players that are no
        ``PrimalDual``.
      ValueError: if the game's functions do not fit each other, or a step or an observer changes
        the shape or dtype of what it carries.
    """
    if hasattr(make_optimizer, "update"):
        raise TypeError(
            "make_optimizer is an optimizer: expected a function that makes one of "
            "hyperparameters, such as lambda h: adam(**h)"
        )
    return _traced(
        game.init, game.sample, game.field, make_optimizer, tuple(names), observers,
        independent_samples,
        jax.config.jax_enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    )  # fmt: skip


def check_ranges(make_optimizer: MakeOptimizer, hyperparameters: Mapping[str, np.ndarray]) -> None:
    """Lets the optimizer check the numbers of all runs, which it does not see under vmap.

    Every value of a hyperparameter is tried once, beside the first values of the others.

    Raises:
      ValueError: the optimizer's own, for the first value out of its range.
    """
    if hasattr(make_optimizer, "update"):
        return  # no function that makes one; check_step says so
    first = {name: values[0] for name, values in hyperparameters.items()}
    make_optimizer(first)
    for name, values in hyperparameters.items():
        for value in np.unique(values):
            make_optimizer({**first, name: value})


@functools.lru_cache(maxsize=32)
def _traced(
    init: Callable[..., Any],
    sample: Callable[..., Any],
    field: Callable[..., Any],
    make_optimizer: MakeOptimizer,
    names: tuple[str, ...],
    observers: Observers,
    independent_samples: bool,
    x64: bool,
) -> Callable[[], str]:
    del x64  # what is traced depends on it
    key = jax.eval_shape(lambda: make_key(0))
    players, state = _check_init(jax.eval_shape(init, key))
    _check_field(jax.eval_shape(field, players, state, jax.eval_shape(sample, key)), players, state)
    train_init, train_step = make_train(
        Game(init, sample, field), make_optimizer, independent_samples=independent_samples
    )
    number = jax.ShapeDtypeStruct((), jnp.result_type(float))
    hyperparameters = dict.fromkeys(names, number)
    programs = []

    def trace(function: Callable[..., Any], *arguments: Any) -> Any:
        program, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        programs.append(program)
        return result

    before = trace(train_init, key, hyperparameters)
    after, info = trace(train_step, before, hyperparameters)
    if changed := _changed(before, after):
        raise ValueError(f"a step changes {changed}: what it carries must stay as it is")
    view = view_of(before, after, info, hyperparameters)
    for name, observer in observers:
        carried = trace(observer.init, before.players)
        if changed := _changed(carried, trace(observer.update, carried, view)):
            raise ValueError(
                f"observers[{name!r}].update changes {changed}: expected what its init makes"
            )

    @functools.cache
    def fingerprint() -> str:
        digest = hashlib.sha256(repr([name for name, _ in observers]).encode())
        for program in programs:
            text = program.jaxpr.pretty_print(use_color=False)  # str() has colours in a terminal
            digest.update(_SET.sub(_in_order, _ADDRESS.sub("", text)).encode())
            for constant in _constants(program):
                is_key = jnp.issubdtype(constant.dtype, jax.dtypes.prng_key)
                array = np.asarray(jax.random.key_data(constant) if is_key else constant)
                digest.update(array.tobytes())
        return digest.hexdigest()

    return fingerprint


def _constants(program: Any) -> Iterator[Any]:
    """The arrays in a traced program, and in the programs inside it (``jit``, ``scan``, ...)."""
    jaxpr = program
    if isinstance(program, ClosedJaxpr):
        yield from map(jnp.asarray, program.consts)
        jaxpr = program.jaxpr
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr | Jaxpr):
                    yield from _constants(part)


def _check_init(found: Any) -> tuple[PrimalDual, Any]:
    if not isinstance(found, tuple | list) or len(found) != 2 or _is_pair(found):
        raise TypeError(f"game.init's result is {_type(found)}: expected (players, state or ())")
    players, state = found
    if not _is_pair(players):
        raise TypeError(
            f"game.init's players are {_type(players)}: a Game's are PrimalDual(primal, dual)"
        )
    return players, state


def _check_field(found: Any, players: PrimalDual, state: Any) -> None:
    if not isinstance(found, tuple | list) or len(found) != 2 or _is_pair(found):
        raise TypeError(
            f"game.field's result is {_type(found)}: expected (F, GameInfo(losses, state))"
        )
    F, info = found
    if not _is_pair(F):
        raise TypeError(f"game.field's F is {_type(F)}: expected a PrimalDual like the players")
    if not hasattr(info, "losses") or not hasattr(info, "state"):
        raise TypeError(
            f"game.field's second result is {_type(info)}: expected GameInfo(losses, state)"
        )
    if not _is_pair(info.losses):
        raise TypeError(f"game.field's losses are {_type(info.losses)}: expected a PrimalDual")
    if changed := _difference(players, F, dtypes=False):
        raise ValueError(f"game.field's F differs from the players, {changed}")
    for name, loss in zip(PrimalDual._fields, info.losses, strict=True):
        if getattr(loss, "shape", None) != ():
            shape = getattr(loss, "shape", _type(loss))
            raise ValueError(f"game.field's losses.{name} has shape {shape}: expected a scalar")
    if changed := _difference(state, info.state):
        raise ValueError(
            f"game.field changes the game's state, {changed}: expected the same shapes and dtypes"
        )


def _is_pair(value: Any) -> bool:
    """A ``PrimalDual``, or a NamedTuple of one's own with its fields."""
    return getattr(value, "_fields", None) == PrimalDual._fields


def _type(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _in_order(found: re.Match[str]) -> str:
    return "{" + ", ".join(sorted(part.strip() for part in found[1].split(","))) + "}"


def _changed(before: Any, after: Any) -> str:
    """What a loop could not carry, in words, or ``""``: other leaves, or another tree of them."""
    old, new = map(jax.tree.structure, (before, after))
    return _difference(before, after) or ("" if old == new else f"the tree from {old} to {new}")


def _difference(before: Any, after: Any, *, dtypes: bool = True) -> str:
    """Where two abstract trees differ first, in words, or ``""``."""

    def described(tree: Any) -> dict[str, str]:
        leaves, _ = jax.tree.flatten_with_path(tree)
        return {
            jax.tree_util.keystr(path): f"{leaf.dtype if dtypes else ''}{list(leaf.shape)}"
            for path, leaf in leaves
        }

    old, new = described(before), described(after)
    for name in [*old, *new]:
        if old.get(name) != new.get(name):
            return f"{name or 'it'} from {old.get(name, 'nothing')} to {new.get(name, 'nothing')}"
    return ""
