"""`Network`: a neural network as two pure functions, and `from_nnx`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.networks._modes import boolean_switches, call_defaults, check_modes, trace
from onesided_jax.players import PRNG_IMPLEMENTATION, ArrayTree, PRNGKey, keys_like, make_key

if TYPE_CHECKING:
    from flax import nnx

__all__ = ["Network", "from_nnx"]

REMEDY = (
    "from_nnx sets the mode by the module's train() and eval(), which set 'deterministic' and "
    "'use_running_average' of its layers"
)


class Network(NamedTuple):
    """A neural network as a pair of pure functions, for one player of a GAN game.

    Both functions work under ``jit``, ``vmap``, ``grad`` and ``scan``. Write them yourself, or
    convert a flax module with `from_nnx` or `from_linen`.

    Attributes:
      init: ``init(key) -> (params, state)``, nested dicts of arrays with string keys. The optimizer
        trains ``params``. ``state`` holds all else that training changes (BatchNorm statistics,
        dropout's random streams), or is ``()``.
      apply: ``apply(params, state, inputs, *, train=True) -> (outputs, state)``. ``train=False``
        evaluates (BatchNorm uses running statistics, dropout is off) and returns ``state``
        unchanged. In a conditional GAN it is
        ``apply(params, state, inputs, labels, *, train=True)`` with classes ``int[B]``.

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
    """Converts a flax nnx module into a `Network`.

    ``nnx.Param`` variables become the params, all other variables the state. Each application first
    calls the module's ``train()`` or ``eval()``; sown values are dropped. Dropout's random streams
    are state, as raw ``uint32`` key data. The same params, state and inputs draw the same mask, and
    each training application advances the stream. The first application traces both modes: with
    BatchNorm, dropout or a state that training changes, they must differ.

    Args:
      factory: builds the module from its random streams, for example
        ``lambda rngs: MyModule(64, rngs=rngs)``. It is called once here on abstract values and once
        in every ``init``, and must build the same structure each time.

    Returns:
      The network. Its ``apply`` calls the module with ``inputs``, and with ``labels`` if given.

    Raises:
      TypeError: if ``factory`` is a module, or returns something other than a module.
      ValueError: from ``init``, for a module with random streams and a key of another
        implementation than the default; from ``apply``, if a module with modes computes the same in
        both.

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
    from flax import nnx  # slow to import

    if isinstance(factory, nnx.Module):
        raise TypeError(
            f"from_nnx expected a function that builds the module: got a "
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
    check_once = _mode_check(abstract, state_template, graphdef)

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
        params: ArrayTree, state: ArrayTree, *inputs: Any, train: bool = True
    ) -> tuple[Any, ArrayTree]:
        parts = _typed(params_template, params), _typed(state_template, state)
        check_once(*parts, inputs)
        new_state, outputs = _run(graphdef, *parts, inputs, train=train)
        return outputs, (_plain(new_state) or ()) if train else state

    return Network(init, apply)


def _run(
    graphdef: Any, params: Any, state: Any, inputs: tuple[Any, ...], *, train: bool, **options: Any
) -> tuple[Any, Any]:
    """New state and outputs of one application of an nnx module."""
    from flax import nnx

    module = nnx.merge(graphdef, nnx.State(params), nnx.State(state), copy=True)
    (module.train if train else module.eval)()
    outputs = module(*inputs, **options)
    _, _, _, new_state = nnx.split(module, nnx.Param, nnx.Intermediate, ...)
    return nnx.to_pure_dict(new_state), outputs


def _mode_check(module: nnx.Module, state: Any, graphdef: Any) -> Callable[[Any, Any, Any], None]:
    """Makes a check of ``(params, state, inputs)``: a module with modes must not ignore them."""
    from flax import nnx

    kinds = (nnx.BatchNorm, nnx.Dropout)
    layers = {
        type(layer).__name__
        for _, layer in nnx.iter_graph(module)
        if isinstance(layer, kinds) and getattr(layer, "rate", 1)
    }
    checked = not (layers or jax.tree.leaves(state))

    def check(params: Any, state: Any, inputs: Any) -> None:
        nonlocal checked
        if checked:
            return
        params, state, inputs = jax.tree.map(_abstract, (params, state, inputs))

        def traced(train: bool, **options: Any) -> Any:
            def application(state: Any, params: Any, inputs: Any) -> tuple[Any, Any]:
                return _run(graphdef, params, state, inputs, train=train, **options)

            return trace(application, state, params, inputs)

        def switches_mode(options: dict[str, Any]) -> bool:
            try:
                return traced(True, **options).changes_state != training.changes_state
            except Exception:  # the option is not a mode
                return False

        def switched() -> list[str]:
            options = boolean_switches(call_defaults(type(module)))
            return [f"{name!r}" for name, value in options if switches_mode({name: value})]

        training, evaluation = traced(True), traced(False)
        check_modes(type(module).__name__, (training, evaluation), layers, ", ".join(state),
                    switched, REMEDY)  # fmt: skip
        checked = True

    return check


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.ShapeDtypeStruct(jnp.shape(leaf), dtype)


def _plain(tree: Any) -> Any:
    """Random keys as raw data and list positions as strings, so that any format can store them."""
    if isinstance(tree, dict):
        return {str(k): _plain(v) for k, v in tree.items()}
    return jax.random.key_data(tree) if _is_key(tree) else jnp.asarray(tree)


def _typed(template: Any, tree: Any) -> Any:
    """Inverse of `_plain`; ``template`` has the module's abstract variables."""
    if isinstance(template, dict):
        return {k: _typed(v, tree[str(k)]) for k, v in template.items()}
    # jnp, because flax updates NumPy arrays in place, which fails under tracing.
    return keys_like(tree, template) if _is_key(template) else jnp.asarray(tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key)
