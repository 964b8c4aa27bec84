"""Official data files: formats written here byte by byte, damage, places, downloads."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesided_jax import GameSpec, OptimizerSpec, Recipe, datasets, open_run
from onesided_jax.cli import main
from onesided_jax.datasets import cifar, cifar10, fashion_mnist, idx, load, mnist
from onesided_jax.runs import build_game, place_data, with_absolute_data

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
RANDOM = np.random.default_rng(0)
DIGITS = {"train": (RANDOM.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20) % 10)}
DIGITS["test"] = (255 - DIGITS["train"][0][:7], np.arange(7)[::-1])
FILES = {"train": "train", "test": "t10k"}
PHOTOS = RANDOM.integers(0, 256, (12, 32, 32, 3), np.uint8)
CLASSES = np.arange(12) % 10
BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]

thorough = settings(max_examples=60, deadline=None, derandomize=True)


def idx_bytes(array, code=0x08, sizes=None):
    sizes = array.shape if sizes is None else sizes
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(array)


def write_digits(folder, compress=True, digits=DIGITS):
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in digits.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            path = folder / f"{FILES[split]}-{kind}-ubyte"
            if compress:
                path.with_suffix(".gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
            else:
                path.write_bytes(idx_bytes(array))
    return folder


def batch_bytes(labels, photos):
    """One byte of label, then the red, the green and the blue plane, row by row."""
    planes = (b"".join(bytes(photo[..., channel]) for channel in range(3)) for photo in photos)
    return b"".join(bytes([label]) + plane for label, plane in zip(labels, planes))


def batches():
    """Two photographs to a batch."""
    rows = [slice(2 * i, 2 * i + 2) for i in range(len(BATCHES))]
    return {name: batch_bytes(CLASSES[r], PHOTOS[r]) for name, r in zip(BATCHES, rows)}


def tar_bytes(members):
    """A compressed archive of ``(name or TarInfo, content)``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            if isinstance(name, str):
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def official_members():
    extra = [("cifar-10-batches-bin/readme.html", b"<html>")]
    return [(f"cifar-10-batches-bin/{name}", data) for name, data in batches().items()] + extra


