"""What a mapping does to the fields of records: operations on a batch while it is mapped, each one pass over its rows.

Belongs here: leaving out, converting, moving, filling fields. Does not belong here: their order (``mapper.py``), users'
callables on whole records (``hooks.py``).
"""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from rag_migration_pipeline.mapping import NOW, DefaultOnError, Function, IdKind, OnError, SchemaMapping, Transform
from rag_migration_pipeline.mapping.checks import id_source
from rag_migration_pipeline.mapping.conversions import Conversion, parse_conversion
from rag_migration_pipeline.mapping.hooks import Record, call_per_record, own_copy, refuse_foreign
from rag_migration_pipeline.mapping.paths import MISSING, FieldPath, Role, parse_path, put, read, replace, take
from rag_migration_pipeline.records import Payload, RecordBatch, RecordId, id_kind


class Work:
    """A batch while it is mapped: its columns as lists, and which rows are still in it."""

    def __init__(self, batch: RecordBatch, *, is_deep: bool) -> None:
        self.ids = list(batch.ids)
        self.payloads: list[Payload] = (
            [own_copy(payload) for payload in batch.payloads] if is_deep else [dict(p) for p in batch.payloads]
        )
        self.documents: list[str | None] = list(batch.documents or [None] * len(batch))
        self.rows: Sequence[int] = range(len(batch))
        self.failed: dict[int, str] = {}
        self.is_fatal = False
        self.deprecated: Counter[str] = Counter()

    def fail(self, row: int, reason: str, policy: OnError) -> None:
        """Take a record out."""
        self.failed[row] = reason
        self.is_fatal = self.is_fatal or policy is OnError.FAIL

    def sweep(self) -> None:
        """Forget the rows that failed, before the next operation."""
        if len(self.rows) + len(self.failed) > len(self.ids):
            self.rows = [row for row in self.rows if row not in self.failed]


Operation = Callable[[Work], None]


# -- what is left out -----------------------------------------------------------------------------------------


def selection_operations(mapping: SchemaMapping) -> list[Operation]:
    """Return what leaves fields out, and counts the deprecated ones before."""
    operations: list[Operation] = []
    if mapping.deprecated:
        operations.append(partial(_count_deprecated, [parse_path(text) for text in mapping.deprecated]))
    dropped = [text for text, item in mapping.deprecated.items() if mapping.drops(item)]
    excluded = [parse_path(text) for text in (*mapping.exclude_fields, *dropped)]
    if mapping.include_fields is not None:
        included = [parse_path(text) for text in mapping.include_fields]
        operations.append(partial(_include, included, mapping.on_error))
    if excluded:
        operations.append(partial(_exclude, excluded, mapping.on_error))
    return operations


def _count_deprecated(paths: Sequence[FieldPath], work: Work) -> None:
    for row in work.rows:
        for path in paths:
            try:
                work.deprecated[path.text] += read(work.payloads[row], path) is not MISSING
            except ValueError:
                continue  # the path leads into a scalar: the record does not have the field


def _include(paths: Sequence[FieldPath], policy: OnError, work: Work) -> None:
    for row in work.rows:
        payload = work.payloads[row]
        kept: Payload = {}
        try:
            for path in paths:
                for rest, value in take(payload, path):
                    put(kept, _place(path, rest), value)
        except ValueError as error:
            work.fail(row, str(error), policy)
        work.payloads[row] = kept


def _exclude(paths: Sequence[FieldPath], policy: OnError, work: Work) -> None:
    for row in work.rows:
        try:
            for path in paths:
                if path.role is Role.DOCUMENT:
                    work.documents[row] = None
                else:
                    take(work.payloads[row], path)
        except ValueError as error:
            work.fail(row, str(error), policy)


# -- values ---------------------------------------------------------------------------------------------------


