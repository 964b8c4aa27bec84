"""A recipe: everything that a sweep is a function of, as a frozen dataclass and as JSON."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.optimizers import OPTIMIZERS
from onesided_jax.runs._words import nearest
from onesided_jax.runs.criteria import Criteria

__all__ = ["Cell", "GameSpec", "OptimizerSpec", "Recipe", "cells", "grid", "hyperparameters_of"]

PRECISIONS = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class GameSpec:
    """Which game a recipe plays.

    Attributes:
      name: ``"gan"`` or a key of ``onesided_jax.games.GAMES``.
      options: its static options; for ``"gan"``: ``dataset``, ``network``, ``loss``,
        ``batch_size``, ``latent_dim``, ``width``, ``depth``, ``gradient_penalty``, ``conv``.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """One cell of a recipe: an optimizer with its static options and its axes.

    Attributes:
      name: a key of ``OPTIMIZERS``.
      label: name of the cell in folders, tables and figures; ``""`` takes ``name``.
      options: static (bool and str) options, one compiled program each.
      axes: values of float hyperparameters; every combination is a run.
    """

    name: str
    label: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Game, optimizers, grid, steps and cadence: all that a sweep is a function of.

    Static fields (game, networks, data, optimizer names, every bool, int and str) decide the
    compiled programs, one per optimizer; seeds and float hyperparameters are traced and run
    together as one vmapped program.

    Attributes:
      name: short name of the recipe.
      game: what is played.
      optimizers: one cell each.
      seeds: one run per seed and combination of axes; distinct, in ``[0, 2**32)``.
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps between checkpoints, a multiple of ``record_every``.
      record_every: steps between recorded metrics.
      independent_samples: whether the second evaluation of an extragradient step draws its own
        minibatch, as the theory needs, or sees the first one's.
      precision: ``"float32"`` or ``"float64"``.
      criteria: windows and thresholds of the verdicts, fixed before the run.
      description: one sentence for the report.

    Raises:
      ValueError: one clear error for the first bad value.

    Example:
      >>> from onesided_jax import GameSpec, OptimizerSpec, Recipe
      >>> recipe = Recipe(
      ...     name="try",
      ...     game=GameSpec("carousel"),
      ...     optimizers=(
      ...         OptimizerSpec(
      ...             "amsgrad_xeg",
      ...             axes={"primal_learning_rate": (0.01, 0.02), "dual_learning_rate": (2.0,)},
      ...         ),
      ...     ),
      ...     seeds=(0, 1, 2),
      ...     steps=100,
      ...     checkpoint_every=50,
      ... )
      >>> Recipe.from_json(recipe.to_json()) == recipe
      True
    """

    name: str
    game: GameSpec
    optimizers: tuple[OptimizerSpec, ...]
    seeds: tuple[int, ...]
    steps: int
    checkpoint_every: int
    record_every: int = 1
    independent_samples: bool = True
    precision: str = "float32"
    criteria: Criteria = dataclasses.field(default_factory=Criteria)
    description: str = ""

    def __post_init__(self):
        _check_recipe(self)

    def to_json(self) -> str:
        """The recipe as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads what ``to_json`` wrote; raises ``ValueError`` for anything else."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"recipe: not JSON: {error}") from None
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> Recipe:
        """Builds a recipe from JSON-like content; unknown and missing fields are errors."""
        fields = dict(_fields(cls, content, "recipe"))
        fields["game"] = GameSpec(**_fields(GameSpec, fields["game"], "recipe.game"))
        optimizers = fields["optimizers"]
        if not isinstance(optimizers, Sequence) or isinstance(optimizers, str):
            raise ValueError(f"recipe.optimizers={optimizers!r}: expected a list")
        fields["optimizers"] = tuple(
            OptimizerSpec(**_fields(OptimizerSpec, spec, f"recipe.optimizers[{i}]"))
            for i, spec in enumerate(optimizers)
        )
        if "criteria" in fields:
            given = _fields(Criteria, fields["criteria"], "recipe.criteria")
            fields["criteria"] = Criteria(**_tuples(given))
        return cls(**fields)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a recipe file.

        Raises:
          ValueError: naming the file, if it is missing or does not hold a recipe.
        """
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"recipe file {str(path)!r} cannot be read: {error}") from None
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"recipe file {str(path)!r}: {error}") from None


class Cell(NamedTuple):
    """One compiled program's worth of runs.

    Attributes:
      label: name of the cell.
      spec: its optimizer.
      seeds: ``int[R]``.
      hyperparameters: name to ``float[R]``; run ``i`` is ``(seeds[i], {k: v[i]})``.
      make_optimizer: ``hyperparameters -> optax transformation``.
    """

    label: str
    spec: OptimizerSpec
    seeds: np.ndarray
    hyperparameters: dict[str, np.ndarray]
    make_optimizer: Callable[[Mapping[str, Any]], Any]


def grid(
    *, seeds: Sequence[int] | int, **axes: Sequence[float] | float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Every combination of seeds and hyperparameter values, flattened to the run axis.

    Args:
      seeds: the seeds, or how many (``0, 1, ...``).
      **axes: values of each hyperparameter; a single number is kept fixed.

    Returns:
      ``(seeds int64[R], {name: float64[R]})``, seeds varying fastest; zipped: run ``i`` is
      ``(seeds[i], {k: v[i]})``.

    Raises:
      ValueError: for an empty axis.

    Example:
      >>> from onesided_jax import grid
      >>> seeds, hyperparameters = grid(seeds=2, learning_rate=(0.1, 0.2))
      >>> seeds.tolist(), hyperparameters["learning_rate"].tolist()
      ([0, 1, 0, 1], [0.1, 0.1, 0.2, 0.2])
    """
    seed_values = range(seeds) if isinstance(seeds, int) else seeds
    columns = {name: np.atleast_1d(np.asarray(values, float)) for name, values in axes.items()}
    for name, values in [("seeds", np.asarray(seed_values)), *columns.items()]:
        if np.size(values) == 0:
            raise ValueError(f"{name}: expected at least one value, got none")
    rows = list(itertools.product(*columns.values(), seed_values))
    flat = {name: np.array([row[i] for row in rows], float) for i, name in enumerate(columns)}
    return np.array([row[-1] for row in rows], np.int64), flat


