"""Certificates of the theorems' bounds, and diagnostics of a game's field."""

from onesided_jax.theory.angles import Alignment, PathAngle, alignment, path_angle
from onesided_jax.theory.certified import Bound, Certificate, certify
from onesided_jax.theory.observer import certificate
from onesided_jax.theory.spectrum import Spectrum, jacobian_spectrum
from onesided_jax.theory.stream import MintyStream, minty_stream, minty_sum
from onesided_jax.theory.trajectory import Trajectory

__all__ = [
    "Alignment",
    "Bound",
    "Certificate",
    "MintyStream",
    "PathAngle",
    "Spectrum",
    "Trajectory",
    "alignment",
    "certificate",
    "certify",
    "jacobian_spectrum",
    "minty_stream",
    "minty_sum",
    "path_angle",
]
