"""Faults on purpose: what a sweep survives, as functions that other tests can call.

``python -m tests.faults --full`` injects every fault at full size and writes the figures that
``docs/promises.md`` shows; the tests beside this file run the same functions reduced.
"""
