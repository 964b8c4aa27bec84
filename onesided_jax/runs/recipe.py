"""A recipe: everything that a sweep is a function of, as a frozen dataclass and as JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onesided_jax.optimizers import OPTIMIZERS
from onesided_jax.runs._values import (
    MAX_STEPS,
    check_count,
    check_divides,
    check_number,
    check_text,
    is_unicode,
    short,
)
from onesided_jax.runs._words import nearest
from onesided_jax.runs.criteria import Criteria

__all__ = [
    "GameSpec",
    "OptimizerSpec",
    "Recipe",
    "hyperparameters_of",
    "label_of",
    "optimizer_maker",
]

PRECISIONS = ("float32", "float64")
MAX_RUNS = 2**20  # of one cell; every one of them is written out in the manifest
_MAX_LABEL = 100  # bytes; labels are folders


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
      axes: distinct values of float hyperparameters, every combination is a run; a number is one
        value. Kept as tuples.

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
        object.__setattr__(self, "axes", {**_tuples(self.axes), **one})


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
      precision: ``"float32"`` or ``"float64"``, of analytic games and of GANs: networks, batches,
        optimizer states and steps.
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
        except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list...
            raise ValueError("recipe: not JSON that a recipe could be") from None
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
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"recipe file {str(path)!r} cannot be read: {error}") from None
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"recipe file {str(path)!r}: {error}") from None


def hyperparameters_of(optimizer: str) -> tuple[list[str], list[str]]:
    """Names of an optimizer's float hyperparameters (axes) and of its int, bool and str options."""
    floats, static = [], []
    for name, parameter in inspect.signature(OPTIMIZERS[optimizer]).parameters.items():
        is_static = isinstance(parameter.default, (bool, int, str))
        (static if is_static else floats).append(name)
    static = [name for name in static if name != "opaque_mode"]  # the engine passes grad_fn
    return floats, static


def optimizer_maker(spec: OptimizerSpec) -> Callable[[Mapping[str, Any]], Any]:
    """``hyperparameters -> optax transformation`` of a spec, its options filled in."""
    factory, options = OPTIMIZERS[spec.name], dict(spec.options)
    return lambda hyperparameters: factory(**hyperparameters, **options)


def label_of(spec: OptimizerSpec) -> str:
    """The cell's name in folders, tables and figures."""
    return spec.label or spec.name


def _check_recipe(recipe: Recipe) -> None:
    check_text("name", recipe.name)
    if not isinstance(recipe.description, str) or not is_unicode(recipe.description):
        raise ValueError(f"description={recipe.description!r}: expected text")
    for name in ("steps", "checkpoint_every", "record_every"):
        check_count(name, getattr(recipe, name))
    check_divides("steps", recipe.steps, "checkpoint_every", recipe.checkpoint_every)
    check_divides("checkpoint_every", recipe.checkpoint_every, "record_every", recipe.record_every)
    if not isinstance(recipe.independent_samples, bool):
        raise ValueError(f"independent_samples={recipe.independent_samples!r}: expected a bool")
    if recipe.precision not in PRECISIONS:
        raise ValueError(f"precision={recipe.precision!r}: expected one of {list(PRECISIONS)}")
    if not isinstance(recipe.criteria, Criteria):
        raise ValueError(f"criteria={recipe.criteria!r}: expected Criteria")
    _check_game(recipe.game)
    seeds = recipe.seeds
    bad = [s for s in seeds if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < 2**32]
    if bad or not seeds or len(set(seeds)) < len(seeds):
        shown = bad or seeds
        raise ValueError(f"seeds={short(list(shown))}: expected distinct integers in [0, 2**32)")
    if not recipe.optimizers:
        raise ValueError("optimizers: expected at least one")
    for spec in recipe.optimizers:
        if not isinstance(spec, OptimizerSpec):
            raise ValueError(f"optimizers: expected OptimizerSpec, got {spec!r}")
        _check_label(spec)
    labels = [label_of(spec) for spec in recipe.optimizers]
    for spec, label in zip(recipe.optimizers, labels, strict=True):
        if labels.count(label) > 1:
            raise ValueError(
                f"optimizer label {label!r} occurs twice: give each a label of its own"
            )
        _check_optimizer(spec)
        runs = len(seeds) * math.prod(len(values) for values in spec.axes.values())
        if runs > MAX_RUNS:
            raise ValueError(f"{label}: {runs:,} runs, expected at most {MAX_RUNS:,} per optimizer")


def _check_game(game: GameSpec) -> None:
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


def _check_label(spec: OptimizerSpec) -> None:
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
            raise ValueError(f"{name}={values!r}: expected a number or a non-empty list of them")
        for value in values:
            check_number(name, value)
        distinct = list(dict.fromkeys(values))
        if len(distinct) < len(values):  # the same runs again would count as seeds of their own
            raise ValueError(
                f"{name}={short(list(values))}: expected distinct values, such as {short(distinct)}"
            )
    defaults = inspect.signature(OPTIMIZERS[spec.name]).parameters
    for name, value in spec.options.items():
        if name in floats:
            raise ValueError(
                f"{name!r} of {spec.name} is a hyperparameter and no static option: "
                f"give {name}={value!r} under axes="
            )
        if name not in static:
            raise ValueError(
                f"{name!r} is no static option of {spec.name}: expected one of "
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
    # The factory checks ranges; every value in turn, the others at their first.
    make, first = optimizer_maker(spec), {n: v[0] for n, v in spec.axes.items()}
    for name, values in spec.axes.items():
        for value in values:
            try:
                make({**first, name: value})
            except ValueError as error:
                raise ValueError(f"{label_of(spec)}: {error}") from None


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


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _tuples(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()}