def hyperparameters_of(optimizer: str) -> tuple[list[str], list[str]]:
    """Names of an optimizer's float hyperparameters (axes) and of its int, bool and str options."""
    floats, static = [], []
    for name, parameter in inspect.signature(OPTIMIZERS[optimizer]).parameters.items():
        is_static = isinstance(parameter.default, (bool, int, str))
        (static if is_static else floats).append(name)
    static = [name for name in static if name != "opaque_mode"]  # the engine passes grad_fn
    return floats, static


def cells(recipe: Recipe) -> list[Cell]:
    """The recipe's cells, in order; see :class:`Cell`."""
    result = []
    for spec in recipe.optimizers:
        seeds, hyperparameters = grid(seeds=recipe.seeds, **spec.axes)
        result.append(Cell(_label(spec), spec, seeds, hyperparameters, _optimizer_maker(spec)))
    return result


def _optimizer_maker(spec: OptimizerSpec) -> Callable[[Mapping[str, Any]], Any]:
    factory, options = OPTIMIZERS[spec.name], dict(spec.options)
    return lambda hyperparameters: factory(**hyperparameters, **options)


def _label(spec: OptimizerSpec) -> str:
    return spec.label or spec.name


def _check_recipe(recipe: Recipe) -> None:
    _check_count("steps", recipe.steps)
    _check_count("checkpoint_every", recipe.checkpoint_every)
    _check_count("record_every", recipe.record_every)
    _check_divides("steps", recipe.steps, "checkpoint_every", recipe.checkpoint_every)
    _check_divides("checkpoint_every", recipe.checkpoint_every, "record_every", recipe.record_every)
    if recipe.precision not in PRECISIONS:
        raise ValueError(f"precision={recipe.precision!r}: expected one of {list(PRECISIONS)}")
    seeds = recipe.seeds
    bad = [s for s in seeds if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < 2**32]
    if bad or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)!r}: expected distinct integers in [0, 2**32)")
    if not recipe.optimizers:
        raise ValueError("optimizers: expected at least one")
    labels = [_label(spec) for spec in recipe.optimizers]
    for spec, label in zip(recipe.optimizers, labels, strict=True):
        if not label.replace("-", "_").replace(".", "_").isidentifier():
            raise ValueError(
                f"optimizer label {label!r}: expected letters, digits, '_', '-' and '.'"
            )
        if labels.count(label) > 1:
            raise ValueError(
                f"optimizer label {label!r} occurs twice: give each a label of its own"
            )
        _check_optimizer(spec)


