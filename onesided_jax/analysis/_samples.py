"""Samples of trained generators, and exported generators."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.analysis.source import from_run, pick_run
from onesided_jax.extras import need
from onesided_jax.games import Game
from onesided_jax.players import make_key
from onesided_jax.runs import Run, build_game, numerics

__all__ = ["Exported", "export_generator", "generate"]

PLATFORMS = ("cpu", "cuda", "tpu")


def generate(
    run: Run, *, count: int, seed: int = 0, label: int | None = None, raw: bool = False
) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Draws samples from every generator at its newest readable checkpoint.

    Args:
      run: a GAN run with a recipe.
      count: samples per generator.
      seed: seed of the latents, the same for all generators.
      label: the class to draw from a conditional GAN; ``None`` draws all classes in order.
      raw: sample the last iterate instead of the moving average of a run with ``ema``.

    Yields:
      ``(cell, run index, step, samples[count, ...])``.

    Raises:
      ValueError: if the run has no recipe, or its game has no samples or no such class.
    """
    with numerics(run.recipe):
        game = _game_of(run)
        draw: Any = game.generate
        given = () if label is None else (label,)
        if label is None and game.classes is not None:
            given = (np.arange(count) * game.classes // count,)
        sample = jax.jit(lambda p, s: draw(p, s, make_key(seed), count, *given))
        for cell in run.cells:
            source = from_run(run, cell, game)
            last = source.snapshot(source.steps[-1])
            players = last.players if raw else last.averaged()
            for index in range(len(source.seeds)):
                pick = functools.partial(pick_run, run=index)
                yield (
                    cell,
                    index,
                    source.steps[-1],
                    np.asarray(sample(pick(players), pick(last.state))),
                )


def _game_of(run: Run) -> Game:
    """The GAN of a run, without its data."""
    recipe = run.recipe
    if recipe is None:
        raise ValueError(f"{str(run.path)!r} has no recipe to rebuild the game from")
    shape = run.manifest.get("sample_shape")  # version 0.1 has none: the data are read
    game = build_game(recipe.game, recipe.precision, sample_shape=shape)
    if game.generate is None:
        raise ValueError(f"game={recipe.game.name!r} generates no samples; expected a GAN run")
    return game


class Exported(NamedTuple):
    """The files of an exported generator.

    Attributes:
      program: ``generator.jax``: ``f[b, latent_dim] -> samples[b, ...]`` for any ``b``, with its
        params inside. ``jax.export.deserialize`` reads it, without onesided-jax. For a conditional
        GAN, the second argument is the classes ``int32[b]``.
      params: ``generator.npz``: params and state of normalisation, one array per leaf, named by its
        path, such as ``params/head/kernel``.
      step: step of the checkpoint.
    """

    program: Path
    params: Path
    step: int


def export_generator(
    run: Run,
    out: str | os.PathLike[str],
    *,
    cell: str | None = None,
    index: int = 0,
    raw: bool = False,
) -> Exported:
    """Writes a generator as a program for CPU, GPU and TPU, and its params as NumPy arrays.

    It takes the newest readable checkpoint.

    Args:
      run: a GAN run with a recipe.
      out: the folder; ``generator.jax`` and ``generator.npz`` in it are replaced.
      cell: one of ``run.cells``; ``None`` takes the first.
      index: index of the run in the cell, from 0.
      raw: export the last iterate instead of the moving average of a run with ``ema``.

    Returns:
      :class:`Exported`.

    Raises:
      ImportError: without flatbuffers, which `jax.export` needs (the extra ``export``).
      ValueError: if the run has no recipe, or there is no such cell, run, or no GAN.
    """
    need("export", "the export of a generator", "flatbuffers")
    with numerics(run.recipe):
        game = _game_of(run)
        source = from_run(run, run.cells[0] if cell is None else cell, game)
        if not 0 <= index < len(source.seeds):
            raise ValueError(f"index={index}: expected 0 to {len(source.seeds) - 1}")
        step = source.steps[-1]
        last = source.snapshot(step)
        players = pick_run(last.players if raw else last.averaged(), index)
        state = pick_run(last.state, index)
        draw: Any = game.generate

        def generate(latent: jax.Array, *labels: jax.Array) -> jax.Array:
            return draw(players, state, None, latent.shape[0], *labels, latent=latent)

        latent = jax.eval_shape(game.batch, make_key(0), game.data).latent
        (batch,) = jax.export.symbolic_shape("b")
        like = [jax.ShapeDtypeStruct((batch, latent.shape[1]), jnp.float32)]
        if game.classes is not None:
            like.append(jax.ShapeDtypeStruct((batch,), jnp.int32))
        program = jax.export.export(jax.jit(generate), platforms=PLATFORMS)(*like)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    found = Exported(folder / "generator.jax", folder / "generator.npz", step)
    found.program.write_bytes(program.serialize())
    parts = {"params": players.primal, "state": state.primal}
    leaves = jax.tree.flatten_with_path(parts)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    np.savez(found.params, **dict(zip(names, (leaf for _, leaf in leaves), strict=True)))
    return found
