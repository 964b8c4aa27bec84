"""A folder of PNG and JPEG images of the user's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax.datasets.files import expand_user
from onesided_jax.datasets.images import Dataset, from_array
from onesided_jax.errors import missing

__all__ = ["image_files", "image_folder", "image_shape"]

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # first letters of the modes with more than eight bits a channel


def image_folder(path: str | os.PathLike[str], size: int | Sequence[int] = 64) -> Dataset:
    """Make a data set of the PNG and JPEG files in a folder and its subfolders.

    Each image is turned as its EXIF orientation says, cut to the wanted proportions around its
    centre, and resized (bilinear, antialiased): its shorter side fits. If every image is grey, the
    data have one channel. If any has colours, all become RGB; transparency is dropped. All pixels
    are held in memory. Reading is slow for many files: to read them once, save ``data`` and
    ``labels`` by ``np.savez(FILE, x_train=data, y_train=labels)`` and use ``npz:FILE``.

    Args:
      path: the folder; ``~`` is expanded. If every image lies in a subfolder, the subfolders in
        alphabetical order are the classes 0, 1, ...; otherwise there are no labels.
      size: of the images: one number, or ``(height, width)``.

    Returns:
      The data set, named ``images:PATH``, in the order of the files' paths.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it has no such file, one cannot be read, or ``size`` is no size.
      ImportError: pillow is not installed.

    Example:
      >>> import pathlib, tempfile, numpy as np, matplotlib.image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     matplotlib.image.imsave(pathlib.Path(folder) / "a.png", np.zeros((90, 70, 3)))
      ...     image_folder(folder, size=32).shape
      (32, 32, 3)
    """
    shape = image_shape(size)
    folder = expand_user(path)
    if not str(path) or not folder.is_dir():
        raise FileNotFoundError(f"images:{path}: expected a folder of PNG or JPEG files there")
    files = image_files(folder)
    if not files:
        raise ValueError(
            f"images:{path}: expected files ending in {', '.join(SUFFIXES)}; the folder and its "
            "subfolders have none"
        )
    pictures = [_read(file, shape) for file in files]
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    parents = [file.relative_to(folder).parts[:-1][:1] for file in files]
    classes = sorted(set(parents))
    labels = None if () in classes else np.array([classes.index(parent) for parent in parents])
    return from_array(np.stack(pictures), name=f"images:{path}", labels=labels)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def image_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from one number or both; ``ValueError`` if they are none."""
    sides: Any = tuple(size) if isinstance(size, Sequence) else (size, size)
    whole = all(isinstance(side, int | np.integer) and side >= 1 for side in sides)
    if len(sides) != 2 or not whole or isinstance(size, bool):
        raise ValueError(f"size={size!r}: expected an integer >= 1, or (height, width), e.g. 64")
    return int(sides[0]), int(sides[1])


def _read(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """One image, ``uint8[*shape]`` if it is grey and ``uint8[*shape, 3]`` otherwise."""
    try:
        from PIL import Image, ImageOps  # only folders need it
    except ModuleNotFoundError:
        raise missing("pillow", "cli", "images:FOLDER") from None
    try:
        with Image.open(file) as opened:
            mode = opened.mode
            picture = ImageOps.exif_transpose(opened).convert("L" if mode in GREY else "RGB")
            picture = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged file can raise anything, from OSError to SyntaxError
        raise ValueError(f"{file}: cannot be read as an image: {error}") from error
    if mode.startswith(DEEP):
        raise ValueError(f"{file}: expected 8 bits a channel; got an image of mode {mode!r}")
    return np.asarray(picture)
