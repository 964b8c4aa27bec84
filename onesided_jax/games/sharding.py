"""One large run on several devices: each takes a part of the minibatch."""

from __future__ import annotations

import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from onesided_jax.games.game import Game
from onesided_jax.players import make_key

__all__ = ["shard_batch"]


def shard_batch(game: Game, mesh: Mesh, axis: str = "batch") -> Game:
    """The same game with its minibatches split over the devices of a mesh.

    Data parallelism for a run that is too large for one device: every device holds both players
    whole, draws and evaluates its part of a minibatch, and XLA adds up the gradients. It is the
    same game, with the same samples: statistics that networks take over the minibatch (BatchNorm)
    are those of all of it, and a step differs from that of one device by the order of sums only.
    Optimizers and `make_step` know nothing of it; `sweep`, which gives each device whole runs,
    cannot play it. Other axes of the mesh are left alone.

    Args:
      game: what is played; every leaf of its batches has the samples as its first axis.
      mesh: of devices, ``jax.make_mesh((8,), ("batch",))`` for instance.
      axis: name of the mesh axis to split minibatches over.

    Returns:
      The game; use its ``field`` under `jax.jit`.

    Raises:
      ValueError: if the mesh has no such axis, or batches cannot be split over it evenly.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> game = games.finite_sum_bilinear(batch_size=4)
      >>> mesh = jax.make_mesh((2,), ("batch",))
      >>> batch = jax.jit(games.shard_batch(game, mesh).sample)(jax.random.key(0))
    """
    if axis not in mesh.axis_names:
        raise ValueError(f"axis={axis!r}: expected one of the mesh's axes {mesh.axis_names}")
    parts = mesh.shape[axis]
    leaves = jax.tree.leaves(jax.eval_shape(game.batch, make_key(0)))
    sizes = {leaf.shape[0] if leaf.ndim else 1 for leaf in leaves}
    if not leaves or any(size % parts for size in sizes):
        raise ValueError(
            f"batches of {sorted(sizes) or 'nothing'}: expected multiples of {parts}, "
            f"the size of mesh axis {axis!r}"
        )
    # Axes that XLA may fill in: what `jax.make_mesh` returns wants every operation annotated.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    split, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in ((axis,), ()))

    def sample(key, *data):
        return jax.lax.with_sharding_constraint(game.sample(key, *data), split)

    def field(players, state, batch):
        return jax.lax.with_sharding_constraint(game.field(players, state, batch), whole)

    return dataclasses.replace(game, sample=sample, field=field)
