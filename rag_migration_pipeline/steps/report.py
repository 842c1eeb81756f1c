"""Report: proves the whole target collection against the receipts, and says so in a file.

Belongs here: the proof of the whole. Does not belong here: the check of a single range (``steps/validate.py``), what
the report says (``steps/integrity.py``).
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rag_migration_pipeline.errors import MigrationError, ValidationError
from rag_migration_pipeline.events import CollectionProven
from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.receipts import Receipt, read_receipt
from rag_migration_pipeline.records import Metric, RecordId, id_text
from rag_migration_pipeline.state_files import write_atomically, write_content
from rag_migration_pipeline.steps.context import MigrationContext, refuse_unproven
from rag_migration_pipeline.steps.drift import refuse_target_drift, vector_facts
from rag_migration_pipeline.steps.integrity import (
    NAMED,
    RangeFacts,
    Report,
    Timing,
    maker_of,
    named_ranges,
    quarantine_facts,
    range_facts,
)
from rag_migration_pipeline.steps.journal import Journal, noted_ids, settle_generations
from rag_migration_pipeline.steps.manifest import read_left_ids
from rag_migration_pipeline.steps.plan_view import plan_of
from rag_migration_pipeline.steps.receipt_comparison import compare_with_receipt
from rag_migration_pipeline.steps.report_page import write_page
from rag_migration_pipeline.steps.rollback import written_ids
from rag_migration_pipeline.steps.set_aside import QuarantineAccount
from rag_migration_pipeline.steps.validate import Findings, refuse_unaccounted, total_findings
from rag_migration_pipeline.steps.vanished import forget_vanished, note_vanished
from rag_migration_pipeline.stores.readiness import Readiness

__all__ = ["Report", "prove_collection"]

_log = logging.getLogger(__name__)
_HIDDEN = "hidden"
_VANISHED = "was in the target before the migration, and is gone"
_UNTIMED: Mapping[str, Timing] = {}


def prove_collection(
    context: MigrationContext,
    only: Collection[str] | None = None,
    timings: Mapping[str, Timing] = _UNTIMED,
    tell: Callable[[Report], None] | None = None,
) -> Report:
    """Finish loading, read the whole target back range by range, compare it with the receipts, and store the report.

    The report is stored as a page for people first, then as JSON, whose existence says that the proof was made.

    Args:
        context: The migration, all ranges of which are proven.
        only: The ranges to read back, where an earlier proof covers the others; None reads all, and so does a target
            that holds another number of records than it should.
        timings: How long ranges took, by key, where somebody noted it.
        tell: Takes the report once it is stored, whatever it says.

    Raises:
        ManifestError: Ranges have no receipt yet; names them.
        SchemaCompatibilityError: The target's vectors, ids or typed fields are not those that were planned.
        ValidationError: Something is missing, extra or changed; carries the report. The report is stored all the same.
        RecordRejectedError: All ranges together set more records aside than max_rejected allows; the report is stored.
    """
    refuse_unproven(context)
    _finish_target(context)
    outside = {*context.known_ids, *read_left_ids(context.state, context.manifest)}
    if only is not None and not _adds_up(context, outside):
        only = None
    account = QuarantineAccount(context)
    read = _read_back(context, only, outside, account, timings)
    report = _make_report(context, read, outside, account)
    for key in read.contradicted:
        # What the receipt says no longer holds: without it, the next run loads the range again.
        Journal(context.state, key).withdraw_receipt()
    _store(context, report, read)
    context.emit(CollectionProven(context.migration.name, report.written, report.is_proven))
    if tell is not None:
        tell(report)
    if not report.findings.is_clean:
        raise ValidationError(
            f"{context.target.address}, collection {context.migration.target_collection!r} is not what migration "
            f"{context.migration.name!r} wrote: {report.findings.summary()}.",
            todo=_todo(context, report),
            report=report,
            report_page=str(context.state.report_page),
        )
    account.refuse_over_budget()
    settle_generations(context.state, context.manifest.plan_digest)
    context.state.remove_other_plans(context.manifest.plan_digest, context.manifest.generation)
    return report


def _finish_target(context: MigrationContext) -> None:
    """Finish loading a target that is still what was planned: as it is now, not as it was when it was opened."""
    name = context.migration.target_collection
    context.target.forget_spec(name)
    refuse_target_drift(context.manifest, context.migration, context.target)
    context.target.finish_loading(name)


def _store(context: MigrationContext, report: Report, read: "_ReadBack") -> None:
    """Store the report, and what follows from what vanished."""
    write_atomically(context.state.report_page, lambda path: write_page(path, report))
    write_content(context.state.report, report.to_json())
    if read.vanished:
        forget_vanished(context, read.vanished)
    if read.missed:
        note_vanished(context, read.missed)


@dataclass
class _ReadBack:
    """What the ranges say together, and how the target compares with it.

    Attributes:
        counts: The receipts' counts, added up.
        findings: Of the ranges that were read back.
        contradicted: Keys of the ranges in which something differs.
        vanished: Ids that were the migration's, that no range claims any more, and that are gone.
        missed: Ids of records of others that were in the target before, and are gone.
        unread: Records of the other ranges.
        ranges: What is known of each range.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Findings] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)
    vanished: set[RecordId] = field(default_factory=set)
    missed: set[RecordId] = field(default_factory=set)
    unread: int = 0
    ranges: list[RangeFacts] = field(default_factory=list)


