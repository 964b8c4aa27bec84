"""The suites by name; each module has ``run(scale, folder) -> SuiteResult``."""

SUITES = {
    "dcgan": "benchmarks.suites.dcgan",
    "mlp": "benchmarks.suites.mlp",
    "games": "benchmarks.suites.games",
    "steps": "benchmarks.suites.steps",
    "compile": "benchmarks.suites.compilation",
    "checkpoints": "benchmarks.suites.checkpoints",
    "memory": "benchmarks.suites.memory",
    "scaling": "benchmarks.suites.scaling",
    "analysis": "benchmarks.suites.analysis",
}
