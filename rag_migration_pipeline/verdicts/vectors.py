"""Verdicts on vectors: kind, dimension, metric, element type, name, and what a store does to their length.

Belongs here: what becomes of each vector of the source. Does not belong here: the other verdicts (``verdicts/``),
the option that renames vectors (``vector_choice.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rag_migration_pipeline.records import Metric, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vector_choice import VectorRoute
from rag_migration_pipeline.vectors import FLOAT32, WIDENED
from rag_migration_pipeline.verdicts import Level, Sides, Verdict

_CHOSEN = "vectors"
"""The option that consents to what it asks for."""

_ROUNDED = frozenset({"float16", "bfloat16"})
"""Element types to which float32 is rounded."""


def subject_of(name: str) -> str:
    """Return how verdicts and consent name a vector."""
    return f'vector "{name}"'


def fitted_routes(
    routes: Sequence[VectorRoute], there: Sequence[VectorSpec], capabilities: Capabilities
) -> tuple[VectorRoute, ...]:
    """Return the routes with each target vector in an element type that the target holds, where the spec names none.

    Every float16, bfloat16, int8 or uint8 is a float32 as well; float32 is rounded only to what an existing target has.

    Args:
        routes: Where each vector goes, as the spec says.
        there: The vectors of an existing target; empty where it is to be created.
        capabilities: What the target store can hold.
    """
    found = {vector.name: vector for vector in there}
    return tuple(
        route
        if route.target is None or "dtype" in route.chosen
        else replace(route, target=_fitted(route.target, found, capabilities))
        for route in routes
    )


def _fitted(vector: VectorSpec, there: Mapping[str, VectorSpec], capabilities: Capabilities) -> VectorSpec:
    if vector.modifier is not None and vector.modifier not in capabilities.sparse_modifiers:
        vector = replace(vector, modifier=None)
    found = there.get(vector.name)
    if found is not None:
        is_widened = found.dtype == FLOAT32 and vector.dtype in WIDENED
        is_rounded = vector.dtype == FLOAT32 and found.dtype in _ROUNDED
        return replace(vector, dtype=found.dtype) if is_widened or is_rounded else vector
    if capabilities.has_type(vector.kind, vector.dtype) or vector.dtype not in WIDENED:
        return vector
    return replace(vector, dtype=FLOAT32)


def vector_verdicts(sides: Sides) -> list[Verdict]:
    """Return the verdicts on all vectors of the source, and on vectors that only the target has."""
    if not sides.source.vectors:
        return [Verdict("vectors", Level.IMPOSSIBLE, "", "the source has no vectors")]
    verdicts = [verdict for route in sides.routes for verdict in _route_verdicts(sides, route)]
    carried = [route for route in sides.routes if route.target is not None]
    if not carried:
        verdicts.append(Verdict("vectors", Level.IMPOSSIBLE, "", "the option vectors leaves every vector out"))
    names = {route.target.name for route in carried if route.target is not None}
    if sides.is_new and len(names) > 1 and not sides.capabilities.has_named_vectors:
        shown = ", ".join(repr(route.source.name) for route in carried)
        reason = f"{sides.capabilities.store} holds one vector per record, the source has {shown}"
        verdicts.append(Verdict("vectors", Level.IMPOSSIBLE, "", f"{reason}; {_how_to_choose(carried)}"))
    for vector in sides.target.vectors:
        if not sides.is_new and vector.name not in names:
            reason = f"the target also has a vector {vector.name!r}, which the source would leave empty"
            verdicts.append(Verdict(subject_of(vector.name), Level.IMPOSSIBLE, "", reason))
    return verdicts


def _how_to_choose(routes: Sequence[VectorRoute]) -> str:
    others = "".join(f", {route.source.name}: null" for route in routes[1:])
    return f'choose one, e.g. vectors: {{{routes[0].source.name}: ""{others}}}'


def _route_verdicts(sides: Sides, route: VectorRoute) -> Iterator[Verdict]:
    subject = subject_of(route.source.name)
    if route.target is None:
        yield Verdict(subject, Level.LOSSY, "not carried", "the option vectors leaves it out", _CHOSEN)
        return
    problems = [*_held(route, sides.capabilities), *_named(sides, route), *_matched(sides, route)]
    if problems:
        yield Verdict(subject, Level.IMPOSSIBLE, "", "; ".join(problems))
        return
    yield _carried(sides, route, route.target)
    missing = sides.profile.missing_vectors.get(route.source.name, 0)
    if missing:
        share = f"{missing} of {sides.profile.schema.count} records looked at do not have it"
        how = "native" if sides.capabilities.has_partial_vectors else "set aside by name"
        yield Verdict(f"{subject}, where missing", Level.NOTE, how, share)
    zeros = sides.profile.zero_vectors.get(route.source.name, 0)
    if zeros and route.target.metric is Metric.COSINE and sides.capabilities.hides_zero_vectors:
        share = f"{zeros} of {sides.profile.schema.count} records looked at"
        reason = f"{share}: searches in {sides.capabilities.store} pass them over"
        yield Verdict(f"{subject}, where zero", Level.NOTE, "native", reason)


def _held(route: VectorRoute, capabilities: Capabilities) -> Iterator[str]:
    """Yield why the target store cannot hold such a vector at all."""
    source, target = route.source, route.target or route.source
    store, option = capabilities.store, f'vectors: {{"{source.name}": '
    if source.kind not in capabilities.vector_kinds:
        kinds = ", ".join(sorted(capabilities.vector_kinds))
        yield f"{source.kind}, {store} holds {kinds}; leave it out with {option}null}}"
        return
    if not capabilities.has_type(target.kind, target.dtype):
        yield f"element type {target.dtype}, which {store} does not hold; leave it out with {option}null}}"
    elif target.metric not in capabilities.metrics_of(target):
        held = sorted(capabilities.metrics_of(target))
        suggested = Metric.DOT if Metric.DOT in held else held[0]
        known = ", ".join(held)
        yield f"metric {target.metric}, {store} has {known}; choose one with {option}{{metric: {suggested}}}}}"
    if source.kind is not VectorKind.SPARSE and source.dimension is None:
        yield "no dimension yet: the source is empty"
    if capabilities.max_dimension and source.dimension and source.dimension > capabilities.max_dimension:
        yield f"dimension {source.dimension}, at most {capabilities.max_dimension} fit"


def _named(sides: Sides, route: VectorRoute) -> Iterator[str]:
    target = route.target
    if target is not None and target.name and sides.is_new and not sides.capabilities.has_named_vectors:
        yield (
            f"named {target.name!r}, {sides.capabilities.store} holds one unnamed vector; "
            f'rename it with vectors: {{{route.source.name}: ""}}'
        )


def _matched(sides: Sides, route: VectorRoute) -> Iterator[str]:
    """Yield where an existing target's vector of that name is another."""
    if sides.is_new or route.target is None:
        return
    wanted = route.target
    found = {vector.name: vector for vector in sides.target.vectors}.get(wanted.name)
    if found is None:
        yield f"the target has no vector {wanted.name!r}, it has {[vector.name for vector in sides.target.vectors]}"
        return
    if found.dimension is not None and found.dimension != wanted.dimension:
        yield f"expected dimension {wanted.dimension}, the target has {found.dimension}"
    if found.kind != wanted.kind:
        yield f"expected kind {wanted.kind}, the target has {found.kind}"
    if found.metric != wanted.metric:
        option = f'vectors: {{"{route.source.name}": {{metric: {found.metric}}}}}'
        yield f"expected metric {wanted.metric}, the target has {found.metric}; to take that write {option}"
    for what in ("dtype", "modifier"):
        expected, got = getattr(wanted, what), getattr(found, what)
        if expected != got:
            yield f"expected {what} {expected}, the target has {got}"


