"""`Network`: a neural network as two pure functions, made from flax modules of either API."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors, linen, nnx

from onesided_jax.players import PRNG_IMPLEMENTATION, ArrayTree, PRNGKey, keys_like, make_key

__all__ = ["Network", "from_linen", "from_nnx"]


class Network(NamedTuple):
    """A neural network as a pair of pure functions: what a GAN game takes for each player.

    Both functions are clean under ``jit``, ``vmap``, ``grad`` and ``scan``. Bring your own by
    writing the two functions, or from a flax module with `from_nnx` or `from_linen`.

    Attributes:
      init: ``init(key) -> (params, state)``: nested dicts of arrays with string keys. ``params``
        is what the optimizer trains; ``state`` is what training changes besides (BatchNorm
        statistics, dropout's random streams), or ``()`` where there is nothing of the kind.
      apply: ``apply(params, state, inputs, *, train=True) -> (outputs, state)``. ``train=False``
        evaluates (BatchNorm uses its running statistics, dropout does nothing) and hands
        ``state`` back unchanged.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def init(key):
      ...     return {"w": jax.random.normal(key, (3,))}, ()
      >>> def apply(params, state, inputs, *, train=True):
      ...     return inputs @ params["w"], state
      >>> network = Network(init, apply)
      >>> params, state = network.init(jax.random.key(0))
      >>> network.apply(params, state, jnp.ones((5, 3)))[0].shape
      (5,)
    """

    init: Callable[[PRNGKey], tuple[ArrayTree, ArrayTree]]
    apply: Callable[..., tuple[Any, ArrayTree]]


def from_nnx(factory: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """Make a `Network` of a flax nnx module.

    ``nnx.Param`` variables are the params, all other variables the state. The module's
    ``train()`` or ``eval()`` is called before each application; values that it sows are dropped.
    The random streams of dropout are state, as raw ``uint32`` key data: the same params, state and
    inputs always draw the same mask, and each training application moves the stream on.

    Args:
      factory: builds the module from its random streams, for example
        ``lambda rngs: MyModule(64, rngs=rngs)``; called once here on abstract values and once in
        every ``init``, and must build the same structure each time.

    Returns:
      The network; its ``apply`` calls the module with one argument, ``inputs``.

    Raises:
      TypeError: ``factory`` is a module instead of a function that builds one, or it builds
        something else.
      ValueError: (from ``init``) a module with random streams, and a key of another
        implementation than the default.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> network = from_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
      >>> params, state = network.init(jax.random.key(0))
      >>> jax.tree.map(jnp.shape, params), state
      ({'bias': (2,), 'kernel': (3, 2)}, ())
      >>> outputs, state = network.apply(params, state, jnp.ones((5, 3)))
      >>> outputs.shape
      (5, 2)
    """
    if isinstance(factory, nnx.Module):
        raise TypeError(
            f"from_nnx takes a function that builds the module, not a module: got a "
            f"{type(factory).__name__}; write lambda rngs: {type(factory).__name__}(..., rngs=rngs)"
        )
    abstract = nnx.eval_shape(lambda: factory(nnx.Rngs(make_key(0))))
    if not isinstance(abstract, nnx.Module):
        raise TypeError(
            f"from_nnx's factory must return an nnx.Module; got a {type(abstract).__name__}"
        )
    graphdef, *parts = nnx.split(abstract, nnx.Param, ...)
    params_template, state_template = map(nnx.to_pure_dict, parts)
    state_shapes = jax.tree.map(jnp.shape, jax.eval_shape(_plain, state_template))

    def init(key: PRNGKey) -> tuple[ArrayTree, ArrayTree]:
        _, *parts = nnx.split(factory(nnx.Rngs(key)), nnx.Param, ...)
        params, state = (_plain(nnx.to_pure_dict(part)) for part in parts)
        if jax.tree.map(jnp.shape, state) != state_shapes:
            raise ValueError(
                "the module holds random streams (dropout), which need a key of "
                f"{PRNG_IMPLEMENTATION}: jax.random.key(seed, impl={PRNG_IMPLEMENTATION!r}); got "
                f"{jax.typeof(key)}"
            )
        return params, state or ()

    def apply(
        params: ArrayTree, state: ArrayTree, inputs: Any, *, train: bool = True
    ) -> tuple[Any, ArrayTree]:
        parts = (_typed(params_template, params), _typed(state_template, state))
        module = nnx.merge(graphdef, *map(nnx.State, parts), copy=True)
        if not train:
            module.eval()
            return module(inputs), state
        module.train()
        outputs = module(inputs)
        _, _, _, new_state = nnx.split(module, nnx.Param, nnx.Intermediate, ...)
        return outputs, _plain(nnx.to_pure_dict(new_state)) or ()

    return Network(init, apply)


def from_linen(module: linen.Module, example_input: ArrayTree) -> Network:
    """Make a `Network` of a flax linen module.

    The ``params`` collection is the params, all other collections (``batch_stats``, ...) the
    state. Whether the network is in training is told to the module's ``__call__`` by its argument
    ``train``, if it has one.

    Args:
      module: the module, not bound; its ``__call__`` takes ``inputs`` first.
      example_input: inputs of the right shapes and dtypes, as arrays or `jax.ShapeDtypeStruct`;
        the values are not used.

    Returns:
      The network.

    Raises:
      ValueError: the module draws random numbers when applied (dropout), which linen keeps
        outside its variables (write such a network in nnx), a collection of its variables
        changes shape when applied (``sow``), which no loop can carry, or a module with state knows
        training by another name than ``train``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen
      >>> network = from_linen(linen.Dense(2), jnp.ones((1, 3)))
      >>> params, state = network.init(jax.random.key(0))
      >>> jax.tree.map(jnp.shape, params), state
      ({'bias': (2,), 'kernel': (3, 2)}, ())
    """
    parameters = inspect.signature(type(module).__call__).parameters
    takes_train = "train" in parameters
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), a.dtype), example_input)

    def mode(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def init(key: PRNGKey) -> tuple[ArrayTree, ArrayTree]:
        inputs = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), example)
        variables = dict(module.init(key, inputs, **mode(True)))
        return variables.pop("params", {}), variables or ()

    def apply(
        params: ArrayTree, state: Any, inputs: Any, *, train: bool = True
    ) -> tuple[Any, ArrayTree]:
        variables: dict[str, Any] = {"params": params, **(state or {})}
        mutable = [name for name in variables if name != "params"]
        outputs, changed = module.apply(variables, inputs, mutable=mutable, **mode(train))
        return outputs, (dict(changed) or ()) if train else state

    def states(key: PRNGKey, inputs: Any) -> tuple[ArrayTree, ArrayTree]:
        params, state = init(key)
        return state, apply(params, state, inputs)[1]

    try:
        before, after = jax.eval_shape(states, make_key(0), example)
    except errors.InvalidRngError as error:
        raise ValueError(
            f"{type(module).__name__} draws random numbers when applied (dropout?); a linen module "
            "has nowhere to keep their state, so write it as an nnx module and use from_nnx"
        ) from error
    before, after = ({k: _shapes(v) for k, v in dict(state).items()} for state in (before, after))
    other = next((name for name in _OTHER_NAMES if name in parameters), None)
    if before and other and not takes_train:
        raise ValueError(
            f"{type(module).__name__} has state ({', '.join(before)}), and its __call__ takes "
            f"{other!r}: expected an argument named 'train', which is true in training"
        )
    growing = sorted(k for k in before | after if before.get(k) != after.get(k))
    if growing:
        raise ValueError(
            f"{type(module).__name__} has collections that change shape when it is applied, "
            f"{growing} (sow?): a state must stay as it is to be carried through a loop"
        )
    return Network(init, apply)


_OTHER_NAMES = ("training", "is_training", "deterministic", "use_running_average", "inference")


def _shapes(tree: Any) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _plain(tree: Any) -> Any:
    """Random keys as raw data and list positions as strings: arrays that any format can store."""
    if isinstance(tree, dict):
        return {str(k): _plain(v) for k, v in tree.items()}
    return jax.random.key_data(tree) if _is_key(tree) else jnp.asarray(tree)


def _typed(template: Any, tree: Any) -> Any:
    """Undo `_plain`, with the module's own abstract variables for a template."""
    if isinstance(template, dict):
        return {k: _typed(v, tree[str(k)]) for k, v in template.items()}
    # Flax changes a state of NumPy arrays in place, and cannot where it is traced.
    return keys_like(tree, template) if _is_key(template) else jnp.asarray(tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key)


def check_integers(minimum: int = 1, /, **values: int) -> None:
    """Raise ValueError unless every keyword is an integer of at least ``minimum``."""
    for name, value in values.items():
        try:
            valid = operator.index(value) >= minimum
        except TypeError:
            valid = False
        if not valid:
            finite = isinstance(value, float) and math.isfinite(value)
            nearest = max(round(value), minimum) if finite else minimum
            raise ValueError(
                f"{name} must be an integer of at least {minimum}; got {value!r}, "
                f"nearest valid: {nearest}"
            )
