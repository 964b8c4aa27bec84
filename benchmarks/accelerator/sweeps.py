"""Sweeps for these sections: games, training on one device, and comparing players."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import onesided_jax as osj
from benchmarks import ours
from onesided_jax.sweeps import SweepResult

DCGANS = {"dcgan28": (32, 28, 1), "dcgan32": (64, 32, 3)}  # width, pixels, channels
MakeOptimizer = Callable[[Mapping[str, Any]], Any]


class Stopped(Exception):  # noqa: N818 - like Ctrl-C, not an error
    """A sweep was stopped on purpose."""


def precision_of(name: str, platform: str) -> str | None:
    """JAX's name for the precision of products: ``"float32"`` allows TF32 on a GPU."""
    if name == "highest":
        return "highest"
    return "tensorfloat32" if platform == "gpu" else None


@contextlib.contextmanager
def products_in(name: str) -> Iterator[None]:
    """Sets the precision of products in all threads; JAX's context manager sets only one."""
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", precision_of(name, jax.devices()[0].platform))
    try:
        yield
    finally:
        jax.config.update("jax_default_matmul_precision", before)


def shape_of(game: str, tiny: bool) -> tuple[int, int, int]:
    """``(H, W, C)`` of a DCGAN's images; networks halve tiny ones once, not twice."""
    _, pixels, channels = DCGANS[game]
    pixels = pixels // 2 if tiny else pixels
    return pixels, pixels, channels


def sizes_of(game: str, tiny: bool) -> tuple[int, int]:
    """A GAN's width and batch."""
    if game in DCGANS:
        return (8, 8) if tiny else (DCGANS[game][0], 64)
    return (16, 16) if tiny else (64, 128)


def images_of(game: str, data_dir: str | None, tiny: bool) -> np.ndarray:
    """``uint8[2048, H, W, C]``: MNIST's first digits if the files are given, else strokes."""
    pixels, _, channels = shape_of(game, tiny)
    if data_dir is None or channels != 1:
        return ours.images(2048, pixels, channels)
    data = osj.datasets.load("mnist", data_dir=data_dir).data
    assert data is not None
    return data[:2048, ::2, ::2] if tiny else data[:2048]


def make_game(
    name: str,
    conv: str = "auto",
    dtype: str = "float32",
    tiny: bool = False,
    data_dir: str | None = None,
) -> osj.Game:
    """``"dcgan28"``, ``"dcgan32"``, ``"ring"`` or an analytic game by its name."""
    if name in DCGANS:
        data = images_of(name, data_dir, tiny)
        return ours.dcgan_game(*sizes_of(name, tiny), conv, data, dtype)
    if name == "ring":
        return ours.mlp_game(*sizes_of(name, tiny))
    return osj.games.make_game(name)


def optimizer(name: str) -> MakeOptimizer:
    """Returns a maker of the named optimizer: default options, one rate for both players."""
    return lambda rate: osj.OPTIMIZERS[name](rate, rate)


def train(
    game: osj.Game,
    make: MakeOptimizer,
    device: Any,
    *,
    runs: int,
    steps: int,
    every: int | None = None,
    out: Path | None = None,
    stop: int | None = None,
) -> SweepResult:
    """A sweep on one device; continues the run in ``out``, raises `Stopped` at step ``stop``."""

    def on_chunk(chunk: Any) -> None:
        if chunk.step == stop:
            raise Stopped

    return osj.sweep(
        game,
        make,
        osj.Runs(np.arange(runs), {"rate": np.full(runs, 1e-3)}),
        steps=steps,
        checkpoint_every=every,
        out=out,
        on_chunk=on_chunk,
        width=runs,
        devices=[device],
    )


def chunk_seconds(game: osj.Game, make: MakeOptimizer, runs: int, steps: int, chunks: int) -> float:
    """Wall time of all but the first chunk of ``osj.sweep``, checkpoints in memory."""
    taken: list[float] = []
    osj.sweep(
        game,
        make,
        osj.Runs(np.arange(runs), {"rate": np.full(runs, ours.RATE)}),
        steps=steps * chunks,
        checkpoint_every=steps,
        on_chunk=lambda chunk: taken.append(chunk.seconds),
        width=runs,
        devices=jax.devices()[:1],
    )
    return sum(taken[1:])


def difference(actual: SweepResult, expected: SweepResult) -> dict[str, float]:
    """Per player: the largest difference of any run, as a share of how far that run moved."""
    start = expected.checkpoints[0].players

    def share(a: Any, b: Any, before: Any) -> float:
        flat = [
            np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(tree)], 1)
            for tree in (a, b, before)
        ]
        apart, moved = (np.linalg.norm(x - flat[1], axis=1) for x in (flat[0], flat[2]))
        return float(np.max(apart / moved))

    pairs = zip(actual.players, expected.players, start, strict=True)
    return dict(zip(("primal", "dual"), (share(*pair) for pair in pairs), strict=True))


def digest(players: osj.PrimalDual) -> str:
    """A fingerprint of every bit of the players."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(players):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()[:16]
