"""Analysis of runs: gradient norms, the one-sided MVI, verdicts."""

from onesided_jax.analysis.stage import Analysis, analyze, generate, load_analysis
from onesided_jax.analysis.verdict import Verdict, naive_mvi_test

__all__ = ["Analysis", "Verdict", "analyze", "generate", "load_analysis", "naive_mvi_test"]
