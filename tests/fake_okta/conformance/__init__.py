"""Proof against servers, clients and descriptions that are not this project's own.

Invariant: what ``docs/conformance.md`` says is what a run of these tests saw; no cell of it is written by hand.
"""
