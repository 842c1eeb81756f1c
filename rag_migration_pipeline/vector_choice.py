"""Which vectors of the source go where: the option ``vectors``, and the rename of a batch's columns.

Belongs here: reading the option against both sides' vectors, and applying it. Does not belong here: what a target can
hold (``verdicts/vectors.py``), another element type (``envelope/`` packs in the target's).

    vectors: {title: "", body: null}                         title becomes the unnamed vector, body is not carried
    vectors: {title: {name: heading, metric: dot, dtype: float16}}

A vector that is not named keeps its name, metric and dtype.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rag_migration_pipeline.records import Metric, RecordBatch, VectorColumn, VectorSpec


class VectorChoice(BaseModel):
    """What becomes of one vector of the source.

    Attributes:
        name: Its name in the target; None keeps the source's.
        metric: Its metric in the target; None keeps the source's.
        dtype: Its element type in the target; None keeps the source's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str | None = None
    metric: Metric | None = None
    dtype: Literal["float32", "float16"] | None = None

    def target_of(self, vector: VectorSpec) -> VectorSpec:
        """Return the vector as the target is to hold it."""
        return replace(
            vector,
            name=vector.name if self.name is None else self.name,
            metric=self.metric or vector.metric,
            dtype=self.dtype or vector.dtype,
        )


VectorChoices = Mapping[str, VectorChoice | str | None]
"""Source name -> what becomes of it: its new name, None (not carried), or a `VectorChoice`."""


@dataclass(frozen=True)
class VectorRoute:
    """One vector of the source and what it is in the target; None where it is not carried.

    Attributes:
        chosen: The properties that the option sets: metric, dtype.
    """

    source: VectorSpec
    target: VectorSpec | None
    chosen: frozenset[str] = frozenset()


def routes_of(vectors: Sequence[VectorSpec], choices: VectorChoices | None) -> tuple[VectorRoute, ...]:
    """Return where each vector of the source goes."""
    routes = []
    for vector in vectors:
        choice = (choices or {}).get(vector.name, vector.name)
        if choice is None:
            routes.append(VectorRoute(vector, None))
            continue
        if isinstance(choice, str):
            choice = VectorChoice(name=choice)
        chosen = {name for name in ("metric", "dtype") if getattr(choice, name) is not None}
        routes.append(VectorRoute(vector, choice.target_of(vector), frozenset(chosen)))
    return tuple(routes)


def renaming_routes(vectors: Sequence[VectorSpec], choices: VectorChoices | None) -> tuple[VectorRoute, ...]:
    """Return what `route_vectors` has to do to a source's batches: nothing where every vector keeps its name."""
    routes = routes_of(vectors, choices)
    return (
        () if all(route.target is not None and route.target.name == route.source.name for route in routes) else routes
    )


def shared_names(choices: VectorChoices | None) -> dict[str, list[str]]:
    """Return the target names that the option gives to more than one vector of the source, each with those vectors."""
    sources: dict[str, list[str]] = {}
    for source, choice in (choices or {}).items():
        name = choice.name if isinstance(choice, VectorChoice) else choice
        if choice is not None:
            sources.setdefault(source if name is None else name, []).append(source)
    return {name: found for name, found in sources.items() if len(found) > 1}


def choice_problems(vectors: Sequence[VectorSpec], choices: VectorChoices | None) -> list[str]:
    """Return what is wrong with the option: names that the source lacks, two vectors that become one."""
    names = {vector.name for vector in vectors}
    unknown = [name for name in choices or {} if name not in names]
    problems = [f"the source has no vector {name!r}, it has {sorted(names)}" for name in unknown]
    sources: dict[str, list[str]] = {}
    for route in routes_of(vectors, choices):
        if route.target is not None:
            sources.setdefault(route.target.name, []).append(route.source.name)
    problems += [f"{names} would all become {name!r}" for name, names in sources.items() if len(names) > 1]
    return problems


def route_vectors(batch: RecordBatch, routes: Sequence[VectorRoute]) -> RecordBatch:
    """Return the batch with the target's vectors: renamed, or left out; the same columns.

    Args:
        batch: Records as they left the source.
        routes: Where each vector goes; an empty sequence changes nothing.
    """
    if not routes:
        return batch
    columns: dict[str, VectorColumn] = {}
    for route in routes:
        column = batch.vectors.get(route.source.name)
        if route.target is not None and column is not None:
            columns[route.target.name] = column
    return batch.with_columns(vectors=columns)
