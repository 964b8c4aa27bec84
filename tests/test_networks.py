"""Convolutions against flax and XLA, modules as pure functions, and the GANs made of them."""

from __future__ import annotations

import functools

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick as jit
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from onesided_jax import networks
from onesided_jax.networks import (
    Conv,
    ConvTranspose,
    conv,
    conv_transpose,
    dcgan,
    from_linen,
    from_nnx,
    mlp,
    sn_resnet,
)
from onesided_jax.networks.spectral import spectral_norm, spectral_normalize

KEY = jax.random.key(0)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # of a sum of ~100 products of order 1


def reference_conv(x, kernel, strides, padding):
    """Four loops in NumPy float64, straight from the definition; explicit padding only."""
    x = np.asarray(x, np.float64)
    for axis, pads in enumerate(padding, start=1):
        low, high = (max(p, 0) for p in pads)
        x = np.pad(x, [(low, high) if a == axis else (0, 0) for a in range(4)])
        crop = slice(max(-pads[0], 0), x.shape[axis] - max(-pads[1], 0))
        x = x[(slice(None),) * axis + (crop,)]
    kh, kw, _, features = kernel.shape
    rows = (x.shape[1] - kh) // strides[0] + 1
    columns = (x.shape[2] - kw) // strides[1] + 1
    out = np.zeros((len(x), rows, columns, features))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * strides[0] :, j * strides[1] :][:, :kh, :kw]
            out[:, i, j] = np.tensordot(window, np.asarray(kernel, np.float64), 3)
    return out


def native_conv(x, kernel, strides, padding):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


PAIRS = {
    "conv": (functools.partial(conv, form="gemm"), native_conv),
    "conv_transpose": (functools.partial(conv_transpose, form="gemm"), lax.conv_transpose),
}


def arrays(shape, kernel_shape, dtype="float32"):
    generator = np.random.default_rng(0)
    x = generator.normal(size=shape).astype(dtype)
    return x, generator.normal(size=kernel_shape).astype(dtype)


def close(actual, expected, dtype="float32"):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_close(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)


def reference_conv_transpose(x, kernel, strides, padding):
    """Zeros between the pixels, then `reference_conv`."""
    (b, h, w, c), (sh, sw) = x.shape, strides
    dilated = np.zeros((b, (h - 1) * sh + 1, (w - 1) * sw + 1, c))
    dilated[:, ::sh, ::sw] = x
    return reference_conv(dilated, kernel, (1, 1), padding)


REFERENCES = {"conv": reference_conv, "conv_transpose": reference_conv_transpose}


def test_the_adjoint_of_conv_is_conv_transpose():
    """<conv(x), y> = <x, conv_transpose(y)> with the kernel flipped and its channels swapped."""
    x, kernel = arrays((2, 8, 6, 3), (4, 4, 3, 5))
    y, _ = arrays((2, 4, 3, 5), ())

    def both(x, kernel, y):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        back = conv_transpose(y, flipped, 2, "SAME", form="gemm")
        return jnp.vdot(conv(x, kernel, 2, "SAME", form="gemm"), y), jnp.vdot(x, back)

    np.testing.assert_allclose(*jit(both)(x, kernel, y), rtol=1e-5)


sizes = st.integers(1, 9)
windows = st.integers(1, 5)
strides = st.integers(1, 4)
margin = st.tuples(st.integers(-1, 3), st.integers(-1, 3))


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    size=st.tuples(sizes, sizes),
    window=st.tuples(windows, windows),
    stride=st.tuples(strides, strides),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(margin, margin),
)
def test_gemm_is_the_definition_for_any_geometry(name, size, window, stride, channels, padding):
    x, kernel = arrays((2, *size, channels[0]), (*window, *channels))
    spread = stride if name == "conv_transpose" else (1, 1)
    inner = [(n - 1) * s + 1 for n, s in zip(size, spread)]
    assume(all(n + min(p) >= 1 for n, p in zip(inner, padding)))
    assume(all(n + sum(p) >= k for n, p, k in zip(inner, padding, window)))
    expected = REFERENCES[name](x, kernel, stride, padding)
    ours = jit(PAIRS[name][0], static_argnums=(2, 3))(x, kernel, stride, padding)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("name", PAIRS)
def test_named_padding_is_native(name, padding):
    """Kernels larger than the stride, equal and smaller, dividing and not; odd sizes; no output."""
    cases = [(8, 4, 2), (7, 3, 2), (5, 2, 2), (7, 1, 3), (2, 3, 1), (1, 5, 4), (4, 2, 3)]
    data = [arrays((1, n, n + 1, 2), (k, k, 2, 1)) for n, k, _ in cases]

    def run(form, data):
        function = {"conv": conv, "conv_transpose": conv_transpose}[name]
        return [function(*xs, s, padding, form=form) for xs, (_, _, s) in zip(data, cases)]

    def native(data):
        return [PAIRS[name][1](*xs, (s, s), padding) for xs, (_, _, s) in zip(data, cases)]

    expected = jit(native)(data)
    for form in ("gemm", "native"):
        close(jit(functools.partial(run, form))(data), expected)


GEOMETRIES = [
    ((2, 8, 8, 3), (4, 4, 3, 5), (2, 2), "SAME"),  # DCGAN's
    ((2, 7, 5, 2), (3, 5, 2, 3), (2, 3), ((0, 2), (3, 1))),  # stride does not divide, odd sizes
    ((2, 4, 3, 9), (4, 4, 9, 2), (2, 2), "SAME"),  # many channels in: overlap-add
]


