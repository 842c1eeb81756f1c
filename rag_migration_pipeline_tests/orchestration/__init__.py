"""The Dagster layer: assets, jobs, backfills, checks, resources, configuration and what a failing run says."""
