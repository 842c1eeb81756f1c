"""Which parts of a migration's filter are decided before a record is read, and by whom.

Belongs here: dividing a filter among the store, the listed ids and the evaluator, saying so in words, refusing filters
that contradict the source's schema. Does not belong here: what a store can be asked (``stores/narrowing.py`` and the
adapters), what a filter means (``filters/meaning.py``): the filter step evaluates the whole filter in any case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters.nodes import (
    EVERYTHING,
    ID_FIELD,
    ORDERINGS,
    Comparison,
    Filter,
    all_of,
    as_dict,
    comparisons,
    conjuncts,
    is_number,
)
from rag_migration_pipeline.payloads import ENVELOPE_KEY, encode
from rag_migration_pipeline.records import CollectionSpec, FieldSpec
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.narrowing import Handling, Narrowing, query_of


@dataclass(frozen=True)
class PushDown:
    """How a filter is divided.

    Attributes:
        where: What the source is asked for; None asks for everything.
        on_ids: The part that ids alone decide; `EVERYTHING` where there is none.
        lines: Per part of the filter, the part and who decides it.
    """

    where: Narrowing | None
    on_ids: Filter
    lines: tuple[str, ...]

    @property
    def is_narrowed(self) -> bool:
        """Whether fewer ids may be listed than the source has."""
        return query_of(self.where) is not None or self.on_ids != EVERYTHING


NOTHING_PUSHED_DOWN = PushDown(None, EVERYTHING, ())
"""Where there is no filter."""


def describe_push_down(store: VectorStore, collection: str, wanted: Filter) -> PushDown:
    """Return how a filter is divided when a collection is the source.

    Args:
        store: The source.
        collection: The source collection.
        wanted: The filter.
    """
    parts = conjuncts(wanted)
    on_ids = [part for part in parts if _is_about_ids(part)]
    others = [part for part in parts if not _is_about_ids(part)]
    where = store.narrow(collection, others) if others else None
    handling = dict(zip(map(id, others), where.handling, strict=True)) if where is not None else {}
    lines = [_line(part, handling.get(id(part), Handling.IDS)) for part in parts]
    return PushDown(where if query_of(where) is not None else None, all_of(on_ids), tuple(lines))


def not_pushed_down(wanted: Filter) -> PushDown:
    """Return the division that leaves everything to the evaluator."""
    return PushDown(None, EVERYTHING, tuple(_line(part, Handling.EVALUATED) for part in conjuncts(wanted)))


def _line(part: Filter, handling: Handling) -> str:
    return f"{encode(as_dict(part)).strip()}: {handling.value}"


def _is_about_ids(part: Filter) -> bool:
    return all(node.field == ID_FIELD for node in comparisons(part))


def refuse_mistyped(wanted: Filter, spec: CollectionSpec, document_key: str) -> None:
    """Refuse comparisons of a typed field with what it can never hold; they would take nothing, or everything.

    Args:
        wanted: The filter.
        spec: The source collection.
        document_key: The payload key of documents, where the store has none beside the payload.

    Raises:
        SpecError: Names every such comparison.
    """
    if spec.id_field is None:  # an index of a store without a schema forces nothing on the values
        return
    typed = {field.name: field for field in spec.fields if field.name not in (ENVELOPE_KEY, document_key)}
    problems = [problem for node in comparisons(wanted) for problem in _mistyped(node, typed, spec)]
    if problems:
        raise SpecError(
            f"the filter does not fit the fields of collection {spec.name!r}: {'; '.join(problems)}.",
            todo="Compare each field with values of its type.",
        )


_TEXT_OPERATORS = ("$contains", "$not_contains", "$like", "$regex")


def _mistyped(node: Comparison, typed: dict[str, FieldSpec], spec: CollectionSpec) -> Sequence[str]:
    field = typed.get(node.field)
    if field is None:
        first = typed.get(node.field.partition(".")[0])
        is_path = first is not None and "." in node.field and not spec.settings.get("has_dynamic_field")
        return (
            [f"{node.field!r} leads into the {first.type} field {first.name!r}"]
            if is_path and first and _is_scalar(first)
            else []
        )
    if not _is_scalar(field) or node.operator == "$exists":
        return []
    if node.operator in _TEXT_OPERATORS:
        return [] if field.type == "string" else [f"{node.operator} on the {field.type} field {field.name!r}"]
    values = node.value if node.operator in ("$in", "$nin") else [node.value]
    wrong = [value for value in values if not _fits(value, field, node.operator)]
    return [f"{field.name!r} is {field.type}, compared with {type(value).__name__}" for value in wrong[:1]]


def _is_scalar(field: FieldSpec) -> bool:
    return field.type in ("string", "int", "float", "bool")


def _fits(value: object, field: FieldSpec, operator: str) -> bool:
    if value is None:
        return True
    if field.type == "bool":
        return isinstance(value, bool) and operator not in ORDERINGS
    return isinstance(value, str) if field.type == "string" else is_number(value)