def outcome(function, *arguments):
    """What it returns and no error, or nothing and what a ValueError says."""
    try:
        return function(*arguments), ""
    except ValueError as error:
        return None, str(error)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No directory of the user's, a cache of one's own, and no internet."""
    monkeypatch.delenv("ONESIDED_DATA", raising=False)
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "cache"))
    nowhere = ("http://127.0.0.1:9/",)
    for name, family in idx.FAMILIES.items():
        parts = {
            split: part._replace(
                images=part.images._replace(mirrors=nowhere),
                labels=part.labels._replace(mirrors=nowhere),
            )
            for split, part in (("train", family.train), ("test", family.test))
        }
        monkeypatch.setitem(idx.FAMILIES, name, family._replace(**parts))
    monkeypatch.setattr(cifar, "ARCHIVE", cifar.ARCHIVE._replace(mirrors=nowhere))


@pytest.fixture
def data(tmp_path):
    """A directory with tiny files of all three, and where they lie in it."""
    root = tmp_path / "data"
    write_digits(root / "mnist")
    other = {split: (255 - images, labels) for split, (images, labels) in DIGITS.items()}
    write_digits(root / "fashion-mnist", digits=other)
    (root / "cifar10").mkdir()
    (root / "cifar10" / cifar.ARCHIVE.name).write_bytes(tar_bytes(official_members()))
    return root


# ---- places ----


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("folder", [".", "mnist", "MNIST", "MNIST/raw"])
def test_mnist_in_a_directory(tmp_path, folder, compress, split):
    write_digits(tmp_path / folder, compress)
    dataset = mnist(split, tmp_path)
    images, labels = DIGITS[split]
    assert (dataset.name, dataset.shape) == ("mnist", (28, 28, 1))
    np.testing.assert_array_equal(dataset.data, images[..., None])
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.labels.dtype == np.int32


@pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_one_directory_serves_both_families(tmp_path, monkeypatch, folder):
    other = {split: (255 - images, labels) for split, (images, labels) in DIGITS.items()}
    write_digits(tmp_path / "mnist")
    write_digits(tmp_path / folder, digits=other)
    monkeypatch.setenv("ONESIDED_DATA", str(tmp_path))
    for split in ("train", "test"):
        clothes = load("fashion_mnist", split=split).data
        np.testing.assert_array_equal(load("mnist", split=split).data, 255 - clothes)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_every_way_to_name_the_directory(data, monkeypatch, name):
    monkeypatch.setenv("HOME", str(data.parent))
    expected = load(name, data_dir=data)
    assert expected.name == name
    for spelled, arguments in ((f"{name}:{data}", {}), (f"{name}:~/data", {}), (name, None)):
        if arguments is None:
            monkeypatch.setenv("ONESIDED_DATA", "~/data")
        dataset = load(spelled, **(arguments or {}))
        assert dataset.name == spelled
        np.testing.assert_array_equal(dataset.data, expected.data)
        np.testing.assert_array_equal(dataset.labels, expected.labels)


def test_every_named_data_set_loads(data, monkeypatch):
    monkeypatch.setenv("ONESIDED_DATA", str(data))
    for name in set(datasets.DATASETS) - {"mnist5k"}:  # that one is tested with its cache
        dataset = load(name)
        assert dataset.name == name
        assert (dataset.data is None) == (dataset.labels is None)


OTHER_NAMES = {
    "dotted": lambda name: name.replace("-idx", ".idx"),
    "upper case": str.upper,
    "unpacked and dotted": lambda name: name.removesuffix(".gz").replace("-idx", ".idx"),
}


@pytest.mark.parametrize("case", OTHER_NAMES)
def test_files_are_found_under_the_names_that_others_give_them(data, tmp_path, case):
    expected = load("mnist", data_dir=data)
    folder = tmp_path / "downloads" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in sorted((data / "mnist").iterdir()):
        content = path.read_bytes()
        if case.startswith("unpacked") and path.suffix == ".gz":
            content = gzip.decompress(content)
        (folder / OTHER_NAMES[case](path.name)).write_bytes(content)
    found = load("mnist", data_dir=tmp_path / "downloads")
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_missing_file_is_told_with_what_is_there(tmp_path):
    (tmp_path / "train-pictures.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"holds train-pictures\.bin"):
        load("mnist", data_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there are no files at all"):
        load("mnist", data_dir=tmp_path / "empty")


@pytest.mark.parametrize(("name", "file"), [("mnist", "train-images"), ("cifar10", "cifar-10-bin")])
def test_what_a_directory_lacks_is_named(tmp_path, monkeypatch, name, file):
    with pytest.raises(
        FileNotFoundError, match=rf"^{name}: found no {file}.* in {tmp_path} nor in"
    ):
        load(name, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"^{name}: .*/absent is no directory; .*{file}"):
        load(f"{name}:{tmp_path}/absent")
    with pytest.raises(FileNotFoundError, match=rf"^{name}: ~nobody-of-that-name is no directory"):
        load(f"{name}:~nobody-of-that-name")
    monkeypatch.setenv("ONESIDED_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=rf"^{name}: .*/absent is no directory"):
        load(name)
    monkeypatch.setenv("ONESIDED_DATA", str(tmp_path))  # serves other data sets: go on and download
    with pytest.raises(OSError, match=rf"^{name}: cannot download {file}"):
        load(name)


GAN = {"dataset": "mnist", "network": "mlp", "width": 2, "latent_dim": 2, "batch_size": 2}


def digits_recipe(**options):
    return Recipe(
        name="digits",
        game=GameSpec("gan", GAN | options),
        optimizers=(
            OptimizerSpec(
                "sgda", axes={"primal_learning_rate": (0.1,), "dual_learning_rate": (0.1,)}
            ),
        ),
        seeds=(0,),
        steps=2,
        checkpoint_every=2,
    )


@pytest.mark.parametrize("dataset", ["mnist", "mnist:/elsewhere"])
def test_the_command_line_writes_the_directory_into_the_recipe(data, monkeypatch, dataset):
    monkeypatch.chdir(data)
    recipe = place_data(digits_recipe(dataset=dataset), Path("mnist"))
    assert recipe == digits_recipe(dataset=f"mnist:{data}/mnist")
    assert Recipe.from_json(recipe.to_json()) == recipe
    game = build_game(recipe.game)
    assert jax.eval_shape(game.sample, jax.random.key(0)).real.shape == (2, 28, 28, 1)
    with pytest.raises(
        ValueError, match=r"^data='x': recipe 'digits' uses ring, which has no files"
    ):
        place_data(digits_recipe(dataset="ring"), Path("x"))


def test_data_dir_is_an_option_of_sweep(tmp_path, capsys):
    (tmp_path / "digits.json").write_text(digits_recipe().to_json())
    command = ["sweep", str(tmp_path / "digits.json"), "--out", str(tmp_path / "run"), "--data-dir"]
    assert main([*command, str(tmp_path / "absent")]) == 2
    assert f"mnist: {tmp_path}/absent is no directory" in capsys.readouterr().err
    assert main([*command, str(write_digits(tmp_path / "data"))]) == 0
    recipe = open_run(tmp_path / "run").recipe
    assert recipe.game.options["dataset"] == f"mnist:{tmp_path}/data"


@pytest.mark.parametrize(
    "dataset", ["npz:own.npz", "npz:~/own.npz", "mnist:digits", "mnist", "ring"]
)
def test_a_path_in_a_recipe_is_made_absolute(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    name, colon, path = dataset.partition(":")
    expected = f"{name}:{tmp_path}/{Path(path).name}" if colon else dataset
    recipe = with_absolute_data(digits_recipe(dataset=dataset))
    assert recipe == digits_recipe(dataset=expected)


def test_a_run_is_resumed_from_any_folder_and_tells_of_another_data_file(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.json").write_text(digits_recipe(dataset="npz:own.npz").to_json())
    (tmp_path / "elsewhere").mkdir()
    np.savez("own.npz", images=IMAGES)
    said = f"'{tmp_path}/own.npz' is not the file that the run was begun with"
    assert main(["sweep", "own.json", "--out", "run"]) == 0
    sha256 = hashlib.sha256(Path("own.npz").read_bytes()).hexdigest()
    assert open_run("run").manifest["data_sha256"] == sha256
    monkeypatch.chdir(tmp_path / "elsewhere")
    for content, tells in ((IMAGES, False), (255 - IMAGES, True)):
        np.savez(tmp_path / "own.npz", images=content)
        last = Path("../run/cells/sgda/checkpoints/2")
        shutil.rmtree(last)
        assert main(["resume", "../run"]) == 0
        assert (said in capsys.readouterr().out.replace("\n", "")) == tells
        assert (said == open_run("../run").changed_data().partition(" (")[0]) == tells
    run = open_run("../run")
    old = {name: value for name, value in run.manifest.items() if name != "data_sha256"}
    assert dataclasses.replace(run, manifest=old).changed_data() == ""


# ---- IDX ----


@thorough
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), compress=st.booleans())
def test_idx_round_trip(tmp_path_factory, shape, compress):
    array = np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    np.testing.assert_array_equal(idx.read_idx(path, len(shape)), array)


IMAGES = DIGITS["train"][0]
WHOLE = idx_bytes(IMAGES)
PACKED = gzip.compress(WHOLE, mtime=0)
BAD_IDX = {
    "empty": (b"", r"starts with b''"),
    "short": (b"\0\0\x08", r"starts with b'\\x00\\x00\\x08'"),
    "wrong magic": (b"\x89PNG" + WHOLE, r"starts with b'\\x89PNG'"),
    "pickle": (pickle.dumps(IMAGES), r"starts with b'\\x80"),
    "float": (idx_bytes(IMAGES, code=0x0D), "entries of type 0x0d, not unsigned bytes, 0x08"),
    "labels for images": (idx_bytes(np.zeros(5, np.uint8)), "has 1 axes"),
    "header only": (WHOLE[:10], "ends within its header"),
    "truncated": (WHOLE[:-1], r"declares 15680 bytes, shape \[20, 28, 28\], and holds 15679"),
    "longer": (WHOLE + b"\0", r"declares 15680 bytes, .* and holds more"),
    "promises more": (
        idx_bytes(IMAGES, sizes=(60000, 28, 28)),
        r"declares 47040000 bytes, .* holds 15680 bytes",
    ),
    "promises the world": (idx_bytes(IMAGES, sizes=(2**32 - 1,) * 3), r"declares \d{29} bytes"),
    "nothing": (idx_bytes(IMAGES[:0]), r"declares 0 bytes, shape \[0, 28, 28\]"),
    "truncated gzip": (PACKED[:-20], "end-of-stream"),
    "half a gzip": (PACKED[: len(PACKED) // 2], "end-of-stream"),
    "wrong checksum": (PACKED[:-6] + b"\0\0" + PACKED[-4:], "CRC check failed"),
    "gzip of nonsense": (gzip.compress(b"nonsense"), "starts with b'nons'"),
    "garbage after gzip's mark": (b"\x1f\x8b" + WHOLE, "nknown compression method|Not a gzipped"),
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_a_bad_idx_file_is_one_clear_error(tmp_path, name):
    content, message = BAD_IDX[name]
    path = write_digits(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(f"mnist:{tmp_path}")
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected an IDX file of unsigned bytes with 3 axes" in str(caught.value)


def test_a_header_that_promises_too_much_costs_no_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(IMAGES, sizes=(2**31,)))
    tracemalloc = pytest.importorskip("tracemalloc")
    tracemalloc.start()
    with pytest.raises(ValueError, match="declares 2147483648 bytes"):
        idx.read_idx(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the file's 16 kB, and pieces of 1 MB


@thorough
@given(data=st.data(), compress=st.booleans())
def test_damage_to_an_idx_file_is_noticed_or_harmless(tmp_path_factory, data, compress):
    whole = PACKED if compress else WHOLE
    path = tmp_path_factory.mktemp("idx") / "file"
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match=f"^{path}: .*; expected an IDX file"):
            idx.read_idx(path, 3)
        return
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    read, error = outcome(idx.read_idx, path, 3)
    if error:
        assert error.startswith(f"{path}: ")
    else:  # only gzip has a checksum
        assert np.array_equal(read, IMAGES) == compress


@thorough
@given(content=st.binary(max_size=64))
def test_no_bytes_crash_the_idx_parser(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("idx") / "file"
    for prefix in (b"", b"\0\0\x08\x01", b"\x1f\x8b\x08\0"):
        path.write_bytes(prefix + content)
        read, error = outcome(idx.read_idx, path, 1)
        assert error.startswith(f"{path}: ") if error else read.nbytes <= len(content)


@pytest.mark.parametrize(
    ("digits", "found"),
    [
        ((IMAGES[:, :27], np.zeros(20)), r"\[20, 27, 28\] and 20 up to 0"),
        ((IMAGES, np.zeros(19)), r"\[20, 28, 28\] and 19 up to 0"),
        ((IMAGES, np.arange(20)), r"\[20, 28, 28\] and 20 up to 19"),
    ],
)
def test_images_and_labels_must_fit(tmp_path, digits, found):
    write_digits(tmp_path, digits={"train": digits})
    with pytest.raises(ValueError, match=rf"expected uint8\[N, 28, 28\] and .*; got {found}"):
        load("mnist", data_dir=tmp_path)


def test_files_of_the_other_family_are_refused(tmp_path, monkeypatch):
    """They have the same names; a directory given to the wrong one must not be believed."""
    write_digits(tmp_path)
    family = idx.FAMILIES["fashion_mnist"]
    content = hashlib.sha256(idx_bytes(DIGITS["test"][0])).hexdigest()
    test = family.test._replace(content=content)
    monkeypatch.setitem(idx.FAMILIES, "fashion_mnist", family._replace(test=test))
    assert len(load(f"fashion_mnist:{tmp_path}", split="test").data) == 7
    assert len(load(f"mnist:{tmp_path}").data) == 20
    with pytest.raises(ValueError, match="these are the images of 'fashion_mnist', not of 'mnist'"):
        load(f"mnist:{tmp_path}", split="test")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("split", "size"), [("train", 60000), ("test", 10000)])
def test_debians_copy_is_the_official_one(split, size):
    dataset = load(f"fashion_mnist:{DEBIAN}", split=split)
    assert dataset.data.shape == (size, 28, 28, 1)
    assert np.bincount(dataset.labels).tolist() == [size // 10] * 10
    content = hashlib.sha256(idx_bytes(dataset.data[..., 0])).hexdigest()
    assert content == getattr(idx.FAMILIES["fashion_mnist"], split).content
    np.testing.assert_array_equal(fashion_mnist(split, DEBIAN.parent).data, dataset.data)
    with pytest.raises(ValueError, match="these are the images of 'fashion_mnist', not of 'mnist'"):
        mnist(split, DEBIAN)


# ---- CIFAR-10 ----


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10"])
@pytest.mark.parametrize("unpacked", [True, False])
def test_cifar10(tmp_path, folder, unpacked):
    place = tmp_path / folder
    if unpacked:
        (place / "cifar-10-batches-bin").mkdir(parents=True)
        for name, content in batches().items():
            (place / "cifar-10-batches-bin" / name).write_bytes(content)
    else:
        place.mkdir(exist_ok=True)
        (place / cifar.ARCHIVE.name).write_bytes(tar_bytes(official_members()[::-1]))
    train, test = cifar10("train", tmp_path), cifar10("test", tmp_path)
    assert (train.name, train.shape) == ("cifar10", (32, 32, 3))
    np.testing.assert_array_equal(train.data, PHOTOS[:10])
    np.testing.assert_array_equal(train.labels, CLASSES[:10])
    np.testing.assert_array_equal(test.data, PHOTOS[10:])
    np.testing.assert_array_equal(test.labels, CLASSES[10:])
    assert train.data.flags.c_contiguous


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def with_extra(name, content=b""):
    return tar_bytes([*official_members(), (name, content)])


def with_batch(content):
    members = dict(official_members())
    members["cifar-10-batches-bin/data_batch_3.bin"] = content
    return tar_bytes(members.items())


def greedy():
    """The last member's header promises more than the archive has."""
    member = special("cifar-10-batches-bin/data_batch_1.bin", tarfile.REGTYPE)
    member.size = 3073 * 1000
    return gzip.compress(member.tobuf() + b"\0" * 3073)


