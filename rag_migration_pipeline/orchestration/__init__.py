"""The Dagster code, thin: assets, ops, checks, resources around the steps, which know nothing of it."""
