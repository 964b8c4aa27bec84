"""Samples of trained generators."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import numpy as np

from onesided_jax.analysis.source import from_run, pick_run
from onesided_jax.players import make_key
from onesided_jax.runs import Run, build_game, numerics

__all__ = ["generate"]


def generate(
    run: Run, *, count: int, seed: int = 0, label: int | None = None
) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Samples of every generator at its newest readable checkpoint.

    Args:
      run: a GAN run with a recipe.
      count: samples per generator.
      seed: seed of the latents, the same for all generators.
      label: the class to draw from a conditional GAN; ``None`` draws all, one after another.

    Yields:
      ``(cell, run index, step, samples[count, ...])``.

    Raises:
      ValueError: if the run has no recipe, its game generates nothing, or has no such class.
    """
    recipe = run.recipe
    if recipe is None:
        raise ValueError(f"{str(run.path)!r} has no recipe to rebuild the game from")
    with numerics(recipe):
        shape = run.manifest.get("sample_shape")  # without it, of version 0.1: from the data
        game = build_game(recipe.game, recipe.precision, sample_shape=shape)
        draw = game.generate
        if draw is None:
            raise ValueError(f"game={recipe.game.name!r} generates no samples; expected a GAN run")
        given = () if label is None else (label,)
        if label is None and game.classes is not None:
            given = (np.arange(count) * game.classes // count,)
        sample = jax.jit(lambda p, s: draw(p, s, make_key(seed), count, *given))
        for cell in run.cells:
            source = from_run(run, cell, game)
            last = source.snapshot(source.steps[-1])
            for index in range(len(source.seeds)):
                pick = functools.partial(pick_run, run=index)
                yield (
                    cell,
                    index,
                    source.steps[-1],
                    np.asarray(sample(pick(last.players), pick(last.state))),
                )
