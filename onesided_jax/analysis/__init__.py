"""Analysis of runs: gradient norms, the one-sided MVI, verdicts, certificates, diagnostics."""

from onesided_jax.analysis.certificate import (
    Bound,
    Certificate,
    Trajectory,
    certificate,
    certify,
)
from onesided_jax.analysis.diagnostics import (
    Alignment,
    PathAngle,
    Spectrum,
    alignment,
    jacobian_spectrum,
    path_angle,
)
from onesided_jax.analysis.stage import Analysis, analyze, generate, load_analysis
from onesided_jax.analysis.verdict import Verdict, naive_mvi_test

__all__ = [
    "Alignment",
    "Analysis",
    "Bound",
    "Certificate",
    "PathAngle",
    "Spectrum",
    "Trajectory",
    "Verdict",
    "alignment",
    "analyze",
    "certificate",
    "certify",
    "generate",
    "jacobian_spectrum",
    "load_analysis",
    "naive_mvi_test",
    "path_angle",
]
