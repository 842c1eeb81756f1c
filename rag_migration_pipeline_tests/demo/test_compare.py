"""The comparison that the demo ends with sees every way in which a collection can come home changed."""

import ast
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from rag_migration_pipeline.demo import compare
from rag_migration_pipeline.demo.compare import Comparison, compare_collections, main

# One record: document, metadata, vector.
Rows = dict[str, tuple[str | None, dict[str, Any] | None, Any]]
Plant = Callable[[Rows], None]


def make_rows(count: int = 5) -> Rows:
    vectors = np.random.default_rng(7).normal(size=(count, 8)).astype(np.float32) * 3
    rows: Rows = {
        f"r{number}": (
            f"text {number}",
            {"whole": 1, "share": 1.0, "flag": True, "name": "1", "tags": ["a", "b"], "numbers": [1, 2]},
            vectors[number],
        )
        for number in range(count)
    }
    rows["empty"] = ("", {"name": ""}, np.ones(8, dtype=np.float32))
    rows["bare"] = (None, None, np.zeros(8, dtype=np.float32))
    return rows


def write_rows(folder: Path, name: str, rows: Rows, space: str = "cosine") -> None:
    with chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False)) as client:
        collection = client.create_collection(name, configuration={"hnsw": {"space": space}}, embedding_function=None)
        for record_id, (document, metadata, vector) in rows.items():
            collection.add(ids=[record_id], embeddings=[vector], documents=document, metadatas=metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose collection ``left`` is what left."""
    path = tmp_path_factory.mktemp("chroma")
    write_rows(path, "left", make_rows())
    return path


def compare_with(folder: Path, name: str, rows: Rows, space: str = "cosine") -> Comparison:
    write_rows(folder, name, rows, space)
    return compare_collections(folder, "left", folder, name)


def set_document(rows: Rows, record_id: str, document: str | None) -> None:
    rows[record_id] = (document, *rows[record_id][1:])


def set_value(rows: Rows, key: str, value: Any) -> None:
    rows["r2"][1][key] = value  # type: ignore[index]


def drop_key(rows: Rows) -> None:
    del rows["r2"][1]["name"]  # type: ignore[union-attr]


def drop_metadata(rows: Rows) -> None:
    rows["r2"] = (rows["r2"][0], None, rows["r2"][2])


def nudge_component(rows: Rows) -> None:
    rows["r2"][2][3] += 1e-4


def scale_vector(rows: Rows) -> None:
    rows["r2"][2][:] *= np.float32(1.001)


def normalise_vector(rows: Rows) -> None:
    rows["r2"][2][:] /= np.linalg.norm(rows["r2"][2])


def fill_zero_vector(rows: Rows) -> None:
    rows["bare"][2][0] = 1e-7


CHANGES: dict[str, tuple[Plant, str, str]] = {
    "document": (lambda rows: set_document(rows, "r2", "text 2 "), "r2", "document: str 'text 2' became str 'text 2 '"),
    "document lost": (lambda rows: set_document(rows, "r2", None), "r2", "document: str 'text 2' became NoneType None"),
    "empty to missing": (lambda rows: set_document(rows, "empty", None), "empty", "document: str '' became NoneType"),
    "missing to empty": (lambda rows: set_document(rows, "bare", ""), "bare", "document: NoneType None became str ''"),
    "value": (lambda rows: set_value(rows, "name", "2"), "r2", "metadata 'name': str '1' became str '2'"),
    "int to float": (lambda rows: set_value(rows, "whole", 1.0), "r2", "metadata 'whole': int 1 became float 1.0"),
    "float to int": (lambda rows: set_value(rows, "share", 1), "r2", "metadata 'share': float 1.0 became int 1"),
    "bool to int": (lambda rows: set_value(rows, "flag", 1), "r2", "metadata 'flag': bool True became int 1"),
    "int to bool": (lambda rows: set_value(rows, "whole", True), "r2", "metadata 'whole': int 1 became bool True"),
    "str to int": (lambda rows: set_value(rows, "name", 1), "r2", "metadata 'name': str '1' became int 1"),
    "list order": (lambda rows: set_value(rows, "tags", ["b", "a"]), "r2", "metadata 'tags': list"),
    "list cut": (lambda rows: set_value(rows, "tags", ["a"]), "r2", "metadata 'tags': list"),
    "list type": (lambda rows: set_value(rows, "numbers", [1.0, 2.0]), "r2", "metadata 'numbers': list"),
    "key lost": (drop_key, "r2", "metadata 'name': missing, was str '1'"),
    "key new": (lambda rows: set_value(rows, "_reserved", "{}"), "r2", "metadata '_reserved': new, str '{}'"),
    "metadata lost": (drop_metadata, "r2", "became NoneType None"),
    "one component": (nudge_component, "r2", "vector: relative error"),
    "length": (scale_vector, "r2", "vector: relative error 0.001"),
    "normalised": (normalise_vector, "r2", "vector: relative error"),
    "zero vector": (fill_zero_vector, "bare", "vector: relative error inf"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_record_is_named_with_what_changed(folder: Path, name: str) -> None:
    plant, record_id, reason = CHANGES[name]
    rows = deepcopy(make_rows())
    plant(rows)
    found = compare_with(folder, f"changed-{name.replace(' ', '-')}", rows)
    assert (found.total, found.identical, found.missing, found.extra, found.changed) == (7, 6, 0, 0, 1)
    assert not found.is_identical
    assert [(difference.id, difference.kind) for difference in found.differences] == [(record_id, "changed")]
    assert reason in found.differences[0].reason
    assert found.summary == "round trip: 6 of 7 records identical"


def test_the_same_records_in_another_order_and_folder_are_identical(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, "home", dict(reversed(make_rows().items())))
    found = compare_collections(folder, "left", tmp_path, "home")
    assert found == Comparison(total=7, identical=7, missing=0, extra=0, changed=0)
    assert found.is_identical
    assert found.summary == "round trip: 7 of 7 records identical"


def test_rounding_below_the_tolerance_is_no_difference(folder: Path) -> None:
    rows = make_rows()
    for _, _, vector in rows.values():
        vector[:] *= np.float32(1 + 5e-7)
    assert compare_with(folder, "rounded", rows).is_identical


def test_swapped_vectors_are_two_changed_records(folder: Path) -> None:
    rows = make_rows()
    rows["r1"], rows["r2"] = (*rows["r1"][:2], rows["r2"][2]), (*rows["r2"][:2], rows["r1"][2])
    found = compare_with(folder, "swapped", rows)
    assert (found.identical, found.changed) == (5, 2)
    assert {difference.id for difference in found.differences} == {"r1", "r2"}


def test_missing_extra_and_changed_records_are_each_named(folder: Path) -> None:
    rows = make_rows()
    rows["stranger"] = rows.pop("r0")
    rows.pop("r1")
    set_document(rows, "r2", "else")
    found = compare_with(folder, "all-three", rows)
    assert (found.total, found.identical, found.missing, found.extra, found.changed) == (7, 4, 2, 1, 1)
    assert [(difference.kind, difference.id) for difference in found.differences] == [
        ("missing", "r0"),
        ("missing", "r1"),
        ("extra", "stranger"),
        ("changed", "r2"),
    ]
    assert not found.is_identical


def test_an_extra_record_alone_is_a_difference(folder: Path) -> None:
    rows = make_rows()
    rows["stranger"] = rows["r0"]
    found = compare_with(folder, "one-more", rows)
    assert (found.total, found.identical, found.extra) == (7, 7, 1)
    assert not found.is_identical


def test_a_changed_metric_is_a_difference(folder: Path) -> None:
    found = compare_with(folder, "metric", make_rows(), space="l2")
    assert (found.total, found.identical) == (7, 7)
    assert [difference.reason for difference in found.differences] == ["metric: cosine became l2"]
    assert not found.is_identical


def test_a_changed_dimension_is_a_difference(folder: Path) -> None:
    rows = {name: (document, metadata, vector[:7]) for name, (document, metadata, vector) in make_rows().items()}
    found = compare_with(folder, "dimension", rows)
    assert (found.identical, found.changed) == (0, 7)
    assert all("vector: dimension (8,) became (7,)" in difference.reason for difference in found.differences)


def test_nothing_compared_is_never_a_success(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, "none", {})
    nothing = compare_collections(tmp_path, "none", tmp_path, "none")
    assert (nothing.total, nothing.identical, nothing.is_identical) == (0, 0, False)
    emptied = compare_collections(folder, "left", tmp_path, "none")
    assert (emptied.total, emptied.missing, emptied.is_identical) == (7, 7, False)
    filled = compare_collections(tmp_path, "none", folder, "left")
    assert (filled.total, filled.extra, filled.is_identical) == (0, 7, False)


def test_pages_are_compared_to_the_last_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PAGE_SIZE", 3)
    rows = make_rows()
    set_document(rows, max(rows), "the last one")
    found = compare_with(folder, "pages", rows)
    assert (found.identical, found.changed) == (6, 1)


def test_at_most_ten_ids_of_a_kind_are_named_and_all_are_counted(tmp_path: Path) -> None:
    rows = make_rows(25)
    write_rows(tmp_path, "left", rows)
    for name in list(rows)[:12]:
        del rows[name]
    for name in rows:
        set_document(rows, name, "else")
    write_rows(tmp_path, "home", rows)
    found = compare_collections(tmp_path, "left", tmp_path, "home")
    assert (found.total, found.identical, found.missing, found.changed) == (27, 0, 12, 15)
    kinds = [difference.kind for difference in found.differences]
    assert (kinds.count("missing"), kinds.count("changed")) == (10, 10)


def test_an_answer_without_all_records_is_no_comparison(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = compare._list_ids
    monkeypatch.setattr(compare, "_list_ids", lambda collection: listed(collection) | {"ghost"})
    with pytest.raises(LookupError, match="answered with 7 of 8 records"):
        compare_collections(folder, "left", folder, "left")


def test_a_folder_or_collection_that_is_not_there_is_refused_and_not_created(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not a Chroma folder"):
        compare_collections(folder, "left", tmp_path / "away", "left")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LookupError, match=r"No collection 'away' in .*'left'"):
        compare_collections(folder, "left", folder, "away")


def test_the_command_exits_with_zero_only_for_identical_collections(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows()
    del rows["r0"]
    write_rows(folder, "command", rows)
    assert main([str(folder), "left", str(folder), "left"]) == 0
    assert capsys.readouterr().out == "round trip: 7 of 7 records identical\n"
    assert main([str(folder), "left", str(folder), "command"]) == 1
    assert capsys.readouterr().out.endswith("round trip: 6 of 7 records identical\n")
    assert main([str(folder), "left", str(folder), "away"]) == 2
    assert "No collection 'away'" in capsys.readouterr().err


def test_the_comparison_imports_nothing_of_this_project() -> None:
    tree = ast.parse(Path(compare.__file__).read_text())
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    from_nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 for node in from_nodes)
    packages = {name.split(".")[0] for name in [*plain, *(node.module or "" for node in from_nodes)]}
    assert packages - sys.stdlib_module_names == {"chromadb", "numpy"}


def test_a_comparison_cannot_be_edited_afterwards() -> None:
    found = Comparison(total=2, identical=1, missing=0, extra=0, changed=1)
    with pytest.raises(FrozenInstanceError):
        found.identical = 2  # type: ignore[misc]
