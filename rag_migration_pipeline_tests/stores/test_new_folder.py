"""A target's folder that cannot be made: every embedded store says why and what to do, and touches nothing."""

from pathlib import Path

import pytest

from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.stores.registry import open_target, settings_for


@pytest.mark.parametrize("scheme", ["chroma+file", "qdrant+file", "qdrant+edge", "milvus+file"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_path_at_which_there_is_a_file_is_told(tmp_path: Path, scheme: str, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("somebody's")
    settings = settings_for(parse_locator(f"{scheme}://{file}{below}/docs", "target", {}))
    with pytest.raises(MigrationError) as caught:
        open_target(settings)
    assert str(file) in caught.value.what
    assert caught.value.todo
    assert file.read_text() == "somebody's"
