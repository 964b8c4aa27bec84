"""A recipe: everything that determines a sweep, as a frozen dataclass and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onesided_jax.errors import (
    check_choice,
    check_count,
    check_decay,
    check_divides,
    nearest,
    short,
)
from onesided_jax.runs._values import as_integer, check_text, is_unicode, tuples
from onesided_jax.runs.criteria import RETIRED, Criteria
from onesided_jax.runs.specs import (
    GameSpec,
    OptimizerSpec,
    check_game,
    check_label,
    check_optimizer,
    label_of,
)

__all__ = ["Recipe", "lengthened"]

PRECISIONS = ("float32", "float64")
MAX_RUNS = 2**20  # per cell; the manifest lists every run


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Game, optimizers, grid, steps and cadence: everything that determines a sweep.

    There is one compiled program per optimizer. Static fields (game, networks, data, optimizer
    names, every bool, int and str) are compiled in. Seeds and float hyperparameters are traced, so
    all runs of an optimizer share its program.

    Attributes:
      name: short name of the recipe.
      game: the game.
      optimizers: one per cell.
      seeds: distinct integers in ``[0, 2**32)``; one run per seed and combination of axes.
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps between checkpoints, a multiple of ``record_every``.
      record_every: steps between recorded metrics.
      independent_samples: whether the second evaluation of an extragradient step draws its own
        minibatch, as the theory requires, or uses the first one again.
      precision: ``"float32"`` or ``"float64"``, for players, batches, optimizer states and steps.
      criteria: windows, boundaries and sample sizes of the verdicts, fixed before the run.
      description: one sentence for the report.
      ema: decay in ``[0, 1)``, such as 0.999, of a moving average of the primal player. Analysis
        measures samples of the average. ``None`` for no average.

    Raises:
      ValueError: for the first invalid value.

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
    ema: float | None = None

    def __post_init__(self):
        for name in ("steps", "checkpoint_every", "record_every"):
            object.__setattr__(self, name, as_integer(getattr(self, name)))
        if isinstance(self.seeds, list | tuple):
            object.__setattr__(self, "seeds", tuple(map(as_integer, self.seeds)))
        object.__setattr__(self, "ema", check_decay("ema", self.ema))
        _check_recipe(self)

    def to_json(self) -> str:
        """The recipe as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads the text that ``to_json`` wrote.

        Raises:
          ValueError: for any other text. For a field of an earlier version, the message names the
            field that replaced it.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"recipe: not JSON: {error}") from None
        except (ValueError, RecursionError):  # a number of thousands of digits, deeply nested lists
            raise ValueError("recipe: expected JSON without huge numbers or deep nesting") from None
        _refuse_retired(content)
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> Recipe:
        """Builds a recipe from JSON-like content; unknown and missing fields are errors.

        This also reads the manifests of old runs. Criteria that only version 0.1 had are ignored:
        such a run is judged by the current boundaries, in its own windows.
        """
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
            given = _fields(Criteria, _without_retired(fields["criteria"]), "recipe.criteria")
            fields["criteria"] = Criteria(**tuples(given))
        return cls(**fields)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a recipe file.

        Raises:
          ValueError: if the file is missing or is not a recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"recipe file {str(path)!r} cannot be read: {error}") from None
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"recipe file {str(path)!r}: {error}") from None


def lengthened(recipe: Recipe, steps: int | None) -> Recipe:
    """Returns the recipe with more steps; ``None`` keeps its steps.

    Raises:
      ValueError: for fewer steps than the recipe has, or no multiple of ``checkpoint_every``.
    """
    if steps is None:
        return recipe
    if check_count("steps", steps) < recipe.steps:
        raise ValueError(f"steps={steps}: expected at least {recipe.steps}, the steps of the run")
    return dataclasses.replace(recipe, steps=steps)


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
    check_choice("precision", recipe.precision, PRECISIONS)
    if not isinstance(recipe.criteria, Criteria):
        raise ValueError(f"criteria={recipe.criteria!r}: expected Criteria")
    check_game(recipe.game)
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
        check_label(spec)
    labels = [label_of(spec) for spec in recipe.optimizers]
    for spec, label in zip(recipe.optimizers, labels, strict=True):
        if labels.count(label) > 1:
            raise ValueError(
                f"optimizer label {label!r} occurs twice: give each optimizer its own label"
            )
        check_optimizer(spec)
        runs = len(seeds) * math.prod(len(values) for values in spec.axes.values())
        if runs > MAX_RUNS:
            raise ValueError(f"{label}: {runs:,} runs, expected at most {MAX_RUNS:,} per optimizer")


def _without_retired(criteria: Any) -> Any:
    if not isinstance(criteria, Mapping):
        return criteria
    return {name: value for name, value in criteria.items() if name not in RETIRED}


def _refuse_retired(content: Any) -> None:
    criteria = content.get("criteria") if isinstance(content, Mapping) else None
    for name in criteria if isinstance(criteria, Mapping) else ():
        if name in RETIRED:
            now = f" (did you mean {RETIRED[name]!r}?)" if RETIRED[name] else "; leave it out"
            raise ValueError(f"recipe.criteria: {name!r} is a field of version 0.1{now}")


def _fields(cls: type, content: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass from a JSON object; lists of scalars become tuples."""
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
            fields[name] = tuples(fields[name])
    if "seeds" in fields:
        if not isinstance(fields["seeds"], Sequence) or isinstance(fields["seeds"], str):
            raise ValueError(f"{where}.seeds={fields['seeds']!r}: expected a list of integers")
        fields["seeds"] = tuple(fields["seeds"])
    return fields