@pytest.mark.parametrize(
    ("geometry", "dtype"),
    [*((geometry, "float64") for geometry in GEOMETRIES), (GEOMETRIES[0], "float32")],
    ids=["even", "odd", "wide", "float32"],
)
@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_are_native(name, geometry, dtype):
    """The value, both gradients, a jvp, and reverse over reverse, of a nonlinear function."""
    shape, kernel_shape, stride, padding = geometry

    def derivatives(function, x, kernel, tangents):
        def value(x, kernel):
            return jnp.sin(function(x, kernel, stride, padding)).sum()

        def inner(x, kernel):
            gradients = jax.grad(value, (0, 1))(x, kernel)
            return sum(jnp.vdot(g, t) for g, t in zip(gradients, tangents))

        return (
            function(x, kernel, stride, padding),
            jax.grad(value, (0, 1))(x, kernel),
            jax.jvp(value, (x, kernel), tangents),
            jax.grad(inner, (0, 1))(x, kernel),
        )

    with jax.enable_x64(dtype == "float64"):
        x, kernel = arrays(shape, kernel_shape, dtype)
        tangents = (np.cos(x), np.cos(kernel))
        ours, native = (
            jit(functools.partial(derivatives, f))(x, kernel, tangents) for f in PAIRS[name]
        )
        close(ours, native, dtype)


@pytest.mark.parametrize("name", PAIRS)
def test_vmap_over_runs_is_a_loop(name):
    function = PAIRS[name][0]
    x, kernel = arrays((3, 2, 7, 7, 4), (3, 4, 4, 4, 5))

    def gradients(x, kernel):
        return jax.grad(lambda x, k: (function(x, k, 2, "SAME") ** 2).sum(), (0, 1))(x, kernel)

    together = jit(jax.vmap(gradients))(x, kernel)
    single = jit(gradients)
    apart = [single(x[i], kernel[i]) for i in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
    chex.assert_trees_all_close(together, stacked, rtol=1e-5, atol=1e-4)


def test_integer_padding_reads_as_in_flax():
    x, kernel = arrays((1, 5, 5, 1), (3, 3, 1, 1))
    run = jit(conv, static_argnums=(2, 3))
    np.testing.assert_array_equal(run(x, kernel, 1, (1, 2)), run(x, kernel, 1, ((1, 1), (2, 2))))
    np.testing.assert_array_equal(run(x, kernel, 1, 1), run(x, kernel, 1, "SAME"))


@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_integers_may_be_numpys(function):
    x, kernel = arrays((1, 5, 5, 1), (3, 3, 1, 1))
    for one in (np.int64(2), np.array([2, 2])):
        found = function(x, kernel, one, (np.int32(1), (np.int32(1), 1)))
        np.testing.assert_array_equal(found, function(x, kernel, 2, 1))
    np.testing.assert_array_equal(function(x, kernel, 2, np.int64(1)), found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.ones((5, 5, 1))}, r"expected images \[B, H, W, C\].*float32\[5, 5, 1\]"),
        ({"x": jnp.ones((1, 5, 5, 2))}, "expected images"),
        ({"x": jnp.ones((1, 5, 5, 1), jnp.bfloat16)}, "of one dtype; got bfloat16"),
        ({"strides": 0}, "strides must be one or two positive integers; got 0"),
        ({"strides": (2, 2, 2)}, r"got \(2, 2, 2\)"),
        ({"strides": None}, "strides must be one or two positive integers; got None"),
        ({"strides": (2, 1.5)}, r"one or two positive integers; got \(2, 1.5\)"),
        ({"padding": "same"}, "padding must be 'SAME', 'VALID'.*got 'same'"),
        ({"padding": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"padding": ((0.5, 1), 1)}, r"got \(\(0.5, 1\), 1\)"),
        ({"form": "fft"}, "one of 'auto', 'gemm', 'native'; got 'fft'"),
    ],
)
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_bad_arguments_say_what_was_expected(function, change, message):
    arguments = {"x": jnp.ones((1, 5, 5, 1)), "kernel": jnp.ones((3, 3, 1, 1)), **change}
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.parametrize(
    ("platform", "expected"), [("cpu", "gemm"), ("cuda", "native"), ("tpu", "native")]
)
@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_one_place_chooses_for_the_platform_compiled_for(layer, platform, expected):
    def text(form):
        module = layer(2, 3, (3, 3), form=form, rngs=nnx.Rngs(0))
        traced = jit(lambda x: module(x)).trace(jnp.ones((1, 4, 4, 2)))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    for form, chosen in (("auto", expected), ("gemm", "gemm"), ("native", "native")):
        assert ("stablehlo.convolution" in text(form)) == (chosen == "native")
        assert ("stablehlo.dot_general" in text(form)) == (chosen == "gemm")


LAYERS = [
    (Conv, nnx.Conv, {"kernel_size": (4, 4), "strides": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "strides": None, "padding": 1, "use_bias": False}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "padding": "CIRCULAR"}),
    (Conv, nnx.Conv, {"kernel_size": (4, 4), "padding": "SAME_LOWER"}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "padding": "same"}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "kernel_dilation": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "input_dilation": 2, "padding": 1}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "feature_group_count": 2}),
    (Conv, nnx.Conv, {"kernel_size": (3, 3), "preferred_element_type": jnp.float32}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (4, 4), "strides": 2}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (5, 3), "strides": (3, 1), "padding": 2}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "padding": ((1, 0), 2)}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (2, 2), "use_bias": False}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (4, 4), "padding": "CIRCULAR"}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "transpose_kernel": True}),
    (ConvTranspose, nnx.ConvTranspose, {"kernel_size": (3, 3), "kernel_dilation": (2, 2)}),
]


def waves(key, shape, dtype=jnp.float32):
    """An initialiser that compiles at once."""
    return jnp.sin(jnp.arange(np.prod(shape), dtype=dtype)).reshape(shape)


@pytest.mark.parametrize(("ours", "flax", "options"), LAYERS)
def test_layers_are_flax_layers(ours, flax, options):
    """The same parameters and numbers, with one batch axis, two or none."""
    options = {"bias_init": waves, "kernel_init": waves, **options}

    def run(layer, x, **extra):
        layer = layer(4, 6, **options, **extra, rngs=nnx.Rngs(3))
        return nnx.to_pure_dict(nnx.state(layer)), layer(x[:, 0]), layer(x), layer(x[0, 0])

    x, _ = arrays((2, 3, 7, 6, 4), ())
    actual = jit(functools.partial(run, ours, form="gemm"))(x)
    close(actual, jit(functools.partial(run, flax))(x))


