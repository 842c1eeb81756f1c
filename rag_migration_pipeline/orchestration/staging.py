"""Staged ranges: what travels between ops is small, the records wait in Arrow files beside the state or elsewhere.

Belongs here: which files a range has, how they are read as batches, which batches a load has acknowledged. Does not
belong here: the Arrow form (``arrow.py``), what the steps do.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest

import numpy as np

from rag_migration_pipeline.arrow import read_batches, size_of, write_batches
from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.filters import Filter, parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.records import RecordBatch, RecordId, SetAside, id_from_text, id_text
from rag_migration_pipeline.remote_files import AnyPath
from rag_migration_pipeline.sightings import Fate, Watch, read_sightings, write_sightings
from rag_migration_pipeline.state_files import staging_errors, write_atomically, write_content
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.launching import HeldBack, left_pending
from rag_migration_pipeline.steps.leaving_out import noting_gone
from rag_migration_pipeline.steps.range import transformed
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.transform import transform_batch, warning
from rag_migration_pipeline.written import WrittenBatch, read_written, write_written


@dataclass(frozen=True)
class StagedRange:
    """A range on its way: what one op hands to the next.

    Attributes:
        records: Records that the step before passed on.
        extracted: Records that were read from the source.
        filtered: Records that the filter left out.
        rejected: Records that the steps before the load set aside.
        held: Records that the launch leaves pending; they are in no file.
        is_filtered: Whether a row selection lies beside the extract.
        is_mapped: Whether the records lie beside it as a mapping made them; otherwise they are mapped on their way.
        durations_s: Step -> seconds spent.
        size_bytes: Approximate size of the records as read, in bytes.
        token: Which extract this is: files of a range are those of the last one.
        carries: How many records the range's task had when it was loaded.
        is_whole: Whether these were all of the range.
        written_by: The run whose load kept what it wrote of every batch; empty where it set records aside.
        batches: How many batches those are.
    """

    key: str
    records: int
    extracted: int = 0
    filtered: int = 0
    rejected: int = 0
    held: int = 0
    is_filtered: bool = False
    is_mapped: bool = False
    size_bytes: int = 0
    token: str = ""
    carries: int = -1
    is_whole: bool = True
    written_by: str = ""
    batches: int = 0
    durations_s: Mapping[str, float] = field(default_factory=dict)

    def after(self, step: str, duration_s: float, **changes: object) -> "StagedRange":
        """Return the range as the step leaves it."""
        return replace(self, durations_s={**self.durations_s, step: duration_s}, **changes)  # type: ignore[arg-type]


def stage_extract(context: MigrationContext, key: str) -> StagedRange:
    """Read a range from the source into its Arrow file, without the records that the launch does not take.

    Raises:
        SourceChangedError: Records of the manifest are gone from the source.
        StagingError: The file cannot be written.
    """
    task, watch, held = open_task(context.state, context.manifest, key), Watch(), HeldBack(context.migration.only)
    path = _extract(context, key)
    with staging_errors(path):
        for of_the_last_extract in (_selection(context, key), _mapped(context, key)):
            of_the_last_extract.unlink(missing_ok=True)
    token = uuid.uuid4().hex
    with noting_gone(context.state, key):
        records = write_batches(path, extract_batches(context, task.record_range, watch, task.repairs, held))
    write_sightings(_sightings(context, key), watch.sightings(), token)
    left = left_pending(context, task, held)
    if left:
        texts = json.dumps({"extract": token, "held": [id_text(record_id) for record_id in left]}).encode()
        write_content(_held(context, key), texts)
    extracted = records + len(held.ids)
    return StagedRange(key, records, extracted=extracted, held=len(left), size_bytes=size_of(path), token=token)


def held_ids(context: MigrationContext, staged: StagedRange) -> list[RecordId]:
    """Return the records, as the source names them, that the launch leaves pending in a range.

    Raises:
        StagingError: They are gone, or another extract's.
    """
    if not staged.held:
        return []
    path = _held(context, staged.key)
    with staging_errors(path):
        noted = json.loads(path.read_bytes())
    if noted["extract"] != staged.token:
        raise StagingError(
            f"range {staged.key}: {path} is of another extract than the one that was loaded.",
            todo="Two runs stage the same range; run it again when the other has ended.",
        )
    return [id_from_text(text) for text in noted["held"]]


def stage_selection(context: MigrationContext, key: str, wanted: Filter) -> int:
    """Store which records the filter takes, batch by batch; returns their number."""
    masks = [_mask(batch, wanted) for batch in read_batches(_extract(context, key))]
    mask = np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)
    write_atomically(_selection(context, key), lambda path: _save(path, mask))
    return int(mask.sum())


def stage_mapped(context: MigrationContext, staged: StagedRange, set_aside: SetAside) -> int:
    """Store the records as the migration's mapping makes them; returns their number.

    A mapping changes no vectors, so the file has none: they stay in the extract, batch by batch beside it.

    Raises:
        RecordRejectedError: A record cannot be mapped, under the policy ``fail``.
        SpecError: A hook of the mapping failed.
    """
    warn = warning(context.emit, context.migration.name, staged.key)
    mapping = context.mapping
    assert mapping is not None
    taken = _taken_batches(context, staged)
    mapped = (transform_batch(batch, mapping, set_aside, warn)[0].with_columns(vectors={}) for batch in taken)
    return write_batches(_mapped(context, staged.key), mapped)


def staged_batches(
    context: MigrationContext, staged: StagedRange, set_aside: SetAside, watch: Watch | None = None
) -> Iterator[tuple[RecordBatch, RecordBatch]]:
    """Yield the staged batches that are to be loaded, always cut the same way, each with its records as they were read.

    Where the files are gone (a re-execution elsewhere, a cleaned disk), the steps before are done again.

    Args:
        context: The migration.
        staged: The range.
        set_aside: Takes the records that cannot be mapped, where the range is mapped on its way and not before.
        watch: Is told what was seen of the records, and which ones the filter leaves out.

    Raises:
        StagingError: The files do not fit together.
    """
    if not staged.is_mapped:
        yield from transformed(context, staged.key, _taken_batches(context, staged, watch), set_aside)
        return
    path = _mapped(context, staged.key)
    if not path.exists():
        stage_mapped(context, staged, lambda _records, _rejections: None)  # who is set aside is in the quarantine file
    for mapped, taken in zip_longest(read_batches(path), _taken_batches(context, staged, watch)):
        as_read = None if mapped is None or taken is None else _as_read(mapped, taken)
        if as_read is None:
            raise StagingError(
                f"range {staged.key}: the mapped records in {path} are not those of the extract beside it.",
                todo="Two runs stage the same range; run it again when the other has ended.",
            )
        if len(mapped):
            yield mapped.with_columns(vectors=as_read.vectors), as_read


def _as_read(mapped: RecordBatch, taken: RecordBatch) -> RecordBatch | None:
    """Return the records of a mapped batch as they were read, in the same order; None where there are others in it."""
    source_ids = mapped.source_ids or mapped.ids
    if list(source_ids) == list(taken.ids):
        return taken
    places = {record_id: row for row, record_id in enumerate(taken.ids)}
    return taken.take(places[i] for i in source_ids) if places.keys() >= set(source_ids) else None


def _taken_batches(context: MigrationContext, staged: StagedRange, watch: Watch | None = None) -> Iterator[RecordBatch]:
    """Yield the batches that the filter passed on."""
    if not _extract(context, staged.key).exists():
        stage_extract(context, staged.key)
    seen = read_sightings(_sightings(context, staged.key)) if watch is not None else None
    if watch is not None and seen is not None:
        watch.add(seen)
    batches = read_batches(_extract(context, staged.key))
    if not staged.is_filtered:
        yield from batches
        return
    mask = _read_selection(context, staged.key)
    if mask is None:
        stage_selection(context, staged.key, parse_filter(context.migration.options.filter))
        mask = _read_selection(context, staged.key)
        assert mask is not None
    start = 0
    for batch in batches:
        rows = np.flatnonzero(mask[start : start + len(batch)])
        start += len(batch)
        if watch is not None and len(rows) < len(batch):
            taken = set(rows.tolist())
            watch.note(Fate.FILTERED, (i for row, i in enumerate(batch.ids) if row not in taken))
        yield batch if len(rows) == len(batch) else batch.take(rows)
    if start != len(mask):
        raise StagingError(
            f"range {staged.key}: the selection is of {len(mask)} records, the extract has {start}.",
            todo="Two runs stage the same range; run it again when the other has ended.",
        )


def acknowledged_batches(context: MigrationContext, key: str, run_id: str) -> int:
    """Return how many batches of a range this run has written already; a retried load goes on after them."""
    return next(number for number in count() if not _written(context, key, run_id, number + 1).exists())


def note_written(context: MigrationContext, key: str, run_id: str, number: int, batch: WrittenBatch) -> None:
    """Note that the target has acknowledged a batch of a range, counted from 1, and what it was given."""
    write_written(_written(context, key, run_id, number), batch)


def written_batches(context: MigrationContext, staged: StagedRange, watch: Watch) -> Iterable[WrittenBatch] | None:
    """Return what the load kept of all batches of a range, read one by one.

    None where it did not keep all, or where what was seen of the records is another extract's than the loaded one.

    Args:
        context: The migration.
        staged: The range.
        watch: Is told what was seen of the records, and which ones the filter left out.
    """
    paths = [_written(context, staged.key, staged.written_by, number) for number in range(1, staged.batches + 1)]
    # First: an extract removes the selection, and writes what it saw, before there is another selection.
    mask = _read_selection(context, staged.key) if staged.is_filtered else None
    seen = read_sightings(_sightings(context, staged.key), staged.token) if staged.written_by else None
    if seen is None:
        return None
    if staged.is_filtered:
        if mask is None or len(mask) != len(seen):
            return None
        watch.note(Fate.FILTERED, (seen.source_ids[row] for row in np.flatnonzero(~mask).tolist()))
    watch.add(seen)
    return map(read_written, paths)


def _mask(batch: RecordBatch, wanted: Filter) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    mask = np.zeros(len(batch), dtype=np.bool_)
    mask[np.fromiter(select_rows(batch, wanted), dtype=np.intp)] = True
    return mask


def _read_selection(context: MigrationContext, key: str) -> "np.ndarray[tuple[int], np.dtype[np.bool_]] | None":
    path = _selection(context, key)
    if not path.exists():
        return None
    with staging_errors(path), path.open("rb") as file:
        mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.load(file)
    return mask


def _save(path: AnyPath, mask: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
    with path.open("wb") as file:
        np.save(file, mask)


def _extract(context: MigrationContext, key: str) -> AnyPath:
    return context.state.staging(key) / "extract.arrow"


def _sightings(context: MigrationContext, key: str) -> AnyPath:
    return context.state.staging(key) / "sightings.arrow"


def _held(context: MigrationContext, key: str) -> AnyPath:
    return context.state.staging(key) / "held.json"


def _selection(context: MigrationContext, key: str) -> AnyPath:
    return context.state.staging(key) / "selection.npy"


def _mapped(context: MigrationContext, key: str) -> AnyPath:
    return context.state.staging(key) / "mapped.arrow"


def _written(context: MigrationContext, key: str, run_id: str, number: int) -> AnyPath:
    return context.state.staging(key) / f"written-{run_id}-{number:06d}.arrow"
