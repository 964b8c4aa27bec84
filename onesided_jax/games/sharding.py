"""Data parallelism: one large run on several devices."""

from __future__ import annotations

import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from onesided_jax.games.game import Game
from onesided_jax.players import make_key

__all__ = ["shard_batch"]


def shard_batch(game: Game, mesh: Mesh, axis: str = "batch") -> Game:
    """Splits a game's minibatches over the devices of a mesh (data parallelism).

    For a run that is too large for one device. Every device holds both players, and draws and
    evaluates its part of each minibatch; XLA adds up the gradients. Samples are the same as on one
    device, and minibatch statistics (BatchNorm) are those of the whole minibatch. So a step differs
    from that on one device only by the order of sums.

    Use the game with any optimizer and `make_step`. It does not work with `sweep`, which gives each
    device whole runs. Other mesh axes are not used.

    Args:
      game: the game; the first axis of every leaf of its batches must be the samples.
      mesh: mesh of devices, such as ``jax.make_mesh((8,), ("batch",))``.
      axis: name of the mesh axis to split minibatches over.

    Returns:
      The split game; use its ``field`` under `jax.jit`.

    Raises:
      ValueError: if the mesh has no such axis, or batches do not split evenly over it.

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
    # Auto axes, because those of `jax.make_mesh` need a sharding annotation on every operation.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    split, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in ((axis,), ()))

    def sample(key, *data):
        return jax.lax.with_sharding_constraint(game.sample(key, *data), split)

    def field(players, state, batch):
        return jax.lax.with_sharding_constraint(game.field(players, state, batch), whole)

    return dataclasses.replace(game, sample=sample, field=field)