@pytest.mark.parametrize(
    ("ours", "flax", "options"),
    [(Conv, nnx.Conv, {}), (ConvTranspose, nnx.ConvTranspose, {"transpose_kernel": True})],
)
def test_layers_initialise_as_flax_does(ours, flax, options):
    """Bit for bit, although ours draws the kernel as a matrix."""

    @jit
    def parameters(key):
        layers = [m(4, 6, (3, 2), **options, rngs=nnx.Rngs(key)) for m in (ours, flax)]
        return [nnx.to_pure_dict(nnx.state(layer)) for layer in layers]

    actual, expected = parameters(KEY)
    chex.assert_trees_all_equal(actual, expected)
    assert float(expected["kernel"].std()) > 0.1


@pytest.mark.parametrize(("ours", "flax"), [(Conv, nnx.Conv), (ConvTranspose, nnx.ConvTranspose)])
def test_layers_promote_dtypes_as_flax_does(ours, flax):
    options = {"kernel_size": (3, 3), "dtype": jnp.bfloat16, "kernel_init": waves}

    @jit
    def run(x):
        options["rngs"] = nnx.Rngs(0)
        return ours(2, 3, **options, form="gemm")(x), flax(2, 3, **options)(x)

    actual, expected = run(np.ones((2, 5, 5, 2), np.float32))
    assert actual.dtype == expected.dtype == jnp.bfloat16
    np.testing.assert_allclose(*(np.float32(a) for a in (actual, expected)), atol=0.05)