class Bomb:
    """What unpickling would do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


TAR = tar_bytes(official_members())
BAD_TAR = {
    "empty": (b"", "holds no cifar-10-batches-bin/data_batch_1.bin|empty|end-of-stream"),
    "text": (b"not an archive", "Not a gzipped file"),
    "gzip of nonsense": (gzip.compress(b"nonsense" * 200), "invalid|bad checksum|truncated"),
    "truncated": (TAR[:-20], "end-of-stream"),
    "half": (TAR[: len(TAR) // 2], "end-of-stream|unexpected end"),
    "wrong checksum": (TAR[:-6] + b"\0\0" + TAR[-4:], "CRC check failed"),
    "a batch is missing": (
        tar_bytes(official_members()[1:]),
        "holds no cifar-10-batches-bin/data_batch_1.bin",
    ),
    "other folder": (
        tar_bytes([("data_batch_1.bin", batches()["data_batch_1.bin"])]),
        "holds no cifar-10-batches-bin/data_batch_1.bin",
    ),
    "promises more": (greedy(), "unexpected end|end-of-stream|declares"),
    "twice": (
        with_extra("cifar-10-batches-bin/data_batch_2.bin", b"x"),
        "holds cifar-10-batches-bin/data_batch_2.bin twice",
    ),
    "up and out": (with_extra("../evil", b"x"), r"holds '../evil', which .* leads out of"),
    "up and out inside": (with_extra("cifar-10-batches-bin/../../evil"), "leads out of its folder"),
    "absolute": (with_extra("/tmp/evil", b"x"), r"holds '/tmp/evil'"),
    "symbolic link": (
        with_extra(special("cifar-10-batches-bin/test_batch.bin", tarfile.SYMTYPE, "/etc/passwd")),
        "which is a link",
    ),
    "hard link": (with_extra(special("evil", tarfile.LNKTYPE, "readme")), "which is a link"),
    "device": (with_extra(special("evil", tarfile.CHRTYPE)), "which is a link"),
}
BAD_BATCH = {
    "ragged": (batches()["data_batch_1.bin"][:-1], r"has 6145 bytes; expected a .* of 3073"),
    "hollow": (b"", r"has 0 bytes; expected a positive multiple of 3073"),
    "label": (batch_bytes([3, 10], PHOTOS[:2]), "has the label 10; expected labels below 10"),
}


@pytest.mark.parametrize("name", BAD_TAR)
def test_a_bad_archive_is_one_clear_error(tmp_path, monkeypatch, name):
    content, message = BAD_TAR[name]
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / cifar.ARCHIVE.name
    path.write_bytes(content)
    monkeypatch.chdir(tmp_path / "place")
    with pytest.raises(ValueError, match=message) as caught:
        load(f"cifar10:{path.parent}")
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected CIFAR-10's binary version" in str(caught.value)
    assert [p.name for p in tmp_path.rglob("*")] == ["place", path.name]


@pytest.mark.parametrize("name", BAD_BATCH)
@pytest.mark.parametrize("unpacked", [True, False])
def test_a_bad_batch_is_one_clear_error(tmp_path, name, unpacked):
    content, message = BAD_BATCH[name]
    if unpacked:
        (tmp_path / "cifar-10-batches-bin").mkdir()
        for batch, good in {**batches(), "data_batch_3.bin": content}.items():
            (tmp_path / "cifar-10-batches-bin" / batch).write_bytes(good)
    else:
        (tmp_path / cifar.ARCHIVE.name).write_bytes(with_batch(content))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/.*data_batch_3.bin: {message}"):
        load("cifar10", data_dir=tmp_path)


def test_the_python_version_is_never_unpickled(tmp_path):
    bomb = pickle.dumps({b"data": Bomb(tmp_path / "exploded")})
    members = [(f"cifar-10-batches-py/data_batch_{i}", bomb) for i in range(1, 6)]
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(tar_bytes(members))
    with pytest.raises(FileNotFoundError, match="the Python version is not read: it holds pickles"):
        load("cifar10", data_dir=tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").rename(tmp_path / cifar.ARCHIVE.name)
    with pytest.raises(ValueError, match=r"holds no cifar-10-batches-bin/data_batch_1\.bin"):
        load("cifar10", data_dir=tmp_path)
    (tmp_path / cifar.ARCHIVE.name).write_bytes(with_batch(bomb))
    with pytest.raises(ValueError, match="expected a positive multiple of 3073"):
        load("cifar10", data_dir=tmp_path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists()  # the bomb was a live one


@thorough
@given(data=st.data())
def test_damage_to_an_archive_is_noticed_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cifar")
    path = folder / cifar.ARCHIVE.name
    place = data.draw(st.integers(0, len(TAR) - 1))
    truncate = data.draw(st.booleans())
    damaged = bytearray(TAR[:place] if truncate else TAR)
    if not truncate:
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    dataset, error = outcome(load, f"cifar10:{folder}")
    if error:
        assert error.startswith(f"{path}: ")
    else:
        assert not truncate
        np.testing.assert_array_equal(dataset.data, PHOTOS[:10])


# ---- downloads ----


class Quiet(http.server.SimpleHTTPRequestHandler):
    requests: list[str]

    def log_message(self, *_):
        self.requests.append(self.path)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Three hosts on this machine: one without files, one with other bytes, a good one."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = tmp_path / "web"
    write_digits(root / "good")
    (root / "good" / cifar.ARCHIVE.name).write_bytes(TAR)
    (root / "bad").mkdir()
    for file in (root / "good").iterdir():
        (root / "bad" / file.name).write_bytes(b"moved, see elsewhere")
    handler = type("Handler", (Quiet,), {"requests": []})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_address[1]}"

    def publish(*folders):
        mirrors = tuple(f"{host}/{folder}/" for folder in folders)

        def official(file):
            content = (root / "good" / file.name).read_bytes()
            return file._replace(sha256=hashlib.sha256(content).hexdigest(), mirrors=mirrors)

        family = idx.FAMILIES["mnist"]
        parts = {
            split: part._replace(images=official(part.images), labels=official(part.labels))
            for split, part in (("train", family.train), ("test", family.test))
        }
        monkeypatch.setitem(idx.FAMILIES, "mnist", family._replace(**parts))
        monkeypatch.setattr(cifar, "ARCHIVE", official(cifar.ARCHIVE))
        handler.requests.clear()
        return handler.requests

    yield publish
    server.shutdown()
    server.server_close()


def test_a_download_passes_over_dead_and_wrong_mirrors_and_happens_once(web, tmp_path):
    requests = web("absent", "bad", "good")
    np.testing.assert_array_equal(load("mnist").data[..., 0], DIGITS["train"][0])
    np.testing.assert_array_equal(load("cifar10").data, PHOTOS[:10])
    tried = {path.split("/")[1] for path in requests}
    assert tried == {"absent", "bad", "good"}
    kept = {str(p.relative_to(tmp_path / "cache")) for p in (tmp_path / "cache").rglob("*.gz")}
    assert kept == {
        "mnist/train-images-idx3-ubyte.gz",
        "mnist/train-labels-idx1-ubyte.gz",
        "cifar10/cifar-10-binary.tar.gz",
    }
    requests.clear()
    load("mnist"), load("cifar10", split="test")
    assert requests == []


def test_a_damaged_file_in_the_cache_is_downloaded_again(web, tmp_path):
    requests = web("good")
    load("mnist")
    file = tmp_path / "cache" / "mnist" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1])
    requests.clear()
    np.testing.assert_array_equal(load("mnist").data[..., 0], DIGITS["train"][0])
    assert requests == ["/good/train-images-idx3-ubyte.gz"]


def test_no_mirror_says_what_was_tried_and_what_to_do(web, tmp_path):
    web("absent", "bad")
    with pytest.raises(OSError, match=r"ONESIDED_DATA, data_dir or 'mnist:DIRECTORY'") as caught:
        load("mnist")
    for said in ("/absent/: 404", "/bad/: ", "hash"):
        assert said in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_an_unwritable_cache_is_named(web, tmp_path, monkeypatch):
    web("good")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ONESIDED_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        OSError, match=r"cannot download to .*file.*set ONESIDED_CACHE to a writable"
    ):
        load("mnist")


def test_what_is_in_a_directory_is_not_downloaded(web, data, monkeypatch):
    requests = web("good")
    monkeypatch.setenv("ONESIDED_DATA", str(data))
    load("mnist"), load("cifar10")
    assert requests == []


def test_every_official_file_has_a_sha256_of_its_own():
    files = [cifar.ARCHIVE]
    for family in idx.FAMILIES.values():
        for part in (family.train, family.test):
            files += [part.images, part.labels]
    hashes = {file.sha256 for file in files}
    hashes |= {part.content for family in idx.FAMILIES.values() for part in family[1:]}
    assert len(hashes) == 9 + 4
    assert {len(bytes.fromhex(sha256)) for sha256 in hashes} == {32}