def _carried(sides: Sides, route: VectorRoute, target: VectorSpec) -> Verdict:
    """Return the verdict on a vector that can be carried."""
    source, subject = route.source, subject_of(route.source.name)
    how = "native" if source.name == target.name else f"as {subject_of(target.name)}"
    losses: dict[str, str] = {}
    if target.metric != source.metric:
        losses["metric"] = f"compared by {target.metric} instead of {source.metric}: other neighbours"
    if target.modifier != source.modifier:
        losses["modifier"] = f"compared without {source.modifier}: other neighbours"
    if target.dtype != source.dtype:
        how += f", in {target.dtype}"
        if target.dtype != FLOAT32:
            losses["dtype"] = f"{source.dtype} is rounded to {target.dtype}"
    tolerance = sides.capabilities.tolerance_of(target)
    if target.name in sides.layout.normalised:
        if sides.has_envelope:
            how += f"; direction within {tolerance:g}, length in the envelope"
        else:
            losses["length"] = "the target keeps the direction only, and without the envelope the length is lost"
    elif tolerance:
        how += f" within {tolerance:g}"
    consent = _CHOSEN if losses.keys() <= route.chosen else ""
    return Verdict(
        subject, Level.LOSSY if losses else Level.EXACT, how, "; ".join(losses.values()), consent if losses else ""
    )
