"""Where the ids of a migration come from: kept, derived, or taken from a field.

Belongs here: the option ``ids``. Does not belong here: how an id is written in a target (``ids.py``), reading the field
of all records (``steps/id_listing.py``).

    ids: keep                                             the source's ids (the default)
    ids: uuid5                                            uuid5 of kind and id; the id itself travels in the envelope
    ids: {strategy: uuid5, namespace: 6ba7b811-...}       the same under a namespace of one's own
    ids: {strategy: from_field, field: doc_id, kind: int, keep_as: old_id}
"""

import uuid
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.ids import NAMESPACE, derived_uuid
from rag_migration_pipeline.mapping import IdKind, SchemaMapping
from rag_migration_pipeline.records import RecordId


class Strategy(StrEnum):
    """See the module."""

    KEEP = "keep"
    UUID5 = "uuid5"
    FROM_FIELD = "from_field"


class IdStrategy(BaseModel):
    """The option ``ids``.

    Attributes:
        namespace: For uuid5; None takes the project's own (`ids.NAMESPACE`).
        field: For from_field: the payload field, named as the source has it; it stays in the payload.
        kind: For from_field: what the id is made into; None keeps texts and whole numbers as they are.
        keep_as: For from_field: the payload key that gets the id that the record had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    strategy: Strategy = Strategy.KEEP
    namespace: uuid.UUID | None = None
    field: str | None = None
    kind: IdKind | None = None
    keep_as: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Accept the strategy's name alone."""
        return value if isinstance(value, IdStrategy | Mapping) else {"strategy": value}

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        owners = {"namespace": Strategy.UUID5, "field": Strategy.FROM_FIELD}
        owners |= dict.fromkeys(("kind", "keep_as"), Strategy.FROM_FIELD)
        wrong = [name for name, owner in owners.items() if getattr(self, name) is not None and owner != self.strategy]
        if wrong:
            raise SpecError(f"{', '.join(wrong)} cannot stand beside the strategy {self.strategy}")
        if self.strategy is Strategy.FROM_FIELD and self.field is None:
            raise SpecError("the strategy from_field needs a field")
        self.as_mapping()  # which checks the names
        return self

    @property
    def derived_under(self) -> uuid.UUID | None:
        """The namespace of derived ids, or None where ids are not derived."""
        return (self.namespace or NAMESPACE) if self.strategy is Strategy.UUID5 else None

    def derived(self, ids: Iterable[RecordId]) -> list[RecordId]:
        """Return the ids before a target puts them into its own terms."""
        namespace = self.derived_under
        return list(ids) if namespace is None else [derived_uuid(record_id, namespace) for record_id in ids]

    def as_mapping(self) -> SchemaMapping | None:
        """Return the mapping that takes ids from a field, or None."""
        if self.field is None:
            return None
        kept = {} if self.keep_as is None else {"$id": self.keep_as}
        return SchemaMapping(id_from=self.field, id_kind=self.kind, field_mapping=kept)

    def fingerprint(self) -> dict[str, Any]:
        """Return the strategy as JSON values; parts that are not used are left out."""
        return self.model_dump(mode="json", exclude_defaults=True)