def _check_optimizer(spec: OptimizerSpec) -> None:
    if spec.name not in OPTIMIZERS:
        choices = sorted(OPTIMIZERS)
        raise ValueError(
            f"optimizer={spec.name!r}: expected one of {choices}{nearest(spec.name, choices)}"
        )
    floats, static = hyperparameters_of(spec.name)
    for name, values in spec.axes.items():
        if name in static:
            raise ValueError(
                f"{name!r} of {spec.name} is a static option and cannot be swept: "
                "give each value an optimizer entry of its own (options=)"
            )
        if name not in floats:
            raise ValueError(
                f"{name!r} is no hyperparameter of {spec.name}: expected one of "
                f"{floats}{nearest(name, floats)}"
            )
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name}={values!r}: expected a non-empty list of numbers")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name}={value!r}: expected a number")
            if not math.isfinite(value):
                raise ValueError(f"{name}={value!r}: expected a finite number")
    for name in spec.options:
        if name not in static:
            raise ValueError(
                f"{name!r} is no static option of {spec.name}: expected one of "
                f"{static}{nearest(name, static)}"
            )
    missing = [n for n in ("primal_learning_rate", "dual_learning_rate") if n not in spec.axes]
    if missing:
        raise ValueError(f"{_label(spec)}: axes lack {missing}")
    # The factory checks ranges; every value in turn, the others at their first.
    make, first = _optimizer_maker(spec), {n: v[0] for n, v in spec.axes.items()}
    for name, values in spec.axes.items():
        for value in values:
            try:
                make({**first, name: value})
            except ValueError as error:
                raise ValueError(f"{_label(spec)}: {error}") from None


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}: expected an integer >= 1")


def _check_divides(name: str, whole: int, part_name: str, part: int) -> None:
    if whole % part:
        near = sorted({max(part, whole // part * part), -(-whole // part) * part})
        raise ValueError(
            f"{name}={whole}: expected a multiple of {part_name}={part}, "
            f"such as {' or '.join(map(str, near))}"
        )


def _fields(cls: type, content: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass from a JSON object, lists of scalars made tuples."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected an object, got {type(content).__name__}")
    known = {field.name: field for field in dataclasses.fields(cls)}
    for name in content:
        if name not in known:
            raise ValueError(
                f"{where}: unknown field {name!r}, expected one of {list(known)}"
                f"{nearest(name, known)}"
            )
    for name, field in known.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in content:
            raise ValueError(f"{where}: field {name!r} is missing")
    fields = dict(content)
    for name in ("options", "axes"):
        if name in fields:
            if not isinstance(fields[name], Mapping):
                raise ValueError(f"{where}.{name}={fields[name]!r}: expected an object")
            fields[name] = _tuples(fields[name])
    if "seeds" in fields:
        if not isinstance(fields["seeds"], Sequence) or isinstance(fields["seeds"], str):
            raise ValueError(f"{where}.seeds={fields['seeds']!r}: expected a list of integers")
        fields["seeds"] = tuple(fields["seeds"])
    return fields


def _tuples(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()}
