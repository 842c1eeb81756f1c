"""Tests: the contract of the stores, units, steps, orchestration, and the matrix of all pairs."""
