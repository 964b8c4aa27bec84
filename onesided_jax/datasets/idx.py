"""MNIST and Fashion-MNIST, from files in the IDX format."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from onesided_jax.datasets.files import OfficialFile, check_split, find
from onesided_jax.datasets.images import Dataset, from_array

__all__ = ["fashion_mnist", "mnist"]

UNSIGNED_BYTE = 0x08  # IDX code of the type of images and labels
LARGEST = 2**31  # most bytes that a header may declare; MNIST's training images have 4.7e7
PIECE = 2**20
SIZE = (28, 28)
CLASSES = 10


class _Split(NamedTuple):
    images: OfficialFile
    labels: OfficialFile
    content: str  # SHA-256 of the uncompressed images' file, which identifies a copy


class _Family(NamedTuple):
    folders: tuple[str, ...]
    train: _Split
    test: _Split


def _family(folders: tuple[str, ...], mirrors: tuple[str, ...], *hashes: str) -> _Family:
    names = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )
    a, b, c, d = (OfficialFile(name, sha256, mirrors) for name, sha256 in zip(names, hashes))
    return _Family(folders, train=_Split(a, b, hashes[4]), test=_Split(c, d, hashes[5]))


FAMILIES = {
    # torchvision's mirrors, because the authors' host yann.lecun.com does not serve the files.
    "mnist": _family(
        ("mnist", "MNIST", "MNIST/raw"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "fashion_mnist": _family(
        ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
}


def mnist(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads MNIST: 60,000 handwritten digits, and 10,000 held out.

    Reads the official files from ``data_dir`` if given, else from ``$ONESIDED_DATA`` if they are
    there. Otherwise downloads them once into the cache directory (see `mnist5k`) and checks their
    published SHA-256. The files may be directly in the directory or in its folder ``mnist``,
    ``MNIST`` or ``MNIST/raw``, compressed or not. Smaller files of the same format are accepted
    there. Fashion-MNIST's files, which have the same names, are refused.

    Args:
      split: ``"train"`` or ``"test"``.
      data_dir: a directory with the files; ``~`` is expanded.

    Returns:
      The data set of ``(28, 28, 1)`` images, with labels 0 to 9.

    Raises:
      FileNotFoundError: if ``data_dir`` does not have the files.
      OSError: if the download fails.
      ValueError: for an unknown split, or a file that is damaged or has unexpected content.

    Example::

      digits = mnist(data_dir="~/data")
      held_out = mnist("test", data_dir="~/data")

    References:
      LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
      Proc. IEEE 1998.
    """
    return _load("mnist", split, data_dir)


def fashion_mnist(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads Fashion-MNIST: 60,000 pictures of clothes, and 10,000 held out.

    Searches and checks files as `mnist` does. The folder may be ``fashion_mnist``,
    ``fashion-mnist``, ``FashionMNIST`` or ``FashionMNIST/raw``, so ``/usr/share/datasets`` works
    with Debian's package ``dataset-fashion-mnist``.

    Args:
      split: ``"train"`` or ``"test"``.
      data_dir: a directory with the files; ``~`` is expanded.

    Returns:
      The data set of ``(28, 28, 1)`` images, with labels 0 to 9 (T-shirt, trouser, pullover,
      dress, coat, sandal, shirt, sneaker, bag, ankle boot).

    Raises:
      FileNotFoundError: if ``data_dir`` does not have the files.
      OSError: if the download fails.
      ValueError: for an unknown split, or a file that is damaged or has unexpected content.

    Example::

      clothes = fashion_mnist(data_dir="/usr/share/datasets/fashion-mnist")

    References:
      Xiao, Rasul, Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning
      algorithms, 2017, arXiv:1708.07747.
    """
    return _load("fashion_mnist", split, data_dir)


def _load(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    check_split(name, split)
    family = FAMILIES[name]
    part = family.train if split == "train" else family.test
    paths = [
        find(name, file, family.folders, data_dir, others=_other_names(file.name))
        for file in (part.images, part.labels)
    ]
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if images.shape != (len(labels), *SIZE) or labels.max() >= CLASSES:
        raise ValueError(
            f"{paths[0]}: expected uint8[N, 28, 28] and in {paths[1].name} N labels below "
            f"{CLASSES}; got {list(images.shape)} and {len(labels)} up to {labels.max()}"
        )
    content = hashlib.sha256(struct.pack(">4B3I", 0, 0, UNSIGNED_BYTE, 3, *images.shape))
    content.update(images.tobytes())
    for other, strange in FAMILIES.items():
        if other != name and content.hexdigest() in (strange.train.content, strange.test.content):
            raise ValueError(f"{paths[0]}: these are the images of {other!r}, not of {name!r}")
    return from_array(images, name=name, labels=labels)


def _other_names(name: str) -> list[str]:
    """Other names of an official file: uncompressed, or with a dot as in PyTorch."""
    unpacked = name.removesuffix(".gz")
    dotted = unpacked.replace("-idx", ".idx")
    return [unpacked, f"{dotted}.gz", dotted]


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, compressed by gzip or not.

    The format is: two zero bytes, a type code, the number of axes, their sizes as big-endian 32-bit
    integers, then the entries in C order.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else path.open("rb") as file:
            return _parse(file, axes)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path}: {error}; expected an IDX file of unsigned bytes with {axes} "
            f"{'axis' if axes == 1 else 'axes'}, or one compressed by gzip"
        ) from error


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _parse(file: _Readable, axes: int) -> np.ndarray:
    header = _read(file, 4)
    if header[:2] != b"\0\0" or len(header) < 4:
        raise ValueError(f"starts with {header!r}, not with two zero bytes")
    if header[2] != UNSIGNED_BYTE:
        raise ValueError(f"holds entries of type 0x{header[2]:02x}, not unsigned bytes, 0x08")
    if header[3] != axes:
        raise ValueError(f"has {header[3]} axes")
    sizes = _read(file, 4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError("ends within its header")
    shape = struct.unpack(f">{axes}I", sizes)
    declared = math.prod(shape)
    if not 0 < declared <= LARGEST:
        raise ValueError(f"declares {declared} bytes, shape {list(shape)}")
    content = _read(file, declared + 1)  # one more, so that gzip compares its checksum
    if len(content) != declared:
        held = f"{len(content)} bytes" if len(content) < declared else "more"
        raise ValueError(f"declares {declared} bytes, shape {list(shape)}, and holds {held}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read(file: _Readable, size: int) -> bytes:
    """Reads at most ``size`` bytes, in pieces, so that a false header costs no memory."""
    content = bytearray()
    while len(content) < size and (piece := file.read(min(PIECE, size - len(content)))):
        content += piece
    return bytes(content)