class Everything(nnx.Module):
    """BatchNorm, dropout, and a list, whose positions are integer keys inside flax."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.dropout(self.norm(x))


EVERYTHING = from_nnx(Everything)
apply_everything = jit(EVERYTHING.apply, static_argnames="train")


@pytest.fixture(scope="module")
def everything():
    return jit(EVERYTHING.init)(jax.random.key(7))


def strings_and_arrays(tree):
    if isinstance(tree, dict):
        return all(isinstance(k, str) and strings_and_arrays(v) for k, v in tree.items())
    return isinstance(tree, jax.Array) and not jnp.issubdtype(tree.dtype, jax.dtypes.prng_key)


def test_from_nnx_is_the_module(everything):
    params, state = everything
    assert strings_and_arrays(params)
    assert strings_and_arrays(state)
    assert set(params["layers"]) == {"0", "1"}
    assert set(state) == {"norm", "dropout"}
    x, _ = arrays((16, 3), ())
    x += 5

    @jit
    def flax(key, x):
        module = Everything(nnx.Rngs(key))
        trained = [module(x), module(x)]  # another mask, and moved statistics
        mean = module.norm.mean[...]
        module.eval()
        return trained, mean, module(x)

    trained, mean, evaluated = flax(jax.random.key(7), x)
    for expected in trained:
        outputs, state = apply_everything(params, state, x)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert (np.asarray(trained[0] == 0) != np.asarray(trained[1] == 0)).any()
    np.testing.assert_allclose(state["norm"]["mean"], mean, rtol=1e-5)
    outputs, after = apply_everything(params, state, x, train=False)
    np.testing.assert_allclose(outputs, evaluated, atol=1e-5)
    chex.assert_trees_all_equal(after, state)


def test_train_is_an_argument_not_a_property_of_the_module(everything):
    def evaluating(rngs):
        module = Everything(rngs)
        module.eval()
        return module

    x, _ = arrays((16, 3), ())
    network = from_nnx(evaluating)
    outputs, state = jit(network.apply)(*everything, x)
    expected, expected_state = apply_everything(*everything, x)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    chex.assert_trees_all_close(state, expected_state, rtol=1e-6)
    assert not np.array_equal(state["norm"]["mean"], everything[1]["norm"]["mean"])


def test_from_nnx_is_pure(everything):
    """Also outside jit, where flax modules change in place."""
    before = jax.tree.map(np.array, everything)
    x, _ = arrays((16, 3), ())
    first, changed = EVERYTHING.apply(*everything, x)
    second, _ = EVERYTHING.apply(*everything, x)
    np.testing.assert_array_equal(first, second)
    chex.assert_trees_all_equal(jax.tree.map(np.array, everything), before)
    assert not np.array_equal(changed["norm"]["mean"], everything[1]["norm"]["mean"])


def test_from_nnx_takes_numpy_arrays_and_leaves_them_alone(everything):
    """As a checkpoint may hold them; passed to a traced function, or closed over by one."""
    params, state = jax.tree.map(np.array, everything)
    x, _ = arrays((16, 3), ())
    expected = apply_everything(*everything, x)
    before = jax.tree.map(np.copy, state)
    close_trees(EVERYTHING.apply(params, state, x), expected)
    close_trees(jit(lambda x: EVERYTHING.apply(params, state, x))(x), expected)
    chex.assert_trees_all_equal(state, before)


def test_from_nnx_under_vmap_and_scan(everything):
    x, _ = arrays((3, 16, 3), ())
    keys = jax.random.split(KEY, 3)
    inits = jit(jax.vmap(EVERYTHING.init))(keys)
    single_init = jit(EVERYTHING.init)

    def train(players, x):
        def step(carry, _):
            params, state = carry

            def loss(params):
                outputs, new_state = EVERYTHING.apply(params, state, x)
                return (outputs**2).mean(), new_state

            gradient, state = jax.grad(loss, has_aux=True)(params)
            return (jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), state), None

        return lax.scan(step, players, length=3)[0]

    together = jit(jax.vmap(train))(inits, x)
    single = jit(train)
    for run in range(3):
        alone = single_init(keys[run])
        pick = functools.partial(jax.tree.map, lambda a, run=run: np.asarray(a)[run])
        chex.assert_trees_all_close(pick(inits), alone, rtol=1e-6)
        chex.assert_trees_all_close(pick(together), single(alone, x[run]), rtol=1e-4, atol=1e-5)


def test_from_nnx_without_state():
    network = from_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
    params, state = jit(network.init)(KEY)
    assert state == ()
    assert network.apply(params, state, jnp.ones((1, 3)))[1] == ()
    assert network.apply(params, state, jnp.ones((1, 3)), train=False)[1] == ()


def test_from_nnx_takes_raw_keys_and_refuses_other_streams():
    init = jit(EVERYTHING.init)
    chex.assert_trees_all_equal(init(jax.random.PRNGKey(7)), init(jax.random.key(7)))
    with pytest.raises(ValueError, match=r"random streams \(dropout\).*key<rbg>"):
        init(jax.random.key(7, impl="rbg"))


def test_from_nnx_refuses_what_is_not_a_factory():
    with pytest.raises(TypeError, match=r"got a Linear; write lambda rngs: Linear\(..., rngs=rngs"):
        from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"must return an nnx.Module; got a ShapeDtypeStruct"):
        from_nnx(lambda rngs: jax.random.normal(rngs.params(), (3,)))


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Dense(4)(x)
        return linen.BatchNorm(momentum=0.5, use_running_average=not train)(x)


def test_from_linen_batch_norm_is_state():
    module = Normalised()
    x = arrays((16, 3), ())[0] + 5
    network = from_linen(module, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    params, state = jit(network.init)(KEY)
    variables = jit(functools.partial(module.init, train=True))(KEY, x)
    chex.assert_trees_all_equal({"params": params, **state}, variables)

    expected, changed = module.apply(variables, x, train=True, mutable=["batch_stats"])
    outputs, after = jit(network.apply)(params, state, x)
    chex.assert_trees_all_close((outputs, after), (expected, changed), rtol=1e-5, atol=1e-6)
    mean = np.asarray(x @ params["Dense_0"]["kernel"]).mean(0)
    np.testing.assert_allclose(after["batch_stats"]["BatchNorm_0"]["mean"], mean / 2, rtol=1e-5)

    evaluated, unchanged = network.apply(params, after, x, train=False)
    np.testing.assert_allclose(
        evaluated, module.apply({"params": params, **after}, x, train=False), atol=1e-6
    )
    chex.assert_trees_all_equal(unchanged, after)


class AlwaysTraining(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=False)(x)


class IsTrain(linen.Module):
    @linen.compact
    def __call__(self, x, is_train=True):
        return linen.BatchNorm(use_running_average=not is_train)(x)


class Training(linen.Module):
    @linen.compact
    def __call__(self, x, training=False):
        return linen.BatchNorm(use_running_average=not training)(x)


class FieldTrain(linen.Module):
    train: bool = True

    @linen.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=not self.train)(x)


class DropoutTraining(linen.Module):
    @linen.compact
    def __call__(self, x, training=False):
        return linen.Dropout(0.5, deterministic=not training)(x)


class RunningAverage(linen.Module):
    @linen.compact
    def __call__(self, x, use_running_average=True):
        return linen.BatchNorm(use_running_average=use_running_average)(x)


WITHOUT_MODES = {
    AlwaysTraining: "training changes its state",
    IsTrain: "'is_train'",
    Training: "'training'",
    FieldTrain: "the field 'train'",
    DropoutTraining: "'training'",
    RunningAverage: "'use_running_average'",
}


@pytest.mark.parametrize("module", WITHOUT_MODES, ids=lambda module: module.__name__)
def test_from_linen_refuses_a_module_that_ignores_its_mode(module):
    message = rf"^{module.__name__} computes the same in .*{WITHOUT_MODES[module]}"
    with pytest.raises(ValueError, match=message):
        from_linen(module(), jnp.ones((4, 3)))


def test_from_linen_of_a_module_without_modes():
    x = arrays((16, 3), ())[0] + 5
    stateless = from_linen(linen.Dense(2), jnp.ones((1, 3)))
    params, state = jit(jax.vmap(stateless.init))(jax.random.split(KEY, 4))
    assert params["kernel"].shape == (4, 3, 2)
    assert state == ()
    outputs, state = jit(jax.vmap(stateless.apply, (0, None, None)))(params, (), x)
    assert outputs.shape == (4, 16, 2)
    assert state == ()


def test_from_linen_refuses_a_state_that_grows():
    class Sowing(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            self.sow("losses", "size", jnp.sum(inputs))
            return linen.Dense(2)(inputs)

    with pytest.raises(ValueError, match=r"Sowing has collections .*\['losses'\] \(sow\?\)"):
        from_linen(Sowing(), jnp.ones((1, 3)))


def test_from_linen_refuses_dropout():
    class Dropping(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool):
            return linen.Dropout(0.5, deterministic=not train)(x)

    with pytest.raises(ValueError, match="Dropping draws random numbers when applied"):
        from_linen(Dropping(), jnp.ones((1, 3)))


@pytest.mark.parametrize("conv", ["gemm", "native"])
@pytest.mark.parametrize(
    ("shape", "coarsest"), [((28, 28, 1), 7 * 7 * 8), ((32, 32, 3), 4 * 4 * 16)]
)
def test_dcgan_shapes(shape, coarsest, conv):
    generator, discriminator = dcgan(shape, latent_dim=5, width=4, conv=conv)
    (g, g_state), (d, d_state) = (jax.eval_shape(n.init, KEY) for n in (generator, discriminator))
    assert g_state == d_state == ()
    images, _ = jax.eval_shape(generator.apply, g, (), jnp.ones((6, 5)))
    assert (images.shape, images.dtype) == ((6, *shape), jnp.float32)
    logits, _ = jax.eval_shape(discriminator.apply, d, (), images)
    assert (logits.shape, logits.dtype) == ((6,), jnp.float32)
    assert g["dense"]["kernel"].shape == (5, coarsest)
    assert d["head"]["kernel"].shape == (coarsest, 1)
    assert g["convs"]["0"]["kernel"].shape == d["convs"]["1"]["kernel"].shape[:2] + (
        (8, 4) if shape[0] == 28 else (16, 8)
    )


@pytest.mark.parametrize(
    ("shape", "coarsest", "levels"),
    [
        ((28, 28, 1), (7, 7), 2),
        ((32, 32, 3), (4, 4), 3),
        ((64, 64, 3), (4, 4), 4),
        ((96, 96, 3), (6, 6), 4),
        ((128, 128, 3), (4, 4), 5),
        ((178, 218, 3), (6, 7), 5),
        ((27, 16, 1), (7, 4), 2),
    ],
)
def test_dcgan_of_any_size(shape, coarsest, levels):
    generator, discriminator = dcgan(shape, latent_dim=5, width=2, normalization="batch")
    (g, g_state), (d, d_state) = (jax.eval_shape(n.init, KEY) for n in (generator, discriminator))
    images, _ = jax.eval_shape(generator.apply, g, g_state, jnp.ones((3, 5)))
    logits, _ = jax.eval_shape(discriminator.apply, d, d_state, images)
    assert (images.shape, logits.shape) == ((3, *shape), (3,))
    assert len(g["convs"]) == len(d["convs"]) == levels
    features = coarsest[0] * coarsest[1] * 2 * 2 ** (levels - 1)
    assert g["dense"]["kernel"].shape == (5, features)
    assert d["head"]["kernel"].shape == (features, 1)


def test_dcgan_of_odd_sizes_leaves_out_the_last_row():
    generator, _ = dcgan((9, 8, 1), latent_dim=3, width=2, conv="gemm")
    even, _ = dcgan((10, 8, 1), latent_dim=3, width=2, conv="gemm")
    params, _ = generator.init(KEY)
    latents = jnp.ones((2, 3))
    images, whole = (network.apply(params, (), latents)[0] for network in (generator, even))
    np.testing.assert_array_equal(images, whole[:, :9])


def test_classes_are_joined_to_latents_and_projected_on_features():
    """The conditional MLP, written out in NumPy (Miyato and Koyama 2018 for the discriminator)."""
    generator, discriminator = mlp((3,), latent_dim=2, width=4, depth=1, classes=5)
    random = np.random.default_rng(0)
    abstract = [jax.eval_shape(n.init, KEY)[0] for n in (generator, discriminator)]
    g, d = jax.tree.map(lambda a: random.normal(0, 0.4, a.shape).astype(np.float32), abstract)
    latents, labels = random.normal(size=(6, 2)).astype(np.float32), np.array([4, 0, 0, 2, 1, 3])
    x = np.concatenate([latents, g["classes"][labels]], axis=1)
    x = np.maximum(affine(g["layers"]["0"], x), 0)
    samples, _ = jit(generator.apply)(g, (), latents, labels)
    np.testing.assert_allclose(samples, affine(g["head"], x), rtol=1e-5, atol=1e-5)
    x = affine(d["layers"]["0"], np.asarray(samples))
    x = np.where(x > 0, x, 0.2 * x)
    expected = affine(d["head"], x)[:, 0] + (x * d["head"]["classes"][labels]).sum(1)
    logits, _ = jit(discriminator.apply)(d, (), samples, labels)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [mlp, dcgan, sn_resnet])
def test_classes_are_a_number_of_classes(make):
    with pytest.raises(ValueError, match="classes=1: expected an integer >= 2"):
        make((8, 8, 1), classes=1)


def test_dcgan_is_the_architecture():
    """Written out in NumPy, for three levels of resolution."""
    generator, discriminator = dcgan((16, 16, 1), latent_dim=3, width=2, conv="gemm")
    abstract = [jax.eval_shape(n.init, KEY)[0] for n in (generator, discriminator)]
    random = np.random.default_rng(0)
    g, d = jax.tree.map(lambda a: random.normal(0, 0.4, a.shape).astype(np.float32), abstract)
    latents = random.normal(size=(4, 3)).astype(np.float32)

    x = (latents @ g["dense"]["kernel"] + g["dense"]["bias"]).reshape(4, 4, 4, 4)
    for layer in (g["convs"]["0"], g["convs"]["1"]):
        same = ((2, 2), (2, 2))  # of the stretched image: the output is twice the input
        x = reference_conv_transpose(np.maximum(x, 0), layer["kernel"], (2, 2), same)
        x = x + layer["bias"]
    images, _ = jit(generator.apply)(g, (), latents)
    np.testing.assert_allclose(images, np.tanh(x), atol=1e-5)

    x = np.asarray(images)
    for layer in (d["convs"]["0"], d["convs"]["1"]):
        x = reference_conv(x, layer["kernel"], (2, 2), ((1, 1), (1, 1))) + layer["bias"]
        x = np.where(x > 0, x, 0.2 * x)
    logits, _ = jit(discriminator.apply)(d, (), images)
    expected = x.reshape(4, -1) @ d["head"]["kernel"] + d["head"]["bias"]
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-5, atol=1e-5)


def test_dcgan_forms_agree_and_do_not_recompile():
    """Both forms: the same network, and gradients; a second call runs the compiled program."""
    results = {}
    init = jit(lambda key: [network.init(key)[0] for network in dcgan((8, 10, 2), 3, 4)])
    params = init(KEY)
    latents, _ = arrays((6, 3), ())
    for form in ("gemm", "native"):
        generator, discriminator = dcgan((8, 10, 2), latent_dim=3, width=4, conv=form)

        def loss(params, latents, generator=generator, discriminator=discriminator):
            images, _ = generator.apply(params[0], (), latents)
            return discriminator.apply(params[1], (), images)[0].sum(), images

        step = jit(jax.value_and_grad(loss, has_aux=True))
        results[form] = step(params, latents)
        step(params, -latents)
        assert step._cache_size() == 1
        images = np.asarray(results[form][0][1])
        assert images.shape == (6, 8, 10, 2)
        assert abs(images).max() < 1
        assert images.std() > 0.01
    close(results["gemm"], results["native"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (7, 9, 1)}, r"image_shape=\(7, 9, 1\), nearest valid: \(8, 9, 1\)"),
        ({"image_shape": (6, 64, 3)}, r"nearest valid: \(8, 64, 3\)"),
        ({"image_shape": (28, 28)}, r"\(height, width, channels\).*got \(28, 28\)"),
        ({"image_shape": (28, 28, 0)}, "channels=0: expected an integer >= 1"),
        ({"latent_dim": 0}, "latent_dim=0: expected an integer >= 1, nearest valid: 1"),
        ({"width": 31.7}, "width=31.7: .*nearest valid: 32"),
        ({"width": float("nan")}, "width=nan: expected an integer >= 1"),
        ({"conv": "winograd"}, "'auto', 'gemm', 'native'; got 'winograd'"),
        (
            {"normalization": "batchnorm"},
            r"normalization='batchnorm': expected one of \['none', 'batch'\] \(did you",
        ),
        ({"normalization": None}, r"normalization=None: expected one of \['none', 'batch'\]"),
    ],
)
def test_dcgan_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        dcgan(**arguments)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 7, 1)])
def test_dcgan_nearest_choice_is_valid(shape):
    if shape == (7, 7, 1):
        with pytest.raises(ValueError, match=r"nearest valid: \(8, 8, 1\)"):
            dcgan(shape)
    else:
        generator, _ = dcgan(shape, latent_dim=2, width=1)
        params, _ = jax.eval_shape(generator.init, KEY)
        assert params["dense"]["kernel"].shape == (2, 16)


def drawn(network, seed, scale=0.4):
    """Params and state of a network's shapes: normal numbers, and positive ones for variances."""
    random = np.random.default_rng(seed)
    params, state = jax.eval_shape(network.init, KEY)
    params = jax.tree.map(lambda a: random.normal(0, scale, a.shape).astype(np.float32), params)
    state = jax.tree.map(lambda a: random.uniform(0.5, 2, a.shape).astype(np.float32), state)
    return params, state


