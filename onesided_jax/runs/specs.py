"""The parts of a recipe: a game, and an optimizer with its axes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from onesided_jax.errors import MAX_STEPS, check_choice, nearest, short
from onesided_jax.optimizers import OPTIMIZERS
from onesided_jax.runs._values import check_number, check_text, is_unicode, tuples

__all__ = [
    "GameSpec",
    "OptimizerSpec",
    "check_game",
    "check_label",
    "check_optimizer",
    "hyperparameters_of",
    "label_of",
]

_MAX_LABEL = 100  # bytes; labels are folders


@dataclasses.dataclass(frozen=True)
class GameSpec:
    """The game of a recipe.

    Attributes:
      name: ``"gan"`` or a key of ``onesided_jax.games.GAMES``.
      options: static options of the game; for ``"gan"``: ``dataset``, ``network``, ``loss``,
        ``batch_size``, ``latent_dim``, ``width``, ``depth``, ``conv``, ``normalization``,
        ``image_size``, ``gradient_penalty``, ``r1``, ``label_smoothing``, ``augment``,
        ``classes``.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """One cell of a recipe: an optimizer with its static options and its axes.

    Attributes:
      name: a key of ``OPTIMIZERS``.
      label: name of the cell in folders, tables and figures; ``""`` takes ``name``.
      options: static (bool, int and str) options of the optimizer.
      axes: hyperparameter to distinct values, or to one number; every combination is a run. Kept
        as tuples.

    Example:
      >>> from onesided_jax import OptimizerSpec
      >>> OptimizerSpec("adam", axes={"primal_learning_rate": [0.1, 0.2], "b1": 0.5}).axes
      {'primal_learning_rate': (0.1, 0.2), 'b1': (0.5,)}
    """

    name: str
    label: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        one = {n: (v,) for n, v in self.axes.items() if _is_number(v)}
        object.__setattr__(self, "axes", {**tuples(self.axes), **one})


def hyperparameters_of(optimizer: str) -> tuple[list[str], list[str]]:
    """Names of an optimizer's float hyperparameters (axes), and of its static options."""
    floats, static = [], []
    for name, parameter in inspect.signature(OPTIMIZERS[optimizer]).parameters.items():
        is_static = isinstance(parameter.default, (bool, int, str))
        (static if is_static else floats).append(name)
    static = [name for name in static if name != "opaque_mode"]  # the engine passes grad_fn
    return floats, static


def label_of(spec: OptimizerSpec) -> str:
    """The cell's name in folders, tables and figures."""
    return spec.label or spec.name


def check_game(game: GameSpec) -> None:
    """Raises ``ValueError`` unless ``game`` is a `GameSpec` that JSON can represent."""
    if not isinstance(game, GameSpec):
        raise ValueError(f"game={game!r}: expected GameSpec")
    check_text("game", game.name)
    for name, value in game.options.items():
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if not isinstance(part, (bool, int, float, str, type(None))) or (
                isinstance(part, float) and not math.isfinite(part)
            ):
                raise ValueError(
                    f"game option {name}={value!r}: expected text, a finite number, a bool, "
                    "or a list of these"
                )
            if isinstance(part, str) and not is_unicode(part):
                raise ValueError(f"game option {name}={value!r}: expected text")


def check_label(spec: OptimizerSpec) -> None:
    """Raises ``ValueError`` unless the cell's label can name a folder."""
    for value in (spec.name, spec.label):
        if not isinstance(value, str):
            raise ValueError(f"optimizer={value!r}: expected a name")
    label = label_of(spec)
    plain = label.replace("-", "_").replace(".", "_")
    if not plain.isidentifier() or label.startswith(".") or len(label.encode()) > _MAX_LABEL:
        raise ValueError(
            f"optimizer label {short(label)}: expected letters, digits, '_', '-' and '.', "
            f"not '.' first, at most {_MAX_LABEL} bytes"
        )


def check_optimizer(spec: OptimizerSpec) -> None:
    """Raises ``ValueError`` for the first name or value that the factory does not accept."""
    check_choice("optimizer", spec.name, sorted(OPTIMIZERS))
    floats, static = hyperparameters_of(spec.name)
    for name, values in spec.axes.items():
        if name in static:
            raise ValueError(
                f"{name!r} of {spec.name} is a static option and cannot be swept: "
                "add one optimizer entry per value (options=)"
            )
        if name not in floats:
            raise ValueError(
                f"{name!r} is not a hyperparameter of {spec.name}: expected one of "
                f"{floats}{nearest(name, floats)}"
            )
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name}={values!r}: expected a number or a non-empty list of them")
        for value in values:
            check_number(name, value)
        distinct = list(dict.fromkeys(values))
        if len(distinct) < len(values):  # copies of a run would count as independent seeds
            raise ValueError(
                f"{name}={short(list(values))}: expected distinct values, such as {short(distinct)}"
            )
    defaults = inspect.signature(OPTIMIZERS[spec.name]).parameters
    for name, value in spec.options.items():
        if name in floats:
            raise ValueError(
                f"{name!r} of {spec.name} is a hyperparameter, not a static option: "
                f"move {name}={value!r} to axes="
            )
        if name not in static:
            raise ValueError(
                f"{name!r} is not a static option of {spec.name}: expected one of "
                f"{static}{nearest(name, static)}"
            )
        expected = type(defaults[name].default)
        if type(value) is not expected:
            raise ValueError(f"{label_of(spec)}: {name}={value!r}: expected {expected.__name__}")
        if isinstance(value, int) and abs(value) > MAX_STEPS:
            raise ValueError(
                f"{label_of(spec)}: {name}={short(value)}: expected at most {MAX_STEPS:,}"
            )
    missing = [n for n in ("primal_learning_rate", "dual_learning_rate") if n not in spec.axes]
    if missing:
        raise ValueError(f"{label_of(spec)}: axes lack {missing}")
    # The factory checks the range of every value, with the first values of the other axes.
    make = functools.partial(OPTIMIZERS[spec.name], **spec.options)
    first = {name: values[0] for name, values in spec.axes.items()}
    for name, values in spec.axes.items():
        for value in values:
            try:
                make(**{**first, name: value})
            except ValueError as error:
                raise ValueError(f"{label_of(spec)}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
