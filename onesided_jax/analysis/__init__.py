"""Analysis of runs: gradient norms, one-sided MVI, quality, verdicts."""

from onesided_jax.analysis._classifier import ClassifierSettings
from onesided_jax.analysis._distances import PrecisionRecall, frechet_distance, precision_recall
from onesided_jax.analysis._modes import Mixture
from onesided_jax.analysis._samples import Exported, export_generator, generate
from onesided_jax.analysis.gate import Gate, quality_gate
from onesided_jax.analysis.minty import naive_mvi_test
from onesided_jax.analysis.quality import Reference, quality, quality_reference
from onesided_jax.analysis.stage import Analysis, analyze, load_analysis
from onesided_jax.analysis.verdict import Verdict

__all__ = [
    "Analysis",
    "ClassifierSettings",
    "Exported",
    "Gate",
    "Mixture",
    "PrecisionRecall",
    "Reference",
    "Verdict",
    "analyze",
    "export_generator",
    "frechet_distance",
    "generate",
    "load_analysis",
    "naive_mvi_test",
    "precision_recall",
    "quality",
    "quality_gate",
    "quality_reference",
]