def _read_back(
    context: MigrationContext,
    only: Collection[str] | None,
    outside: set[RecordId],
    account: QuarantineAccount,
    timings: Mapping[str, Timing],
) -> _ReadBack:
    """Go through the ranges; ids that a receipt claims are taken out of those outside."""
    read = _ReadBack()
    for entry in context.manifest.ranges:
        receipt = read_receipt(context.state.receipt(entry.key))
        refuse_unaccounted(context, entry.key, receipt.counts, entry.count)
        account.take_in(entry.key, receipt.counts.get("rejected", 0))
        outside.difference_update(receipt.ids)
        read.counts.update(receipt.counts)
        read.counts[_HIDDEN] += _count_hidden(context, receipt)
        found: Findings | None = None
        if only is not None and entry.key not in only:
            read.unread += len(receipt)
        elif context.migration.options.validate_target is Validation.FULL:
            found = compare_with_receipt(context, receipt)
            read.findings.append(found)
            if not found.is_clean:
                read.contradicted.append(entry.key)
        read.ranges.append(range_facts(entry.key, entry.count, receipt.counts, found, timings.get(entry.key)))
    return read


def _todo(context: MigrationContext, report: Report) -> str:
    """Return what helps: loading ranges again puts right what is missing or changed, not what is extra."""
    todo = f"The report {context.state.report} names them; {context.state.report_page.name} beside it is for reading."
    if report.contradicted:
        shown = ", ".join(report.contradicted[:10])
        todo += f" Run the job {report.migration}__migrate, or launch the partitions {shown}: it loads them again."
    if _VANISHED in report.findings.changed.values():
        todo += (
            " Bring back records of others that are gone, or run again: what is gone then too is expected no longer."
        )
    if report.findings.extra:
        todo += " Find out who else writes there; extra records stay until you delete them."
    return todo


def _make_report(
    context: MigrationContext, read: _ReadBack, outside: set[RecordId], account: QuarantineAccount
) -> Report:
    """Count both sides; list the target's ids only where the count alone does not decide."""
    counts, findings = read.counts, total_findings(read.findings)
    written = counts["written"]
    target_count = context.target.count(context.migration.target_collection)
    validation = context.migration.options.validate_target
    is_counted = validation is not Validation.NONE
    is_odd = target_count != written - len(findings.missing) + len(outside)
    stale = 0
    if is_counted and (is_odd or outside):  # one record of others gone and one extra keep the count
        found, stale = _find_extra(context, outside, account, read, is_odd=is_odd)
        findings = total_findings([findings, found])
    unclean = [item for item in read.findings if not item.is_clean]
    context.source.begin_reading()  # its count is that of now
    return Report(
        migration=context.migration.name,
        identity=context.manifest.identity,
        plan=context.manifest.plan_digest,
        proven_at=datetime.now(UTC),
        ranges=len(context.manifest.ranges),
        planned=context.manifest.count,
        written=written,
        filtered=counts["filtered"],
        skipped=counts["skipped"],
        rejected=counts["rejected"],
        left_over=len(outside.difference(context.known_ids, read.vanished)) + stale,
        target_count=target_count,
        source_count=context.source.count(context.migration.source_collection),
        validation=validation.value,
        is_proven=findings.is_clean and validation is Validation.FULL and not account.is_over_budget,
        findings=findings,
        rejections={id_text(item.record_id): item.reason for item in account.rejections[:NAMED]},
        target_collection=context.migration.target_collection,
        contradicted=tuple(read.contradicted),
        notes=_notes(context, counts[_HIDDEN]),
        generation=context.manifest.generation,
        unread=read.unread,
        quarantine=quarantine_facts(account.rejections, str(context.state.quarantines(context.manifest.plan_digest))),
        range_facts=tuple(read.ranges),
        range_of=named_ranges([*zip(read.contradicted, unclean, strict=True)]),
        migration_plan=plan_of(context.migration, context.manifest),
        maker=maker_of(context.migration),
        vectors=vector_facts(context.manifest.target_spec, context.target.spec(context.migration.target_collection)),
        readiness=_readiness(context),
    )