def affine(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def normalise(params, x, statistics=None):
    """BatchNorm, by the minibatch's own mean and variance unless given others."""
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if statistics is None else statistics
    return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]


def moved(state, x):
    """Running statistics after one minibatch."""
    return {
        "mean": 0.9 * state["mean"] + 0.1 * x.mean((0, 1, 2)),
        "var": 0.9 * state["var"] + 0.1 * x.var((0, 1, 2)),
    }


UP, DOWN = ((2, 2), (2, 2)), ((1, 1), (1, 1))  # SAME, for 4 x 4 kernels and stride 2


@pytest.mark.parametrize("train", [True, False])
def test_dcgan_with_batch_norm_is_the_architecture(train):
    """Written out in NumPy: minibatch statistics in training, running ones in evaluation."""
    generator, discriminator = dcgan((16, 16, 1), 3, 2, conv="gemm", normalization="batch")
    (g, g_state), (d, d_state) = drawn(generator, 0), drawn(discriminator, 1)
    latents = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    new = {"generator": {}, "discriminator": {}}

    def norm(params, state, i, x, player):
        new[player][i] = moved(state["norms"][i], x)
        old = state["norms"][i]
        return normalise(params["norms"][i], x, None if train else (old["mean"], old["var"]))

    x = affine(g["dense"], latents).reshape(6, 4, 4, 4)
    for i in "01":
        x = np.maximum(norm(g, g_state, i, x, "generator"), 0)
        x = reference_conv_transpose(x, g["convs"][i]["kernel"], (2, 2), UP)
        x = x + g["convs"][i].get("bias", 0)
    run = jit(generator.apply, static_argnames="train")
    images, after = run(g, g_state, latents, train=train)
    np.testing.assert_allclose(images, np.tanh(x), atol=2e-5)
    close_trees(after, {"norms": new["generator"]} if train else g_state)

    x = np.asarray(images)
    x = reference_conv(x, d["convs"]["0"]["kernel"], (2, 2), DOWN) + d["convs"]["0"]["bias"]
    x = reference_conv(np.where(x > 0, x, 0.2 * x), d["convs"]["1"]["kernel"], (2, 2), DOWN)
    x = norm(d, d_state, "0", x, "discriminator")
    x = np.where(x > 0, x, 0.2 * x).reshape(6, -1)
    run = jit(discriminator.apply, static_argnames="train")
    logits, after = run(d, d_state, images, train=train)
    np.testing.assert_allclose(logits, affine(d["head"], x)[:, 0], atol=2e-5)
    close_trees(after, {"norms": new["discriminator"]} if train else d_state)