def transform_operation(path: FieldPath, transform: Transform, policy: OnError) -> Operation:
    """Return what applies a transform to all records that have the field."""
    fallback = transform.on_error if isinstance(transform.on_error, DefaultOnError) else None
    own = transform.on_error if isinstance(transform.on_error, OnError) else policy
    convert = converter(transform)

    def operation(work: Work) -> None:
        for row in work.rows:
            payload = work.payloads[row]
            try:
                value = _value(work, row, path)
                if value is MISSING:
                    continue
                try:
                    value = convert(value)
                except ValueError:
                    if fallback is None:
                        raise
                    value = own_copy(fallback.default)
                if path.role is Role.DOCUMENT:
                    work.documents[row] = _as_document(value)
                elif len(path.keys) == 1:
                    payload[path.keys[0]] = value
                else:
                    replace(payload, path, value)
            except ValueError as error:
                work.fail(row, f"field {path.text!r}: {error}", own)

    return operation


def _value(work: Work, row: int, path: FieldPath) -> Any:
    """Return the value at a path, or `MISSING`."""
    if path.role is Role.DOCUMENT:
        document = work.documents[row]
        return MISSING if document is None else document
    if len(path.keys) == 1:
        return work.payloads[row].get(path.keys[0], MISSING)
    return read(work.payloads[row], path)


def converter(transform: Transform) -> Callable[[Any], Any]:
    """Return all steps of a transform in one; it raises ValueError with the reason where one of them fails."""
    steps = transform.apply
    is_foreign = not all(isinstance(step, Conversion) for step in steps)

    def convert(value: Any) -> Any:
        for step in steps:
            try:
                value = step(value)
            except ValueError as error:
                raise ValueError(f"{step.name}: {str(error)[:200]}") from error
            except Exception as error:
                raise ValueError(f"{step.name} raised {type(error).__name__}: {str(error)[:200]}") from error
        if is_foreign:
            refuse_foreign(value)
        return value

    return convert


# -- places ---------------------------------------------------------------------------------------------------


def move_operation(mapping: SchemaMapping) -> Operation:
    """Return what renames fields and sets ids and documents, all at once."""
    pairs = [(parse_path(old), parse_path(new, is_target=True)) for old, new in mapping.renames.items()]
    pairs.sort(key=lambda pair: pair[0].has_star)  # a name wins over a star
    is_plain = all(
        path.role is Role.FIELD and len(path.keys) == 1 and not path.has_star for pair in pairs for path in pair
    )
    if is_plain and mapping.id_from is None and mapping.document_from is None:
        return partial(_rename_plain, [(old.keys[0], new.keys[0]) for old, new in pairs], mapping.on_error)
    return partial(_move, mapping, pairs, id_source(mapping))


def _rename_plain(pairs: Sequence[tuple[str, str]], policy: OnError, work: Work) -> None:
    """Rename keys of the payload itself: the usual case, in one pass."""
    for row in work.rows:
        payload = work.payloads[row]
        moved = [(new, payload.pop(old)) for old, new in pairs if old in payload]
        for new, value in moved:
            if new in payload:
                work.fail(row, f"the record already has the key {new!r}", policy)
            payload[new] = value


def _move(
    mapping: SchemaMapping, pairs: Sequence[tuple[FieldPath, FieldPath]], id_path: FieldPath | None, work: Work
) -> None:
    document_path = None if mapping.document_from is None else parse_path(mapping.document_from)
    for row in work.rows:
        payload = work.payloads[row]
        try:
            new_id = None if id_path is None else as_id(read(payload, id_path), id_path, mapping.id_kind)
            copied = MISSING if document_path is None else read(payload, document_path)
            moved = [item for source, target in pairs for item in _lifted(work, row, source, target)]
            for target, rest, value in moved:
                if target.role is Role.DOCUMENT:
                    _set_document(work, row, value)
                elif target.role is Role.FIELD:
                    put(payload, _place(target, rest), value)
            if copied is not MISSING:
                _set_document(work, row, copied)
            if new_id is not None:
                work.ids[row] = new_id
        except ValueError as error:
            work.fail(row, str(error), mapping.on_error)


