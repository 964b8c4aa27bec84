"""Checks whether a discriminator couples the samples of a minibatch.

Follows the minibatch's rows through the traced program; nothing is computed or compiled. A value is
``None`` (independent of the minibatch), `Rows` (an axis whose slice ``i`` depends on sample ``i``
only) or `MIXED`. An operation without a rule counts as mixing, so an error can only report coupling
where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

__all__ = ["couples_samples"]


class Rows(NamedTuple):
    """The samples' axis: index ``j`` along it belongs to sample ``(j // after) % n``.

    Attributes:
      axis: of the value.
      before: the axis has size ``before * n * after``, because neighbours may be merged into it.
      after: see ``before``.
    """

    axis: int
    before: int = 1
    after: int = 1


MIXED = "mixed"
Place = Rows | str | None


def couples_samples(network: Any, params: Any, state: Any, *inputs: Any) -> bool:
    """Whether an output of a network may depend on samples of other rows.

    Args:
      network: the network, applied in training mode.
      params: abstract params.
      state: the network's state.
      *inputs: abstract, ``[B, ...]``: samples, and labels if there are classes.

    Returns:
      ``False`` only if every output depends on the sample of its own row only. ``True`` also for a
      network that cannot be traced, or whose program has an operation without a rule.
    """

    def outputs(params, *inputs):
        return network.apply(params, state, *inputs, train=True)[0]

    try:
        jaxpr = jax.make_jaxpr(outputs)(params, *inputs).jaxpr
    except Exception:  # a network for one batch size, which separate passes keep
        return True
    places = [*[None] * len(jax.tree.leaves(params)), *[Rows(0)] * len(inputs)]
    return any(place not in (None, Rows(0)) for place in _follow(jaxpr, places, inputs[0].shape[0]))


def _follow(jaxpr: Any, places: Sequence[Place], n: int) -> list[Place]:
    """The places of a jaxpr's outputs, given those of its inputs."""
    known: dict[Any, Place] = dict(zip(jaxpr.invars, places, strict=True))

    def read(atom: Any) -> Place:
        return None if hasattr(atom, "val") else known.get(atom)

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results = [None] * len(equation.outvars)
        if any(operands):
            try:
                results = _apply(equation, operands, n)
            except _MixedError:
                results = [MIXED] * len(equation.outvars)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


class _MixedError(Exception):
    """An operation that may mix samples."""


def _apply(equation: Any, operands: list[Place], n: int) -> list[Place]:
    name = equation.primitive.name
    if name in _CONTROL:
        return _CONTROL[name](equation.params, operands, n)
    if name in _CALLS:
        inner = next(equation.params[key] for key in _BODIES if key in equation.params)
        return _follow(getattr(inner, "jaxpr", inner), operands, n)
    if name == "optimization_barrier":
        return operands
    rule = _common_place if name in _ELEMENTWISE else _RULES.get(name)
    if rule is None or MIXED in operands:
        raise _MixedError
    return [rule(equation, operands, n)] * len(equation.outvars)


def _check(condition: Any) -> None:
    if not condition:
        raise _MixedError


def _common(operands: Sequence[Place]) -> Any:
    """The common place of all operands that depend on the samples."""
    places = {place for place in operands if place is not None}
    _check(len(places) == 1)
    return places.pop()


def _only_first(operands: Sequence[Place]) -> Any:
    _check(operands[0] is not None and not any(operands[1:]))
    return operands[0]


def _join(a: Place, b: Place) -> Place:
    return a if b is None or a == b else b if a is None else MIXED


def _common_place(equation: Any, operands: list[Place], n: int) -> Place:
    return _common(operands)


def _along(axes: Callable[[Any], Any]) -> Callable[..., Place]:
    """Rule of an operation along some axes that keeps all axes."""

    def rule(equation: Any, operands: list[Place], n: int) -> Place:
        rows = _common(operands)
        named = axes(equation.params)
        _check(rows.axis not in (named if isinstance(named, tuple) else (named,)))
        return rows

    return rule


def _without(axes: Callable[[Any], Any]) -> Callable[..., Place]:
    """Rule of an operation that removes some axes."""

    def rule(equation: Any, operands: list[Place], n: int) -> Place:
        rows, gone = _common(operands), axes(equation.params)
        _check(rows.axis not in gone)
        return rows._replace(axis=rows.axis - sum(axis < rows.axis for axis in gone))

    return rule


def _whole(equation: Any, operands: list[Place], n: int) -> Place:
    """A slice of, or a window over, the other axes; the samples' axis stays whole."""
    rows, p = _only_first(operands), equation.params
    size = equation.invars[0].aval.shape[rows.axis]
    _check(equation.outvars[0].aval.shape[rows.axis] == size)
    for key in _STEPS:
        _check(p.get(key) is None or p[key][rows.axis] == 1)
    for key in ("padding", "padding_config"):
        _check(p.get(key) is None or not any(p[key][rows.axis]))
    return rows


def _broadcast(equation: Any, operands: list[Place], n: int) -> Place:
    rows = _only_first(operands)
    return rows._replace(axis=equation.params["broadcast_dimensions"][rows.axis])


def _transpose(equation: Any, operands: list[Place], n: int) -> Place:
    rows = _only_first(operands)
    return rows._replace(axis=equation.params["permutation"].index(rows.axis))