def close_trees(actual, expected):
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_no_bias_is_trained_where_a_normalisation_would_take_it_away():
    generator, discriminator = dcgan((16, 16, 3), 3, 2, normalization="batch")
    g, d = (jax.eval_shape(n.init, KEY)[0] for n in (generator, discriminator))
    biased = [layer for layer in (g["dense"], *g["convs"].values()) if "bias" in layer]
    assert biased == [g["convs"]["1"]]
    assert [i for i in "01" if "bias" in d["convs"][i]] == ["0"]
    assert set(d["head"]) == {"kernel", "bias"}


def test_batch_norm_is_only_there_when_asked_for():
    for network in dcgan((28, 28, 1), 3, 2):
        params, state = jax.eval_shape(network.init, KEY)
        assert "norms" not in params
        assert state == ()
    _, discriminator = dcgan((8, 8, 1), 3, 2, normalization="batch")  # its one layer is the first
    assert jax.eval_shape(discriminator.init, KEY)[1] == ()


def test_batch_norm_keeps_its_digits_far_from_zero():
    """A channel whose mean is 300 times its spread: E x^2 - (E x)^2 would lose all of them."""
    generator, _ = dcgan((8, 8, 1), 2, 1, normalization="batch")
    params, state = drawn(generator, 0)
    far = {**params, "dense": {"kernel": np.tile([[1.0], [0.0]], 16).astype(np.float32)}}
    latents = np.float32([[1000.0, 0], [1001.0, 0], [1002.0, 0], [1004.0, 0]])
    run = jit(generator.apply)
    _, after = run(far, state, latents)
    expected = 0.9 * state["norms"]["0"]["var"] + 0.1 * latents[:, 0].var()
    np.testing.assert_allclose(after["norms"]["0"]["var"], expected, rtol=1e-5)


