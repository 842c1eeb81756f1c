"""Bisecting: finds the records for which a target refuses a whole batch, so that all the others are written.

Belongs here: the search, and when to give it up because the reason lies in no record. Does not belong here: which
errors may lie in a record (the adapters say so), what becomes of the guilty (``steps/set_aside.py``).

Halves are written, halves of the refused halves, and so on, breadth first: about ``2 log2(n)`` requests for one record
among n. Writes are upserts, so a record that is written twice on the way is there once.

That a single record is refused does not say that it is to blame. Two things speak against the store instead: 16 parts
and then 32 records all over the batch are refused and nothing of it was accepted, or a record that the target accepted
before is refused as well. Then the error is raised as it came.

A store that fails at a request (it answers 500) may do so because of a record, and because of itself. There the record
that was accepted before is tried first, and a single record counts as guilty only where the store fails at it three
times, and accepts the other one in between.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from rag_migration_pipeline.errors import MigrationError, RecordRejectedError, StoreRequestError, StoreUnavailableError
from rag_migration_pipeline.records import RecordBatch, Rejection
from rag_migration_pipeline.stores.base import WriteResult
from rag_migration_pipeline.stores.retrying import no_patience_with_failures
from rag_migration_pipeline.stores.screening import STAGE

PATIENCE = 16
"""Refusals without a single acceptance before records all over the batch are tried."""

PROBES = 32
"""Records tried then."""

FEW = 8
"""Batches below this size are never given up only because all their records are refused: they may all be guilty."""

CONTROL_EVERY = 64
"""After that many records were found guilty, one that was accepted before is written again."""

CONFIRMATIONS = 2
"""How often a single record is tried again that a store failed at."""

Write = Callable[[RecordBatch], WriteResult]


_SUSPICIOUS = (StoreRequestError, RecordRejectedError, StoreUnavailableError)


class BisectingWriter:
    """Writes batches, setting aside the records that the target refuses.

    May be used by several threads: a record of any of them serves as the control of all.
    """

    def __init__(self, write: Write) -> None:
        """Write through this function, which returns rejections of its own and raises when a batch is refused."""
        self.write = write
        self.control: RecordBatch | None = None

    def write_apart(self, batch: RecordBatch) -> tuple[Rejection, ...]:
        """Write all records that the target accepts; return the others with its reasons.

        Raises:
            MigrationError: The batch cannot be written for a reason that lies in none of its records.
        """
        try:
            return self.noted(batch, self.write(batch))
        except _SUSPICIOUS as error:
            if not may_lie_in_a_record(error):
                raise
            return _Search(self, batch, error).run()

    def noted(self, part: RecordBatch, result: WriteResult) -> tuple[Rejection, ...]:
        """Keep a record of an accepted part as the control; return the part's rejections."""
        if self.control is None and result.written:
            refused = {rejection.record_id for rejection in result.rejections}
            row = next(row for row, record_id in enumerate(part.ids) if record_id not in refused)
            self.control = part.take([row])
        return result.rejections


def may_lie_in_a_record(error: MigrationError) -> bool:
    """Return whether a write might succeed without some of its records."""
    if isinstance(error, StoreRequestError):
        return error.may_lie_in_a_record
    if isinstance(error, StoreUnavailableError):
        return error.is_internal
    return isinstance(error, RecordRejectedError)


class _Search:
    """One batch that was refused."""

    def __init__(self, writer: BisectingWriter, batch: RecordBatch, error: MigrationError) -> None:
        self._writer = writer
        self._batch = batch
        self._error = error
        self._errors = {batch.ids[0]: error} if len(batch) == 1 else {}
        self._refused = 0
        self._has_accepted = False
        self._screened: list[Rejection] = []
        self._guilty: list[Rejection] = []

    def run(self) -> tuple[Rejection, ...]:
        """Find the guilty.

        Raises:
            MigrationError: The error of the whole batch, where no record is to blame.
        """
        is_doubtful = isinstance(self._error, StoreUnavailableError)
        if is_doubtful:
            self._try_control()
        refused = deque([self._batch])
        while refused:
            part = refused.popleft()
            if len(part) > 1:
                refused.extend(half for half in _halves(part) if not self._is_accepted(half))
            else:
                self._set_aside(part)
            if self._refused >= PATIENCE and not self._has_accepted:
                self._try_all_over()
        if not self._has_accepted and (is_doubtful or len(self._guilty) >= FEW):
            raise self._error
        if self._guilty:
            self._try_control()
        return (*self._screened, *self._guilty)

    def _set_aside(self, record: RecordBatch) -> None:
        error = self._errors.pop(record.ids[0])
        if isinstance(error, StoreUnavailableError) and self._is_accepted_later(record):
            return
        self._guilty.append(Rejection(record.ids[0], STAGE, error.what, type(error).__name__))
        if len(self._guilty) % CONTROL_EVERY == 0:
            self._try_control()

    def _is_accepted_later(self, record: RecordBatch) -> bool:
        """Try a record that the store failed at again, each time right after the store has accepted another one."""
        if self._writer.control is None:
            raise self._error
        for _ in range(CONFIRMATIONS):
            self._try_control()
            if self._is_accepted(record):
                return True
        return False

    def _is_accepted(self, part: RecordBatch) -> bool:
        try:
            with no_patience_with_failures():
                result = self._writer.write(part)
        except _SUSPICIOUS as error:
            if not may_lie_in_a_record(error):
                raise
            if len(part) == 1:
                self._errors[part.ids[0]] = error
            self._refused += 1
            return False
        self._screened += self._writer.noted(part, result)
        self._has_accepted |= bool(result.written)
        return True

    def _try_all_over(self) -> None:
        """Try single records; where one is accepted, the search goes on."""
        screened, refused = list(self._screened), self._refused
        for row in np.unique(np.linspace(0, len(self._batch) - 1, PROBES, dtype=np.intp)):
            if self._is_accepted(self._batch.take([int(row)])) and self._has_accepted:
                break
        self._screened = screened  # what was tried comes again, with its part
        if not self._has_accepted and self._refused - refused >= FEW:
            raise self._error

    def _try_control(self) -> None:
        """Write again what was accepted before; if that is refused now, it is not the records."""
        control = self._writer.control
        if control is not None and not self._is_accepted(control):
            error = self._errors.pop(control.ids[0])
            raise error if isinstance(error, StoreUnavailableError) else self._error


def _halves(batch: RecordBatch) -> list[RecordBatch]:
    middle = len(batch) // 2
    return [batch.slice(0, middle), batch.slice(middle, len(batch))]
