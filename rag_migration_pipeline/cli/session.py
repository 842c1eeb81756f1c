"""One call of the command: what was asked for, where it prints and logs, and how it ends.

Belongs here: the way from errors to exit codes. Does not belong here: what the commands do (``commands.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from rag_migration_pipeline.cli.exit_codes import ExitCode
from rag_migration_pipeline.cli.merging import Asked, asked, asked_of
from rag_migration_pipeline.cli.showing import Screen, result_table
from rag_migration_pipeline.cli.signatures import Request
from rag_migration_pipeline.errors import (
    MigrationError,
    MigrationInterruptedError,
    SchemaCompatibilityError,
    SpecError,
    ValidationError,
)
from rag_migration_pipeline.logs import Secrets, logging_to_stderr
from rag_migration_pipeline.models import MigrationResult
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
            self._look_at(item)
        if self._request.show_config:
            facts = [item.shown() for item in found]
            self.screen.facts(facts[0] if len(facts) == 1 else facts)
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

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse options that describe no migration, and warn as before a run.

        Raises:
            SpecError: Names what is wrong.
        """
        self._look_at(asked_of(values))

    def keep_secret(self, *settings: object) -> None:
        """Mask the secrets of stores in everything that is logged."""
        self._secrets.add(*settings)

    def _look_at(self, item: Asked) -> None:
        self.keep_secret(item.migration.source, item.migration.target)
        for warning in item.warnings():
            self.screen.warn(f"warning: {warning}")

    def result(self, facts: Any, *parts: str | Table) -> None:
        """Print a result: its facts for machines, or its parts for people."""
        if self.screen.is_table:
            self.screen.parts(*parts)
        else:
            self.screen.facts(facts)

    def results(self, facts: Sequence[Any]) -> None:
        """Print, for machines, the results of what was shown to people one by one; a single one is no list."""
        if not self.screen.is_table:
            self.screen.facts(facts[0] if self.is_single and not self._request.is_all else facts)

    def show(self, *parts: str | Table) -> None:
        """Print a part of the result for people; where results are for machines, it comes with the whole."""
        if self.screen.is_table:
            self.screen.parts(*parts)

    def tell(self, error: MigrationError, code: ExitCode, about: str = "") -> dict[str, Any]:
        """Tell an error in words; return what machines are told of it, with the result that it carries, if any."""
        masked, kind = self._secrets.masked, type(error).__name__
        said = {"error": {"type": kind, "message": masked(error.what), "todo": masked(error.todo)}, "exit_code": code}
        if isinstance(error, ValidationError) and isinstance(error.result, MigrationResult):
            self.show(result_table(error.result, about or error.result.source_collection))
            said["result"] = error.result.to_dict()
        self.screen.error(f"{about}: {kind}" if about else kind, masked(str(error)))
        return said

    def end(self, code: ExitCode) -> None:
        """End the command with an exit code."""
        if code is not ExitCode.DONE:
            raise typer.Exit(code)


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
            code = exit_code_of(error)
            said = run.tell(error, code)
            if not run.screen.is_table:
                run.screen.facts(said)
            raise typer.Exit(code) from error
        except KeyboardInterrupt as error:
            run.screen.warn("interrupted.")
            raise typer.Exit(ExitCode.INTERRUPTED) from error


def exit_code_of(error: MigrationError) -> ExitCode:
    """Return the exit code of an error that ended a command."""
    kinds = {
        MigrationInterruptedError: ExitCode.INTERRUPTED,
        ValidationError: ExitCode.CONTRADICTED,
        SchemaCompatibilityError: ExitCode.INCOMPATIBLE,
        SpecError: ExitCode.USAGE,
    }
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), ExitCode.FAILED)
