"""This package's side: the games, and a sweep's compiled program advanced chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import onesided_jax as osj
from onesided_jax.players import Device
from onesided_jax.sweeps.engine import Plan, Training
from onesided_jax.sweeps.layout import (
    choose_layout,
    compile_chunk,
    device_hyperparameters,
    initial_carry,
)
from onesided_jax.sweeps.memory import needed_bytes

LATENT = {"dcgan": 64, "mlp": 16}
RATE, B1 = 2e-4, 0.5  # Radford et al. 2016


def images(count: int = 2048, size: int = 28, channels: int = 1) -> np.ndarray:
    """Stand-ins for digits, ``uint8[count, size, size, channels]``: two soft strokes, and noise.

    Real images need a download or another package, and no timing depends on the content.
    """
    rng = np.random.default_rng(0)
    ends = rng.uniform(0.2, 0.8, (count, 2, 2, 2, 1, 1)) * size  # image, stroke, end, coordinate
    pixel = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    start, direction = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
    offset = pixel - start
    along = (offset * direction).sum(2, keepdims=True) / (direction**2).sum(2, keepdims=True)
    distance = ((offset - along.clip(0, 1) * direction) ** 2).sum(2)  # squared, to the stroke
    bright = np.exp(-distance / (size / 14) ** 2).max(1) * 255
    noisy = bright + rng.normal(0, 4, bright.shape)
    grey = noisy.clip(0, 255).astype(np.uint8)[..., None]
    return np.repeat(grey, channels, -1)


def dcgan_game(
    width: int = 32,
    batch: int = 64,
    conv: str = "auto",
    data: np.ndarray | None = None,
    dtype: str = "float32",
) -> osj.Game:
    """``data``: ``uint8[N, H, W, C]``; ``dtype``: of the networks' arithmetic."""
    data = images() if data is None else data
    height, columns, channels = data.shape[1:]
    networks = osj.networks.dcgan((height, columns, channels), LATENT["dcgan"], width, conv=conv)
    generator, discriminator = (computing_in(dtype, network) for network in networks)
    return osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=osj.datasets.from_array(data),
        batch_size=batch,
        latent_dim=LATENT["dcgan"],
    )


def computing_in(dtype: str, network: osj.Network) -> osj.Network:
    """The network with arithmetic in ``dtype``; its parameters and outputs stay float32."""
    if dtype == "float32":
        return network

    def apply(params: Any, state: Any, inputs: Any, *, train: bool = True) -> tuple[Any, Any]:
        narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        outputs, state = network.apply(narrow, state, inputs.astype(dtype), train=train)
        return outputs.astype(jnp.float32), state

    return osj.Network(network.init, apply)


def mlp_game(width: int = 64, batch: int = 128) -> osj.Game:
    generator, discriminator = osj.networks.mlp((2,), LATENT["mlp"], width)
    return osj.games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=osj.datasets.load("ring"),
        batch_size=batch,
        latent_dim=LATENT["mlp"],
    )


def optimizer(name: str = "adam", **options: Any) -> Callable[..., Any]:
    """Returns a new function that makes the named optimizer, one rate for both players."""
    options = {"b1": B1} | options
    return lambda rate: osj.OPTIMIZERS[name](rate, rate, **options)


def plan(
    game: osj.Game, make: Callable[..., Any], runs: int, steps: int, *, rate: float = RATE,
    record_every: int = 1,
) -> Plan:  # fmt: skip
    """The plan of ``osj.sweep`` for one chunk: ``steps`` steps of ``runs`` runs."""
    columns = osj.Runs(np.arange(runs), {"rate": np.full(runs, rate)})
    return Plan(Training(game, make, record_every=record_every), columns, steps, steps)


def compiled(planned: Plan, width: int) -> None:
    """Compiles a sweep's chunk for one device; allocates no runs."""
    compile_chunk(planned, choose_layout(planned, width=width, devices=jax.local_devices()[:1]))


