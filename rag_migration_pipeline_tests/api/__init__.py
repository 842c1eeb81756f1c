"""The Python API, as callers see it."""
