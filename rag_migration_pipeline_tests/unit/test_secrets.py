"""A secret in the wrong place of a migration's description is in no message, chained errors included."""

import traceback
from typing import Any

import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.spec import migration_from_spec

SECRET = "s3cr3t-Xyzzy"
PAIR = {"source": "memory://a", "target": "memory://b"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**PAIR, "name": "docs", "api_key": SECRET}, "api_key"),
        ({"name": "docs", "source": f"qdrant://u:{SECRET}@h/docs"}, "target"),
        ({"source": "memory://a", "target": f"qdrant://h/docs?api_key={SECRET}"}, "name"),
        ({"name": "docs", "source": {"url": "qdrant://h/docs", "api_key": SECRET}, "target": "memory://b"}, "source"),
        ({**PAIR, "name": "docs", "source": f"qdrant://u:{SECRET}@h/docs", "target": ["memory://b"]}, "target"),
        ({**PAIR, "name": "docs", "conflict": SECRET}, "conflict"),
        ({**PAIR, "name": "docs", "filter": SECRET}, "filter"),
        ({**PAIR, "name": "docs", "filter": {"kind": {"$gt": [SECRET]}}}, "filter"),
        ({**PAIR, "name": "docs", "range_count": SECRET}, "range_count"),
        ({**PAIR, "name": "docs", "target": f"qdrant://u:{SECRET}/x@h:6333/docs"}, "port"),
        ({**PAIR, "name": "docs", "target": f"qdrant://h/docs?api%5Fkey={SECRET}&colour=red"}, "colour"),
    ],
)
def test_a_wrong_description_shows_no_secret(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        migration_from_spec(values)
    shown = [str(caught.value), repr(caught.value), repr(caught.value.facts), *traceback.format_exception(caught.value)]
    assert SECRET not in "".join(shown)


def test_options_show_no_input_either() -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        MigrationOptions.model_validate({"api_key": SECRET})
    assert SECRET not in "".join([str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)])
