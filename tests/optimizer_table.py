"""Every optimizer and wrapper as ``make(primal_rate, dual_rate)``, and a game for them all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import onesided_jax as osj
from onesided_jax import PrimalDual

OPTIMIZERS = dict(osj.OPTIMIZERS)


def _adams(primal, dual):
    return osj.descent_ascent(optax.adam(primal, b1=0.0), optax.amsgrad(dual, b1=0.5))


def boxed(players):
    """The players in a box, whatever tree they are."""
    return jax.tree.map(lambda a: jnp.clip(a, -1.5, 1.5), players)


WRAPPERS = {
    "descent_ascent": _adams,
    "alternating, 3 dual steps": lambda p, d: osj.alternating(optax.adam(p), optax.sgd(d), 3),
    "extragradient, separate": lambda p, d: osj.extragradient(
        _adams(p, d), extrapolation_state="separate"
    ),
    "extragradient, transparent": lambda p, d: osj.extragradient(_adams(p, d), opaque_mode=False),
    "extragradient_plus": lambda p, d: osj.extragradient_plus(_adams(p, d)),
    "past_extragradient, discarded": lambda p, d: osj.past_extragradient(
        _adams(p, d), extrapolation_state="discarded"
    ),
    "past_extragradient, separate": lambda p, d: osj.past_extragradient(
        _adams(p, d), extrapolation_state="separate"
    ),
    "optimistic, zero": lambda p, d: osj.optimistic(_adams(p, d), first_step="zero"),
    "lookahead of extragradient": lambda p, d: osj.lookahead_minmax(
        osj.extragradient(_adams(p, d)), 2
    ),
    "anchored": lambda p, d: osj.anchored(osj.sgda(p, d)),
    "anchored, halpern": lambda p, d: osj.anchored(osj.sgda(p, d), form="halpern"),
    "consensus": lambda p, d: osj.consensus(_adams(p, d), 0.1),
    "alternating_extrapolation": lambda p, d: osj.alternating_extrapolation(
        optax.adam(p), optax.sgd(d), gamma=1.5
    ),
    "nupi": lambda p, d: osj.descent_ascent(optax.adam(p), osj.nupi(d, kp=2.0, nu=0.5)),
    "projected": lambda p, d: osj.projected(osj.past_extra_adam(p, d), boxed),
    "apply_if_finite": lambda p, d: osj.apply_if_finite(osj.extra_adam(p, d), 3),
}
EVERY = OPTIMIZERS | WRAPPERS


def make(name, primal, dual):
    """``amsgrad_eg_drd`` makes the schedule of the dual's rate itself: it gets a number."""
    return EVERY[name](primal, 0.05 if name == "amsgrad_eg_drd" and callable(dual) else dual)


RATES = {  # what people pass as a learning rate of 0.05, for players of some dtype
    "float": lambda dtype: 0.05,
    "np.float32": lambda dtype: np.float32(0.05),
    "np.float64": lambda dtype: np.float64(0.05),
    "NumPy array": lambda dtype: np.array(0.05),
    "weakly typed array": lambda dtype: jnp.asarray(0.05),
    "array of the players' dtype": lambda dtype: jnp.asarray(0.05, dtype),
    "bfloat16 array": lambda dtype: jnp.bfloat16(0.05),
    "float32 array": lambda dtype: jnp.float32(0.05),
    "widest array": lambda dtype: jnp.asarray(0.05, widest()),
    "schedule": lambda dtype: optax.cosine_decay_schedule(0.05, 10),
    "schedule of a Python float": lambda dtype: lambda count: 0.05,
    "schedule of np.float64": lambda dtype: lambda count: np.float64(0.05),
    "schedule of the widest array": lambda dtype: lambda count: jnp.asarray(0.05, widest()),
}


def widest():
    """float64 where x64 is enabled."""
    return jax.dtypes.canonicalize_dtype("float64")


TREE = PrimalDual(
    primal={"kernel": np.linspace(-1, 1, 6).reshape(2, 3), "bias": np.array([0.1, 0.2, -0.3])},
    dual=[np.array([[0.5], [-0.25]]), np.array(0.75)],
)


def tree_of(dtype="float32"):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), TREE)


def tree_field(players):
    """A field with no particular meaning on ``TREE``: smooth, and coupling the players."""
    pull = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(players.dual))
    push = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(players.primal))
    return PrimalDual(
        jax.tree.map(lambda a: jnp.sin(a) + pull, players.primal),
        jax.tree.map(lambda a: a - push, players.dual),
    )


def step(tx, field, params, state, **extra_args):
    """One iteration of the loop that every user writes."""
    updates, state = tx.update(
        field(params), state, params, grad_fn=lambda p, i: field(p), **extra_args
    )
    return optax.apply_updates(params, updates), state


def steps(tx, field, start, count, **extra_args):
    """The players and the state after ``count`` iterations."""

    def body(carry, _):
        return step(tx, field, *carry, **extra_args), None

    return lax.scan(body, (start, tx.init(start)), length=count)[0]


def assert_close(actual, expected, rtol):
    """Elementwise, but a coordinate that crosses zero is judged at the scale of its player."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=0))