class Sweep:
    """A sweep's compiled program, advanced chunk by chunk as `osj.sweep` advances it.

    A chunk is ``steps`` steps of all runs. A sweep's usual rules choose the layout, unless
    ``width`` and ``devices`` set it.

    Attributes:
      compile_seconds: time to trace and compile the initialisation and the chunk.
      planned_bytes: memory that the compiled chunk needs on each device.
      steps: steps per chunk.
      done: steps done by every run.
    """

    def __init__(
        self,
        game: osj.Game,
        make: Callable[..., Any],
        runs: int,
        steps: int,
        *,
        rate: float = RATE,
        record_every: int = 1,
        width: int | None = None,
        devices: Sequence[Device] | None = None,
    ):
        self.runs, self.steps = runs, steps
        start = time.perf_counter()
        planned = plan(game, make, runs, steps, rate=rate, record_every=record_every)
        self._layout = choose_layout(planned, width=width, devices=devices)
        self._chunk = compile_chunk(planned, self._layout)
        self._carry = initial_carry(planned, self._layout)
        hyperparameters = self._layout.pad(device_hyperparameters(planned.runs))
        self._arguments = (self._layout.spread(hyperparameters), self._layout.copy(game.data))
        self.planned_bytes = needed_bytes(self._chunk)
        self.compile_seconds = time.perf_counter() - start
        self.done = 0
        self._losses: list[tuple[float, float]] = []

    def advance(self) -> float:
        """One chunk; seconds per run-step."""
        start = time.perf_counter()
        self._carry, metrics = jax.block_until_ready(self._chunk(self._carry, *self._arguments))
        elapsed = time.perf_counter() - start
        self.done += self.steps
        means = [
            float(np.mean(np.asarray(metrics[f"loss_{player}"])[: self.runs]))
            for player in ("primal", "dual")
        ]
        self._losses.append((means[0], means[1]))
        return elapsed / (self.runs * self.steps)

    @property
    def losses(self) -> tuple[float, float]:
        """Both players' mean loss over all runs and all records so far."""
        primal, dual = np.mean(self._losses, axis=0).tolist()
        return primal, dual

    @property
    def layout(self) -> dict[str, Any]:
        """How the runs are laid out."""
        return {"width": self._layout.width, "devices": len(self._layout.devices)}

    def players(self) -> osj.PrimalDual:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.runs], self._carry.train.players)


def parameter_count(game: osj.Game) -> tuple[int, int]:
    """Numbers in the primal and in the dual player."""
    players, _ = jax.eval_shape(game.init, jax.random.key(0))
    primal, dual = (sum(leaf.size for leaf in jax.tree.leaves(player)) for player in players)
    return primal, dual


def dcgan_step_flops(width: int, batch: int, shape: tuple[int, int, int] = (28, 28, 1)) -> float:
    """FLOPs of the matrix products in one simultaneous step of the DCGAN, counted by hand.

    Each layer has a product forwards, one for the weight's gradient and one for the input's. The
    discriminator sees real and generated images; the latents need no gradient. Multiplications
    and additions count separately. Elementwise passes, padding and the optimizer do not count.
    """
    height, columns, channels = shape
    fine, coarse, taps, convolutions = channels, width, 16, 0
    while min(height, columns) > 7 and height % 2 == columns % 2 == 0:
        height, columns = height // 2, columns // 2
        convolutions += height * columns * taps * fine * coarse  # as many up as down
        fine, coarse = coarse, 2 * coarse
    head = height * columns * fine
    dense = LATENT["dcgan"] * head
    return 2.0 * batch * (2 * dense + 3 * convolutions + 2 * 3 * (convolutions + head))


def counted_flops(game: osj.Game, make: Callable[..., Any]) -> float | None:
    """FLOPs that XLA counts for one step of one run, or ``None`` if XLA gives no count."""
    init, step = osj.make_step(game, make)
    parameters = {"rate": jnp.float32(RATE)}
    state = jax.eval_shape(init, jax.random.key(0), parameters)
    cost = jax.jit(step).lower(state, parameters, game.data).cost_analysis()
    return None if not cost else float(cost.get("flops", 0.0))
