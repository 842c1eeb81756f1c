"""The benchmark: what a migration costs beside a straight-line script with the vendors' clients.

    python -m benchmarks --help

Reading order: ``__main__`` (options, order of runs) -> ``places`` (servers and folders) -> ``variant`` (one measured
run in a process of its own) -> ``straight_line`` and ``pipeline`` (what is measured) -> ``report``. ``again`` measures
second runs beside full ones. ``data`` makes the records.
"""
