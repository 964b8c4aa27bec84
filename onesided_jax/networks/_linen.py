"""`from_linen`: converts a flax linen module into a `Network`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from onesided_jax.networks._modes import boolean_switches, call_defaults, check_modes, trace
from onesided_jax.networks.network import Network
from onesided_jax.players import ArrayTree, PRNGKey, make_key

if TYPE_CHECKING:
    from flax import linen

__all__ = ["from_linen"]

REMEDY = "from_linen passes the mode as the argument 'train' of __call__, True in training"


def from_linen(
    module: linen.Module, example_input: ArrayTree, example_labels: ArrayTree | None = None
) -> Network:
    """Converts a flax linen module into a `Network`.

    The collection ``params`` becomes the params, and all other collections (``batch_stats``, ...)
    the state. If ``__call__`` has an argument ``train``, it gets the mode. A module with BatchNorm,
    dropout or a state that training changes must have this argument. To check this, both modes are
    traced and must differ.

    Args:
      module: the unbound module; its ``__call__`` takes ``inputs`` first.
      example_input: arrays or `jax.ShapeDtypeStruct` with the shapes and dtypes of the inputs; the
        values are not used.
      example_labels: the same for the labels ``int[B]`` of a conditional GAN, the second argument
        of ``__call__``.

    Returns:
      The network.

    Raises:
      ValueError: if the module draws random numbers when applied (dropout; write it in nnx, because
        linen keeps random streams outside the variables); if a collection changes shape when
        applied (``sow``), so that a loop cannot carry it; if a module with modes computes the same
        in both; or if ``__call__`` requires more than ``inputs`` and ``train``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen
      >>> network = from_linen(linen.Dense(2), jnp.ones((1, 3)))
      >>> params, state = network.init(jax.random.key(0))
      >>> jax.tree.map(jnp.shape, params), state
      ({'bias': (2,), 'kernel': (3, 2)}, ())
    """
    parameters = inspect.signature(type(module).__call__).parameters
    examples = (example_input,) if example_labels is None else (example_input, example_labels)
    _check_required(module, parameters, len(examples))
    takes_train = "train" in parameters
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), a.dtype), examples)

    def mode(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def init(key: PRNGKey) -> tuple[ArrayTree, ArrayTree]:
        inputs = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), example)
        variables = dict(module.init(key, *inputs, **mode(True)))
        return variables.pop("params", {}), variables or ()

    def apply(
        params: ArrayTree, state: Any, *inputs: Any, train: bool = True
    ) -> tuple[Any, ArrayTree]:
        outputs, changed = _run(module, params, state, inputs, mode(train))
        return outputs, changed if train else state

    params, state = _check_state(module, init, apply, example)
    _check_modes(module, params, state, example, mode)
    return Network(init, apply)


def _run(
    module: linen.Module, params: ArrayTree, state: Any, inputs: Any, options: dict[str, Any]
) -> tuple[Any, Any]:
    """Outputs and new state of one application."""
    variables: dict[str, Any] = {"params": params, **(state or {})}
    mutable = [name for name in variables if name != "params"]
    outputs, changed = module.apply(variables, *inputs, mutable=mutable, **options)
    return outputs, dict(changed) or ()


def _check_required(module: linen.Module, parameters: Any, inputs: int) -> None:
    others = list(parameters.values())[1 + inputs :]
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for other in others:
        if other.name != "train" and other.default is other.empty and other.kind not in optional:
            raise ValueError(
                f"{type(module).__name__}'s __call__ needs {other.name!r}: expected inputs and "
                f"arguments with defaults. {REMEDY}, not by {other.name!r}."
            )


def _check_state(module: linen.Module, init: Any, apply: Any, example: Any) -> tuple[Any, Any]:
    """The abstract params and state; ``ValueError`` if a loop cannot carry the state."""
    from flax import errors

    name = type(module).__name__

    def states(key: PRNGKey, inputs: Any) -> tuple[Any, ...]:
        params, state = init(key)
        return params, state, apply(params, state, *inputs)[1]

    try:
        params, state, after = jax.eval_shape(states, make_key(0), example)
    except errors.InvalidRngError as error:
        raise ValueError(
            f"{name} draws random numbers when applied (dropout?); a linen module cannot store "
            "their state, so write it as an nnx module and use from_nnx"
        ) from error
    shapes, new = ({k: _shapes(v) for k, v in dict(tree).items()} for tree in (state, after))
    growing = sorted(k for k in shapes | new if shapes.get(k) != new.get(k))
    if growing:
        raise ValueError(
            f"{name} has collections that change shape when it is applied, "
            f"{growing} (sow?): expected constant shapes, because a loop carries the state"
        )
    return params, state


def _check_modes(module: linen.Module, params: Any, state: Any, example: Any, mode: Any) -> None:
    from flax import errors, linen

    layers: set[str] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, linen.BatchNorm) or getattr(layer, "dropout_rate", 0):
            layers.add(type(layer).__name__)
        elif isinstance(layer, linen.Dropout) and layer.rate:
            layers.add("Dropout")
        return call(*args, **kwargs)

    def traced(module: linen.Module, options: dict[str, Any]) -> Any:
        return trace(
            lambda state, params, inputs: _run(module, params, state, inputs, options)[::-1],
            state,
            params,
            example,
        )

    def switches_mode(options: dict[str, Any], fields: dict[str, Any]) -> bool:
        try:
            return traced(module.clone(**fields), options).changes_state != training.changes_state
        except errors.InvalidRngError:
            return True
        except Exception:  # the option is not a mode
            return False

    def switched() -> list[str]:
        options = boolean_switches(call_defaults(type(module)))
        names = [f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name")]
        fields = boolean_switches({name: getattr(module, name) for name in names})
        return [
            *(f"{k!r}" for k, v in options if switches_mode({**mode(True), k: v}, {})),
            *(f"the field {k!r}" for k, v in fields if switches_mode(mode(True), {k: v})),
        ]

    training = traced(module, mode(True))
    with linen.intercept_methods(note):
        evaluation = traced(module, mode(False))
    check_modes(type(module).__name__, (training, evaluation), layers, ", ".join(state),
                switched, REMEDY)  # fmt: skip


def _shapes(tree: Any) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in leaves]