def _reshape(equation: Any, operands: list[Place], n: int) -> Place:
    """The new axis that contains the samples' axis, if both split at the same places."""
    rows = _only_first(operands)
    _check(equation.params.get("dimensions") is None)
    outer = math.prod(equation.invars[0].aval.shape[: rows.axis]) * rows.before
    shape = equation.outvars[0].aval.shape
    for axis, size in enumerate(shape):
        prefix = math.prod(shape[:axis])
        if prefix and outer % prefix == 0 and size and size % (outer // prefix * n) == 0:
            before = outer // prefix
            return Rows(axis, before, size // (before * n))
    raise _MixedError


def _dot(equation: Any, operands: list[Place], n: int) -> Place:
    contract, batch = equation.params["dimension_numbers"]
    ranks = [len(atom.aval.shape) for atom in equation.invars]
    places = set()
    for side, rows in enumerate(operands):
        if rows is None:
            continue
        assert isinstance(rows, Rows)
        _check(rows.axis not in contract[side])
        if rows.axis in batch[side]:
            axis = batch[side].index(rows.axis)
        else:
            taken = {*contract[side], *batch[side]}
            free = [axis for axis in range(ranks[side]) if axis not in taken]
            axis = len(batch[0]) + free.index(rows.axis)
            axis += side * (ranks[0] - len(contract[0]) - len(batch[0]))
        places.add(rows._replace(axis=axis))
    return _common(list(places))


def _last(equation: Any, operands: list[Place], n: int) -> Place:
    """An operation along the last ``len(fft_lengths)`` axes."""
    rows = _common(operands)
    axes = len(equation.params.get("fft_lengths", (1,)))
    _check(rows.axis < len(equation.invars[0].aval.shape) - axes)
    return rows


def _conv(equation: Any, operands: list[Place], n: int) -> Place:
    rows, p = _only_first(operands), equation.params
    numbers = p["dimension_numbers"]
    _check(rows.axis == numbers.lhs_spec[0] and p["batch_group_count"] == 1)
    return rows._replace(axis=numbers.out_spec[0])


def _gather(equation: Any, operands: list[Place], n: int) -> Place:
    rows, p = _only_first(operands), equation.params
    numbers = p["dimension_numbers"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    _check(rows.axis not in gone | {*numbers.start_index_map})
    _check(p["slice_sizes"][rows.axis] == equation.invars[0].aval.shape[rows.axis])
    kept = [axis for axis in range(len(p["slice_sizes"])) if axis not in gone]
    return rows._replace(axis=numbers.offset_dims[kept.index(rows.axis)])


def _cond(params: Any, operands: list[Place], n: int) -> list[Place]:
    _check(operands[0] is None)
    outcomes = [_follow(branch.jaxpr, operands[1:], n) for branch in params["branches"]]
    results = outcomes[0]
    for outcome in outcomes[1:]:
        results = [_join(*pair) for pair in zip(results, outcome, strict=True)]
    return results


def _loop(body: Callable[[list[Place]], list[Place]], carry: list[Place]) -> list[Place]:
    """The places of a loop's carry after any number of iterations."""
    while True:
        after = [_join(*pair) for pair in zip(carry, body(carry), strict=True)]
        if after == carry:
            return carry
        carry = after


def _scan(params: Any, operands: list[Place], n: int) -> list[Place]:
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    constants, carry, slices = operands[:first], operands[first:last], operands[last:]
    slices = [_shift(place, -1) for place in slices]

    def body(carry: list[Place]) -> list[Place]:
        return _follow(params["jaxpr"].jaxpr, [*constants, *carry, *slices], n)

    count = params["num_carry"]
    carry = _loop(lambda carry: body(carry)[:count], carry)
    return [*carry, *(_shift(place, 1) for place in body(carry)[count:])]


def _shift(place: Place, by: int) -> Place:
    if not isinstance(place, Rows):
        return place
    return MIXED if place.axis + by < 0 else place._replace(axis=place.axis + by)


def _while(params: Any, operands: list[Place], n: int) -> list[Place]:
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    constants, carry = operands[tests : tests + bodies], operands[tests + bodies :]
    carry = _loop(lambda carry: _follow(params["body_jaxpr"].jaxpr, [*constants, *carry], n), carry)
    test = _follow(params["cond_jaxpr"].jaxpr, [*operands[:tests], *carry], n)
    _check(not any(test))
    return carry


_ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp conj
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1
    floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul name ne neg
    nextafter not or pow real reduce_precision rem round rsqrt select_n sharding_constraint sign
    sin sinh sqrt square stop_gradient sub tan tanh xor""".split()  # noqa: SIM905
)
_REDUCTIONS = ("sum", "max", "min", "prod", "and", "or", "xor")
_RULES: dict[str, Callable[..., Place]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _along(lambda p: p["dimension"]),
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "dynamic_slice": _whole,
    "fft": _last,
    "gather": _gather,
    "reshape": _reshape,
    "rev": _along(lambda p: tuple(p["dimensions"])),
    "sort": _along(lambda p: p["dimension"]),
    "split": _along(lambda p: p["axis"]),
    "squeeze": _without(lambda p: p["dimensions"]),
    "transpose": _transpose,
    **dict.fromkeys(("pad", "slice"), _whole),
    **{f"reduce_{name}": _without(lambda p: p["axes"]) for name in _REDUCTIONS},
    **{f"arg{name}": _without(lambda p: p["axes"]) for name in ("max", "min")},
    **{f"cum{name}": _along(lambda p: p["axis"]) for name in ("sum", "prod", "max", "min")},
    **{f"reduce_window_{name}": _whole for name in ("sum", "max", "min")},
}
_CONTROL = {"cond": _cond, "scan": _scan, "while": _while}
_CALLS = frozenset(
    """jit pjit closed_call core_call checkpoint remat remat2 custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr""".split()  # noqa: SIM905
)
_STEPS = ("strides", "window_dimensions", "window_strides", "window_dilation", "base_dilation")
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")