def _lifted(work: Work, row: int, source: FieldPath, target: FieldPath) -> list[tuple[FieldPath, str, Any]]:
    """Take what a source path points at out of a record, for its target."""
    if source.role is Role.ID:
        old = work.ids[row]
        return [(target, "", str(old) if isinstance(old, uuid.UUID) else old)]
    if source.role is Role.DOCUMENT:
        document, work.documents[row] = work.documents[row], None
        return [] if document is None else [(target, "", document)]
    return [(target, rest, value) for rest, value in take(work.payloads[row], source)]


def _place(path: FieldPath, rest: str) -> tuple[str, ...]:
    """Return the keys of a path, with what the star stands for."""
    return (*path.keys[:-1], path.keys[-1] + rest) if path.has_star else path.keys


def _set_document(work: Work, row: int, value: Any) -> None:
    if work.documents[row] is not None:
        raise ValueError("the record already has a document")
    work.documents[row] = _as_document(value)


def _as_document(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"the document has to be a text, got {type(value).__name__}")
    return value


def as_id(value: Any, path: FieldPath, kind: IdKind | None) -> RecordId:
    """Return a value as an id.

    Raises:
        ValueError: It is missing, null, of another type, or outside 64 bits.
    """
    label = f"the field {path.text!r}, which becomes the id,"
    if value is MISSING or value is None:
        raise ValueError(f"{label} is {'missing' if value is MISSING else 'null'}")
    try:
        if kind is IdKind.UUID:
            return uuid.UUID(_AS_UUID(value))
        if kind is IdKind.INT:
            value = _AS_INT(value)
        if type(value) not in (str, int):
            raise ValueError(f"expected a text or a whole number, got {type(value).__name__}")  # noqa: TRY301
        new: RecordId = str(value) if kind is IdKind.STRING else value
        id_kind(new)
    except TypeError as error:
        raise ValueError(f"{label} is outside the range of 64-bit integers") from error
    except ValueError as error:
        raise ValueError(f"{label} cannot: {error}") from error
    return new


_AS_INT, _AS_UUID = parse_conversion("int"), parse_conversion("uuid")


def default_operation(mapping: SchemaMapping, now: datetime) -> Operation:
    """Return what gives records the fields that they do not have."""
    values: dict[FieldPath, Any] = {
        parse_path(text, is_target=True): now if value == NOW else value for text, value in mapping.defaults.items()
    }
    plain = [(path.keys[0], value) for path, value in values.items() if _is_plain_default(path, value)]
    others = [(path, value) for path, value in values.items() if not _is_plain_default(path, value)]

    def operation(work: Work) -> None:
        for row in work.rows:
            payload = work.payloads[row]
            for key, value in plain:
                payload.setdefault(key, value)
            try:
                for path, value in others:
                    if path.role is Role.DOCUMENT:
                        work.documents[row] = value if work.documents[row] is None else work.documents[row]
                    elif read(payload, path) is MISSING:
                        put(payload, path.keys, own_copy(value))
            except ValueError as error:
                work.fail(row, str(error), mapping.on_error)

    return operation


def _is_plain_default(path: FieldPath, value: Any) -> bool:
    return path.role is Role.FIELD and len(path.keys) == 1 and not isinstance(value, dict | list | set)


def record_operation(function: Function, policy: OnError) -> Operation:
    """Return what gives every record to a user's callable."""

    def operation(work: Work) -> None:
        for row in work.rows:
            given = Record(work.ids[row], work.payloads[row], work.documents[row])
            try:
                found = call_per_record(function, given)
            except ValueError as error:
                work.fail(row, str(error), policy)
                continue
            work.payloads[row], work.documents[row] = found.payload, found.document

    return operation
