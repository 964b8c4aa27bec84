"""The Inception network of the standard FID, from the user's file; only this module uses torch."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from onesided_jax.datasets.files import expand_user

__all__ = ["load_inception"]

_EXPECTED = (
    "expected the TorchScript file inception-2015-12-05.pt of NVIDIA's stylegan2-ada-pytorch, or "
    "another that maps images uint8[n, 3, H, W] to features [n, d] when called with "
    "return_features=True"
)
_BATCH = 50


def load_inception(
    path: str | os.PathLike[str], shape: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the network whose features give the FID.

    Args:
      path: path of the TorchScript file; nothing is downloaded.
      shape: shape of the images, ``(H, W, C)`` with one or three channels.

    Returns:
      ``images uint8[n, H, W, C] -> features f64[n, d]``; one channel is repeated three times.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if torch is not installed.
      ValueError: if the file holds no such network, or the images have another number of channels.
    """
    file, said = expand_user(path), f"inception={str(path)!r}"
    if not file.is_file():
        raise FileNotFoundError(f"{said}: no such file; {_EXPECTED}")
    if shape[-1] not in (1, 3):
        raise ValueError(f"inception: images of shape {shape} have neither 1 nor 3 channels")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(f"{said} needs torch, which is missing: pip install torch") from error

    def batch(net: Any, images: np.ndarray) -> np.ndarray:
        shown = np.repeat(images, 3 // shape[-1], axis=-1).transpose(0, 3, 1, 2)
        with torch.no_grad():
            features = net(torch.from_numpy(np.ascontiguousarray(shown)), return_features=True)
        return features.double().numpy()

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that TorchScript is deprecated
            net = torch.jit.load(str(file), map_location="cpu").eval()
        tried = batch(net, np.zeros((2, *shape), np.uint8)).shape
        if len(tried) != 2 or tried[0] != 2:
            raise ValueError(f"features of shape {tried} for 2 images")
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{said}: {reason}; {_EXPECTED}") from error

    def every(images: np.ndarray) -> np.ndarray:
        parts = range(0, len(images), _BATCH)
        return np.concatenate([batch(net, images[i : i + _BATCH]) for i in parts])

    return every