SHAPES = [(27, 64), (64, 27), (64, 1), (3, 3, 8, 16), (1, 1, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_spectral_norm_and_its_gradient(shape):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, s, vt = np.linalg.svd(np.float64(kernel.reshape(-1, shape[-1])), full_matrices=False)
    value, slope = jit(jax.value_and_grad(spectral_norm))(kernel)
    np.testing.assert_allclose(value, s[0], rtol=2e-6)
    expected = np.outer(u[:, 0], vt[0]).reshape(shape)
    np.testing.assert_allclose(slope, expected, atol=5e-6 * abs(expected).max())
    for scale in (1e-18, 1e18):
        np.testing.assert_allclose(spectral_norm(kernel * scale), s[0] * scale, rtol=2e-6)
    normalised = np.asarray(spectral_normalize(kernel)).reshape(u.shape[0], -1)
    np.testing.assert_allclose(np.linalg.norm(normalised, 2), 1.0, rtol=2e-6)


def test_spectral_norm_has_second_derivatives():
    """Against differences of the gradient that an SVD gives, in float64."""
    random = np.random.default_rng(1)
    kernel, direction = random.normal(size=(2, 7, 4))

    def slope(matrix):
        u, _, vt = np.linalg.svd(matrix, full_matrices=False)
        return np.outer(u[:, 0], vt[0])

    h = 1e-6
    expected = (slope(kernel + h * direction) - slope(kernel - h * direction)) / (2 * h)
    with jax.enable_x64(True):
        _, curvature = jax.jvp(jax.grad(spectral_norm), (kernel,), (direction,))
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(curvature, expected, atol=1e-7)


def test_spectral_norm_at_worst():
    """Equal singular values: the bound that the docstring states; and the zero kernel."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(512, 512)))
    assert 1.0 < float(spectral_norm(jnp.float32(q))) < 1.0031
    value, slope = jax.value_and_grad(spectral_norm)(jnp.zeros((3, 2)))
    assert (float(value), float(abs(slope).max())) == (0.0, 0.0)
    gradient = jax.grad(lambda k: spectral_normalize(k).sum())(jnp.zeros((3, 2)))
    assert np.isfinite(gradient).all()


def unit(kernel):
    """Divided by the largest singular value, as NumPy finds it."""
    return kernel / np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)


def conv3(layer, x, kernel=None):
    kernel = layer["kernel"] if kernel is None else kernel
    pad = (kernel.shape[0] // 2,) * 2
    return reference_conv(x, kernel, (1, 1), (pad, pad)) + layer.get("bias", 0)


def double(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def halve(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def test_sn_resnet_is_the_architecture():
    """Written out in NumPy as the paper draws it: doubling, convolving and halving one by one."""
    generator, discriminator = sn_resnet((16, 8, 2), latent_dim=3, width=4, conv="gemm")
    (g, g_state), (d, d_state) = drawn(generator, 0), drawn(discriminator, 7)  # 1 is dead: no ReLU
    assert d_state == ()
    latents = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    after = {"blocks": {}}

    x = affine(g["dense"], latents).reshape(5, 2, 1, 8)
    for i in "012":
        block, old = g["blocks"][i], g_state["blocks"][i]["norms"]
        new = {"0": moved(old["0"], x)}
        y = double(np.maximum(normalise(block["norms"]["0"], x), 0))
        y = conv3(block["convs"]["0"], y)
        new["1"] = moved(old["1"], y)
        y = conv3(block["convs"]["1"], np.maximum(normalise(block["norms"]["1"], y), 0))
        x = y + conv3(block["shortcut"], double(x))
        after["blocks"][i] = {"norms": new}
    after["norm"] = moved(g_state["norm"], x)
    x = np.tanh(conv3(g["last"], np.maximum(normalise(g["norm"], x), 0)))
    images, state = jit(generator.apply)(g, g_state, latents)
    np.testing.assert_allclose(images, x, atol=5e-5)
    close_trees(state, after)

    x = np.asarray(images)
    for i in "0123":
        block = d["blocks"][i]
        y = x if i == "0" else np.maximum(x, 0)
        for layer in (block["convs"]["0"], block["convs"]["1"]):
            y = conv3(layer, y, unit(layer["kernel"]))
            y = np.maximum(y, 0) if layer is block["convs"]["0"] else y
        if i in "01":
            y, x = halve(y), halve(conv3(block["shortcut"], x, unit(block["shortcut"]["kernel"])))
        x = x + y
    pooled = np.maximum(x, 0).sum((1, 2))
    logits, _ = jit(discriminator.apply)(d, (), images)
    expected = pooled @ unit(d["head"]["kernel"]) + d["head"]["bias"]
    assert expected.std() > 1e-3
    assert images.std() > 0.1
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-4, atol=1e-4)


def test_sn_resnet_at_the_papers_width():
    """Its table 4: 4 x 4 x 256 and three blocks of 256; four blocks of 128, two with a shortcut."""
    generator, discriminator = sn_resnet(width=128)
    (g, g_state), (d, d_state) = (jax.eval_shape(n.init, KEY) for n in (generator, discriminator))
    assert g["dense"]["kernel"].shape == (128, 4 * 4 * 256)
    kernels = [g["blocks"][i]["convs"][j]["kernel"].shape for i in "012" for j in "01"]
    assert kernels == [(3, 3, 256, 256)] * 6
    kernels = [d["blocks"][i]["convs"][j]["kernel"].shape for i in "0123" for j in "01"]
    assert kernels == [(3, 3, 3, 128)] + [(3, 3, 128, 128)] * 7
    assert ["shortcut" in d["blocks"][i] for i in "0123"] == [True, True, False, False]
    assert d["head"]["kernel"].shape == (128, 1)
    images, _ = jax.eval_shape(generator.apply, g, g_state, jnp.ones((6, 128)))
    assert (images.shape, images.dtype) == ((6, 32, 32, 3), jnp.float32)
    logits, state = jax.eval_shape(discriminator.apply, d, d_state, images)
    assert (logits.shape, logits.dtype, state) == ((6,), jnp.float32, ())


def test_sn_resnet_forms_agree_and_samples_do_not_meet_in_its_discriminator():
    latents, _ = arrays((4, 3), ())
    players = [drawn(network, seed) for network, seed in zip(sn_resnet((8, 8, 2), 3, 4), (0, 7))]
    (g, g_state), (d, _) = players
    results = {}
    for form in ("gemm", "native"):
        generator, discriminator = sn_resnet((8, 8, 2), latent_dim=3, width=4, conv=form)

        def both(g, d, latents, generator=generator, discriminator=discriminator):
            images, _ = generator.apply(g, g_state, latents)
            logits, _ = discriminator.apply(d, (), images)
            return images, logits

        results[form] = jit(both)(g, d, latents)
    chex.assert_trees_all_close(results["gemm"], results["native"], rtol=2e-4, atol=2e-4)
    images, logits = results["gemm"]
    assert np.std(logits) > 1e-3
    alone, _ = jit(discriminator.apply)(d, (), images[2:3])
    np.testing.assert_allclose(alone, logits[2:3], rtol=1e-5)


@pytest.mark.parametrize("form", ["gemm", "native"])
def test_sn_resnet_takes_params_narrower_than_its_inputs(form):
    """Computed in the wider dtype, as flax's layers do; spectral norms too."""
    inputs, _ = arrays((4, 3), ())
    for seed, network in zip((0, 7), sn_resnet((8, 8, 2), 3, 4, conv=form), strict=True):
        params, state = drawn(network, seed)
        narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), params)
        apply = jit(network.apply)
        outputs, _ = apply(narrow, state, inputs)
        wide = jax.tree.map(lambda a: a.astype(jnp.float32), narrow)
        expected, _ = apply(wide, state, inputs)
        assert outputs.dtype == jnp.float32
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
        inputs = outputs