def _readiness(context: MigrationContext) -> Readiness | None:
    """Return whether searches see all of the target; None where the store does not say: it is no part of the proof."""
    try:
        return context.target.readiness(context.migration.target_collection)
    except MigrationError as error:
        _log.warning("whether searches see all of the target is not known: %s", error)
        return None


def _count_hidden(context: MigrationContext, receipt: Receipt) -> int:
    """Return how many vectors of a range the target holds and no search there finds."""
    if not context.target.capabilities.hides_zero_vectors:
        return 0
    vectors = context.target.spec(context.migration.target_collection).vectors
    return sum(receipt.count_zeros(vector) for vector in vectors if vector.metric is Metric.COSINE)


def _notes(context: MigrationContext, hidden: int) -> tuple[str, ...]:
    if not hidden:
        return ()
    store = context.target.capabilities.store
    return (
        f"{hidden} zero vectors under cosine are in the target as they were, and searches in {store} pass them over.",
    )


def _find_extra(
    context: MigrationContext,
    outside: set[RecordId],
    account: QuarantineAccount,
    read: _ReadBack,
    *,
    is_odd: bool,
) -> tuple[Findings, int]:
    """Name the ids that no receipt knows and that were not there before, and those that come twice or are gone.

    Of a record that was set aside, or is written under another id now, the target may hold what an earlier run wrote.

    Args:
        context: The migration.
        outside: Ids that no receipt claims, and that are to be there.
        account: What was set aside.
        read: Takes those of them that are gone; of these, records of others are findings.
        is_odd: Whether the target's count is another one than was expected.

    Returns:
        What was found, and how many records the migration wrote once and claims no more.
    """
    expected = set(outside)
    for entry in context.manifest.ranges:
        expected.update(read_receipt(context.state.receipt(entry.key)).ids)
    set_aside = account.target_ids | noted_ids(context.state)  # written once, and claimed by no receipt any more
    if account.has_unnamed:
        set_aside |= written_ids(context.state, context.manifest)
    allowed = expected | set_aside
    extra: list[str] = []
    seen: set[RecordId] = set()
    for page in context.target.iter_ids(context.migration.target_collection):
        for record_id in page:
            if record_id in seen or record_id not in allowed:
                extra.append(id_text(record_id))
            seen.add(record_id)
    gone = expected - seen
    read.missed = (outside - seen).intersection(context.known_ids) - set_aside
    read.vanished = outside - seen - read.missed
    changed = {id_text(i): _VANISHED for i in read.missed}
    if is_odd and not extra and not gone and not seen & set_aside - expected:
        changed["(count)"] = "the store counts other records than it lists"
    is_full = context.migration.options.validate_target is Validation.FULL  # the comparison has named the missing
    missing = () if is_full else tuple(sorted(map(id_text, gone - outside)))
    return Findings(0, missing, tuple(extra), changed), len(seen & set_aside - expected)


def _adds_up(context: MigrationContext, outside: set[RecordId]) -> bool:
    """Return whether the target holds as many records as the receipts say, and those that were there before."""
    owned = set(outside)
    for entry in context.manifest.ranges:
        owned.update(read_receipt(context.state.receipt(entry.key)).ids)
    return context.target.count(context.migration.target_collection) == len(owned)
