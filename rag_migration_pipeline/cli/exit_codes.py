"""Exit codes of ``rag-migrate``, and what they mean.

Belongs here: the codes and their sentences. Does not belong here: which error becomes which (``session.py``).
"""

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command tells its caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INCOMPATIBLE = 3
    PARTLY = 4
    CONTRADICTED = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done, and proven unless validation was switched off",
    ExitCode.FAILED: "failed: a store is away, a collection is missing, the disk is full",
    ExitCode.USAGE: "wrong usage: an option, a file or a URL",
    ExitCode.INCOMPATIBLE: "source and target do not fit; plan shows why",
    ExitCode.PARTLY: "finished, with records that failed or were set aside",
    ExitCode.CONTRADICTED: "the target contradicts what was written, or verify found differences",
    ExitCode.INTERRUPTED: "interrupted; --resume goes on",
}

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANINGS.items()) + "."

_SEVERITY = (
    ExitCode.DONE,
    ExitCode.PARTLY,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.INCOMPATIBLE,
    ExitCode.CONTRADICTED,
    ExitCode.INTERRUPTED,
)


def worst_of(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that counts where several things were done."""
    return max(codes, key=_SEVERITY.index)