@pytest.mark.parametrize(
    "pair",
    [dcgan((16, 16, 1), 3, 2, normalization="batch"), sn_resnet((16, 8, 1), 3, 4)],
    ids=["dcgan with BatchNorm", "sn_resnet"],
)
def test_every_parameter_has_an_effect(pair):
    """A bias that a normalisation takes away would have a gradient of rounding error: 1e-16."""
    inputs = np.random.default_rng(3).normal(size=(5, 3))
    with jax.enable_x64(True):
        for seed, network in enumerate(pair):
            params, state = drawn(network, seed)
            params, state = jax.tree.map(np.float64, (params, state))

            def loss(params, inputs, network=network, state=state):
                outputs, _ = network.apply(params, state, inputs)
                return jnp.cos(outputs).sum(), outputs

            gradients, outputs = jit(jax.grad(loss, has_aux=True))(params, inputs)
            sizes = {
                jax.tree_util.keystr(path): float(abs(leaf).max())
                for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
            }
            assert min(sizes.values()) > 1e-9, sizes
            inputs = outputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"image_shape": (28, 28, 1)},
            r"multiples of 8; got image_shape=\(28, 28, 1\), nearest valid: \(32, 32, 1\)",
        ),
        ({"image_shape": (3, 16, 3)}, r"nearest valid: \(8, 16, 3\)"),
        ({"image_shape": (32, 32)}, r"\(height, width, channels\).*got \(32, 32\)"),
        ({"image_shape": 32}, r"\(height, width, channels\).*got 32"),
        ({"image_shape": (32, 32, 0)}, "channels=0: expected an integer >= 1"),
        ({"latent_dim": 0}, "latent_dim=0: expected an integer >= 1, nearest valid: 1"),
        ({"width": 2.5}, "width=2.5: .*nearest valid: 2"),
        ({"conv": "winograd"}, "'auto', 'gemm', 'native'; got 'winograd'"),
    ],
)
def test_sn_resnet_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        sn_resnet(**arguments)


@pytest.mark.parametrize(("shape", "depth"), [((2,), 2), ((4, 4, 3), 1), ((3,), 0)])
def test_mlp(shape, depth):
    generator, discriminator = mlp(shape, latent_dim=5, width=7, depth=depth)

    def run(key):
        params, state = generator.init(key)
        samples, _ = generator.apply(params, state, 1000 * jax.random.normal(key, (6, 5)))
        logits, _ = discriminator.apply(*discriminator.init(key), samples)
        return params, samples, logits

    params, samples, logits = jit(run)(KEY)
    assert samples.shape == (6, *shape)
    assert logits.shape == (6,)
    assert len(params.get("layers", ())) == depth
    # tanh bounds pixels; vectors are free
    assert (float(abs(samples).max()) <= 1) == (len(shape) == 3)


def test_mlp_hidden_units_are_relu_and_leaky_relu():
    generator, discriminator = mlp((1,), latent_dim=1, width=1, depth=1)
    one = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    params = {"layers": {"0": one}, "head": one}
    x = jnp.array([[-2.0], [3.0]])
    assert generator.apply(params, (), x)[0].ravel().tolist() == [0.0, 3.0]
    np.testing.assert_allclose(discriminator.apply(params, (), x)[0], [-0.4, 3.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_shape": 2}, r"must be a tuple such as \(2,\); got 2"),
        ({"sample_shape": ()}, r"got \(\)"),
        ({"sample_shape": (2, 0)}, "sample_shape=0: expected an integer >= 1"),
        ({"sample_shape": (2,), "width": 0}, "width=0: expected an integer"),
        ({"sample_shape": (2,), "depth": -1}, "depth=-1: expected an integer >= 0"),
    ],
)
def test_mlp_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp(**arguments)


def test_every_public_name_is_documented_with_an_example():
    for name in networks.__all__:
        assert ">>>" in (getattr(networks, name).__doc__ or ""), name
