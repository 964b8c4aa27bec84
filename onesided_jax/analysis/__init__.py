"""Analysis of runs: gradient norms, the one-sided MVI, verdicts, certificates."""

from onesided_jax.analysis.certificate import (
    Bound,
    Certificate,
    Trajectory,
    certificate,
    certify,
)
from onesided_jax.analysis.stage import Analysis, analyze, generate, load_analysis
from onesided_jax.analysis.verdict import Verdict, naive_mvi_test

__all__ = [
    "Analysis",
    "Bound",
    "Certificate",
    "Trajectory",
    "Verdict",
    "analyze",
    "certificate",
    "certify",
    "generate",
    "load_analysis",
    "naive_mvi_test",
]
