"""One call of the command: what was asked for, where it prints and logs, and how it ends.

Belongs here: the way from errors to exit codes. Does not belong here: what the commands do (``commands.py``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from rag_migration_pipeline.cli.exit_codes import ExitCode
from rag_migration_pipeline.cli.merging import Asked, asked
from rag_migration_pipeline.cli.showing import Screen
from rag_migration_pipeline.cli.signatures import Request
from rag_migration_pipeline.errors import (
    MigrationError,
    MigrationInterruptedError,
    SchemaCompatibilityError,
    SpecError,
    ValidationError,
)
from rag_migration_pipeline.logs import Secrets, logging_to_stderr
from rag_migration_pipeline.state import default_state_dir


class Session:
    """What a command works with.

    Attributes:
        screen: Where it prints.
        state_dir: Folder of all migrations' state.
        is_single: Whether it is about one migration.
    """

    def __init__(self, request: Request, secrets: Secrets) -> None:
        """Take in what was asked for."""
        self._request = request
        self._secrets = secrets
        self.screen = Screen(request.output, request.quiet)
        self.state_dir = (request.state_dir or default_state_dir()).expanduser().absolute()
        self.is_single = True

    @property
    def has_progress(self) -> bool:
        """Whether progress is shown: not beside JSON log lines."""
        return self._request.log_format == "text"

    @property
    def width(self) -> int:
        """Columns of the terminal; 120 where there is none."""
        console = Console()
        return console.width if console.is_terminal else 120

    def asked(self) -> list[Asked]:
        """Return the migrations that the command is about; ends where only their options were asked for.

        Raises:
            SpecError: They are described wrongly.
        """
        found = asked(self._request.given, self._request.config, is_all=self._request.is_all)
        self.is_single = len(found) == 1
        for item in found:
            self.keep_secret(item.migration.source, item.migration.target)
            for warning in item.warnings():
                self.screen.warn(f"warning: {warning}")
        if self._request.show_config:
            facts = [item.shown() for item in found]
            shown = Screen("yaml" if self.screen.is_table else self.screen.form)
            shown.result(facts[0] if len(facts) == 1 else facts, lambda _console: None)
            raise typer.Exit(ExitCode.DONE)
        return found

    def one(self) -> Asked:
        """Return the one migration that the command is about.

        Raises:
            SpecError: It is about several.
        """
        found = self.asked()
        if len(found) > 1:
            raise SpecError("this command is about one migration.", todo="Use --name instead of --all.")
        return found[0]

    def keep_secret(self, *settings: object) -> None:
        """Mask the secrets of stores in everything that is logged."""
        self._secrets.add(*settings)

    def show(self, show: Callable[[Console], None]) -> None:
        """Print a part of the result for people; where results are for machines, it comes with the whole."""
        if self.screen.is_table:
            self.screen.result(None, show)

    def end(self, code: ExitCode) -> None:
        """End the command with an exit code."""
        if code is not ExitCode.DONE:
            raise typer.Exit(code)

    @staticmethod
    def code_of(error: MigrationError) -> ExitCode:
        """Return the exit code of an error that ended a command."""
        return _code_of(error)


@contextmanager
def session(request: Request) -> Iterator[Session]:
    """Run a command: its log goes to standard error, its errors become exit codes."""
    secrets = Secrets()
    level = request.log_level or ("info" if request.log_format == "json" else "warning")
    run = Session(request, secrets)
    with logging_to_stderr(request.log_format, level, secrets):
        try:
            yield run
        except MigrationError as error:
            code = _code_of(error)
            run.screen.error(error, code, secrets.masked)
            raise typer.Exit(code) from error
        except KeyboardInterrupt as error:
            run.screen.warn("interrupted.")
            raise typer.Exit(ExitCode.INTERRUPTED) from error


def _code_of(error: MigrationError) -> ExitCode:
    kinds = {
        MigrationInterruptedError: ExitCode.INTERRUPTED,
        ValidationError: ExitCode.CONTRADICTED,
        SchemaCompatibilityError: ExitCode.INCOMPATIBLE,
        SpecError: ExitCode.USAGE,
    }
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), ExitCode.FAILED)
