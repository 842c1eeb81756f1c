"""Random filters, and records that make them hard: what the tests of the filter language share.

Belongs here: strategies for Hypothesis. Does not belong here: what must hold of them (the tests).
"""

from typing import Any

from hypothesis import strategies as st

from rag_migration_pipeline.filters.nodes import Filter, Not, Or, all_of, checked

HOSTILE = (
    *("", " ", "a", "A", "ab", "b", "é", "e\u0301", "漢字", "🜚", "7", "007", "true", "null", "2024", "x" * 300),
    *('"', "'", "\\", '\\"', "a'b", 'a"b', "a\\", "a\nb", "a\rb", "a\tb", "a\x00b", "\x01", "\x7f", "\u2028", "\ufeff"),
    *(
        "{}",
        "{a}",
        "{{",
        "[",
        "]",
        "[0]",
        "(a",
        "a)",
        "a,b",
        "$",
        "$eq",
        "#document",
        "%",
        "_",
        "a%",
        "100%",
        "*",
        "a.*",
    ),
    *('" or 1==1 or "', "' OR '1'='1", '") || true || ("', "a && b", "exists a", "in ['a']", "not", "--", ";", "/*"),
    *("json_contains($meta, 1)", "like", "==", '$meta["a"]', "a == 1", "${x}", "%s", "a/b", "~0", "~1", "\U0010ffff"),
)
"""Strings that query languages like to take for syntax, or to change."""

FIELDS = (
    *("a", "b", "c", "year", "tags", "nested", "nested.a", "nested.b.c", "a.b", "missing", "text", "flag", "number"),
    *("in", "like", "exists", "not", "true", "document", "title", "score", "id", "vector", "pk"),
)
ODD_FIELDS = (
    "",
    " ",
    "a b",
    "ü",
    "漢字",
    "'",
    '"',
    "\\",
    "a[0]",
    "a[]",
    "[0]",
    "#x",
    "chroma:uri",
    "a/b",
    "~",
    "a\nb",
    "{",
    "*",
    "1a",
)
NUMBERS: tuple[int | float, ...] = (
    *(0, 1, -1, 2, 3, 5, 7, 2023, 2024, 2025, 127, 128, 300, -129, 2**31, -(2**31) - 1, 2**53, 2**53 + 1, -(2**53) - 1),
    *(2**63 - 1, -(2**63), 2**63, 2**64 - 1, 0.0, -0.0, 1.0, 2024.0, 0.5, 2.5, 0.1, 1e-7, 1e300, -1e300, 5e-324),
    *(float(2**53), float(2**53 + 2), 1.5e19, 0.30000000000000004, 0.1 + 2**-56, 3.4e38, 16777217.0),
)


def texts() -> st.SearchStrategy[str]:
    """Return strings, mostly such as appear twice."""
    return st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def numbers() -> st.SearchStrategy[int | float]:
    """Return numbers, mostly near edges."""
    return st.sampled_from(NUMBERS) | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)


def scalars() -> st.SearchStrategy[Any]:
    """Return null, bools, numbers and strings."""
    return texts() | numbers() | st.booleans() | st.none()


def values() -> st.SearchStrategy[Any]:
    """Return any JSON value."""
    inner = scalars()
    short = st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "b.c"]), inner, max_size=2)
    return inner | short | st.lists(short, max_size=2)


def fields(extra: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Return names of fields."""
    return st.sampled_from((*FIELDS, *FIELDS, *ODD_FIELDS, *extra))


def payloads(extra: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Return payloads in which one key has values of every type."""
    nested = st.dictionaries(st.sampled_from(["a", "b", "b.c"]), st.dictionaries(st.just("c"), scalars()) | values())
    keys = fields(extra)
    plain = st.dictionaries(keys, values(), max_size=8)
    return st.tuples(plain, st.none() | nested).map(lambda got: got[0] | ({"nested": got[1]} if got[1] else {}))


def comparisons(field: st.SearchStrategy[str]) -> st.SearchStrategy[Filter]:
    """Return single comparisons of payload fields."""

    def of(operator: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[Filter]:
        return st.builds(lambda name, value: checked(name, operator, value, ""), field, operand)

    pattern = texts().map(lambda text: text.replace("\\", "\\\\")) | st.sampled_from(["a%", "%b", "_", "%", "\\%"])
    expression = st.sampled_from(["a", "^a", "b$", "", r"\d+", "(?i)A", r"^\W", "漢"])
    return st.one_of(
        *(of(name, values()) for name in ("$eq", "$ne")),
        *(of(name, scalars()) for name in ("$eq", "$ne")),
        *(of(name, texts() | numbers()) for name in ("$gt", "$gte", "$lt", "$lte")),
        *(of(name, st.lists(scalars(), max_size=4)) for name in ("$in", "$nin")),
        of("$exists", st.booleans()),
        *(of(name, scalars()) for name in ("$contains", "$not_contains")),
        of("$like", pattern),
        of("$regex", expression),
    )


def filters(field: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Filter]:
    """Return filters of all forms."""
    return st.recursive(
        comparisons(fields() if field is None else field),
        lambda inner: (
            st.lists(inner, min_size=2, max_size=3).map(all_of)
            | st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts)))
            | inner.map(Not)
        ),
        max_leaves=5,
    )
