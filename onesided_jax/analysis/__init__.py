"""Analysis of runs: gradient norms, one-sided MVI, quality, verdicts, certificates, diagnostics."""

from onesided_jax.analysis._classifier import ClassifierSettings
from onesided_jax.analysis._distances import PrecisionRecall, frechet_distance, precision_recall
from onesided_jax.analysis._modes import Mixture
from onesided_jax.analysis._samples import generate
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
from onesided_jax.analysis.gate import Gate, quality_gate
from onesided_jax.analysis.mvi_verdict import naive_mvi_test
from onesided_jax.analysis.quality import Quality, Reference, quality, quality_reference
from onesided_jax.analysis.stage import Analysis, analyze, load_analysis
from onesided_jax.analysis.verdict import Verdict

__all__ = [
    "Alignment",
    "Analysis",
    "Bound",
    "Certificate",
    "ClassifierSettings",
    "Gate",
    "Mixture",
    "PathAngle",
    "PrecisionRecall",
    "Quality",
    "Reference",
    "Spectrum",
    "Trajectory",
    "Verdict",
    "alignment",
    "analyze",
    "certificate",
    "certify",
    "frechet_distance",
    "generate",
    "jacobian_spectrum",
    "load_analysis",
    "naive_mvi_test",
    "path_angle",
    "precision_recall",
    "quality",
    "quality_gate",
    "quality_reference",
]
