"""Tests against servers, clients and documents of other projects.

Invariant: a run of these tests writes every cell of ``docs/conformance.md``; nobody writes one by hand.
"""
