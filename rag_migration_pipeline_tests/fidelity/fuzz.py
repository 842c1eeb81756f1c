"""The tests marked ``fuzz``, again and again with fresh seeds: ``make fuzz`` (``MINUTES=10``; 0 never ends).

Belongs here: the command. Does not belong here: what is tried (the tests). Every round is a run of pytest with a seed
of its own, which is printed first, so that a failure can be repeated.
"""

import argparse
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence


def run_rounds(minutes: float, scale: float, chosen: Sequence[str]) -> int:
    """Run rounds until one fails or the time is over; return the exit code of the last.

    Args:
        minutes: No new round begins after that many; 0 means without end.
        scale: As of the tests.
        chosen: More arguments for pytest, such as ``-k milvus``.
    """
    deadline = time.monotonic() + 60 * minutes
    while True:
        seed = secrets.randbelow(2**32)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "fuzz",
            f"--scale={scale:g}",
            f"--hypothesis-seed={seed}",
        ]
        command += chosen
        print(f"fuzz: {' '.join(command[1:])}", flush=True)  # noqa: T201  this is the command
        code = subprocess.run(command, check=False).returncode
        if code:
            print(f"fuzz: to repeat it: python {' '.join(command[1:])}", flush=True)  # noqa: T201
            return code
        if minutes and time.monotonic() > deadline:
            return 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10, help="0 for no end")
    parser.add_argument("--scale", type=float, default=3)
    options, chosen = parser.parse_known_args()
    return run_rounds(options.minutes, options.scale, chosen)


if __name__ == "__main__":
    sys.exit(main())
