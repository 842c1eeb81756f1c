"""The guard of the contract: no law disappears, and no store form goes its own way without a declared gap."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.gaps import all_forms, gap_of, gap_table, never, notimpl, notyet
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, Laws, ServerStoreLaws
from rag_migration_pipeline_tests.contract.laws_persistence import EmbeddedLaws, ServerLaws

LAWS_OF_EVERY_STORE = [
    "test_a_batch_may_leave_out_a_vector_that_no_record_has",
    "test_a_batch_of_no_records_changes_nothing",
    "test_a_batch_without_documents_removes_old_ones",
    "test_a_closed_store_says_so",
    "test_a_collection_made_round_the_store_is_described",
    "test_a_deleted_record_can_be_written_again",
    "test_a_described_collection_can_be_made_again",
    "test_a_dimension_above_the_limit_is_refused",
    "test_a_dropped_collection_is_gone_and_can_be_made_anew",
    "test_a_dropped_collection_leaves_nothing_to_the_next_one",
    "test_a_fetch_reads_what_was_written_round_the_store",
    "test_a_missing_collection_is_named",
    "test_a_modifier_of_sparse_vectors_is_described",
    "test_a_payload_of_many_keys_is_kept",
    "test_a_range_of_deleted_records_reads_as_empty",
    "test_a_range_without_stop_reads_to_the_end",
    "test_a_scan_reads_what_was_written_round_the_store",
    "test_a_source_is_read_like_any_store",
    "test_a_source_refuses_every_write",
    "test_a_store_opens_again_from_pickled_settings",
    "test_a_wrong_dimension_names_both",
    "test_all_problems_of_a_spec_are_named_at_once",
    "test_an_empty_collection_reads_as_empty",
    "test_an_existing_collection_is_not_created_again",
    "test_an_id_that_comes_twice_is_written_once",
    "test_an_impossible_dimension_is_refused",
    "test_an_upsert_replaces_a_record_completely",
    "test_an_upsert_replaces_all_vectors_of_a_record",
    "test_any_split_into_ranges_gives_each_record_once",
    "test_asking_for_what_is_missing_creates_nothing",
    "test_awkward_documents_are_kept_or_rejected",
    "test_awkward_payload_keys_are_kept_or_rejected",
    "test_awkward_payload_values_are_kept_or_rejected",
    "test_close_may_be_repeated",
    "test_collection_names_are_used_as_they_are_or_refused",
    "test_collections_are_listed",
    "test_contents_are_read_as_with_vectors_and_come_without_them",
    "test_contents_of_ids_are_fetched_in_the_order_asked_and_without_vectors",
    "test_count_equals_the_scan",
    "test_delete_removes_exactly_the_given_records",
    "test_deleting_what_is_missing_is_quiet",
    "test_every_kind_of_vector_is_kept_or_refused",
    "test_every_metric_is_described_or_refused",
    "test_every_sort_of_ids_is_described",
    "test_extreme_vectors_are_kept_or_rejected",
    "test_fetch_answers_once_for_each_time_asked",
    "test_fetch_keeps_ids_of_other_kinds_apart",
    "test_fetch_keeps_the_order_and_leaves_out_the_missing",
    "test_fetch_of_nothing_or_of_missing_ids_is_empty",
    "test_finish_loading_changes_no_record",
    "test_finished_collections_are_ready_and_asking_changes_nothing",
    "test_hostile_string_ids_stay_themselves",
    "test_id_kinds_that_the_store_lacks_are_refused",
    "test_ids_are_listed_once_at_any_page_size",
    "test_ids_of_the_wrong_type_or_kind_are_rejected",
    "test_inputs_are_not_changed",
    "test_integer_ids_at_the_edges_stay_themselves",
    "test_loading_twice_equals_loading_once",
    "test_metrics_that_a_kind_of_vector_lacks_are_refused",
    "test_more_bytes_than_one_request_holds_arrive",
    "test_more_records_than_one_request_holds_arrive",
    "test_odd_vectors_of_every_kind_are_kept_or_rejected",
    "test_one_payload_value_is_listed_with_each_id",
    "test_ordinary_records_of_every_id_kind_are_held",
    "test_pages_of_ids_are_fetched_in_turn",
    "test_pages_see_writes_made_before_their_ids_were_given",
    "test_ranges_can_be_read_in_any_order_and_again",
    "test_ranges_survive_the_loss_of_their_first_record",
    "test_read_vectors_are_contiguous_arrays_of_the_declared_type",
    "test_reading_survives_changes_made_meanwhile",
    "test_reads_since_a_moment_see_what_was_written_before_it",
    "test_records_may_miss_their_vectors_or_are_rejected",
    "test_records_that_disagree_about_a_key_are_kept_apart",
    "test_records_without_their_vector_are_kept_or_refused",
    "test_records_written_round_the_store_are_replaced",
    "test_secrets_are_shown_nowhere",
    "test_settings_are_frozen_values",
    "test_settings_are_what_they_were_asked_to_be_when_a_load_is_finished",
    "test_several_readers_read_the_same",
    "test_several_vectors_by_name_are_kept_or_refused",
    "test_several_writers_write_the_same",
    "test_the_address_names_the_store_and_no_collection",
    "test_the_count_is_exact_after_changes",
    "test_the_description_is_plain_data",
    "test_the_documented_abilities_are_the_stores_own",
    "test_two_opened_stores_see_each_others_writes",
    "test_typed_fields_and_metadata_are_described",
    "test_typed_fields_keep_their_values_or_reject_them",
    "test_values_that_json_does_not_have_are_kept_or_rejected",
    "test_vectors_arrive_from_any_memory_layout",
    "test_vectors_of_another_name_are_refused",
    "test_vectors_of_every_metric_are_kept",
    "test_what_is_read_belongs_to_the_reader",
    "test_what_is_written_can_be_read_round_the_store",
    "test_what_is_written_is_read_at_once",
    "test_what_was_written_does_not_change_with_the_input",
]

LAWS_OF_FOLDERS = [
    "test_a_folder_has_one_process_at_a_time",
    "test_a_folder_that_is_no_database_stays_as_it_is",
    "test_a_missing_folder_stays_missing",
    "test_a_source_folder_is_the_same_before_and_after_reading",
    "test_a_target_folder_is_created",
    "test_folders_are_the_same_by_any_path",
    "test_what_is_written_outlives_the_store",
]

LAWS_OF_SERVERS = [
    "test_a_server_that_vanishes_may_be_tried_again",
    "test_an_error_of_a_vanished_server_keeps_its_cause",
    "test_an_unknown_host_is_named",
    "test_an_unreachable_server_is_named",
    "test_what_is_written_is_read_by_another_process",
]


def laws_of(form: type) -> dict[str, Callable[..., Any]]:
    """Return the tests that a class has, its own and inherited ones."""
    return {name: item for name, item in inspect.getmembers(form, callable) if name.startswith("test_")}


def violations(form: type[StoreForm]) -> list[str]:
    """Return what is wrong with a store form's test class: laws that it lacks or replaces without a mark."""
    base = EmbeddedStoreLaws if issubclass(form, EmbeddedLaws) else Laws
    base = ServerStoreLaws if issubclass(form, ServerLaws) else base
    own = laws_of(form)
    found = []
    for name, law in laws_of(base).items():
        if own.get(name) is None:
            found.append(f"{form.__name__} lacks {name}")
        elif own[name] is not law and gap_of(form, name) is None:
            found.append(f"{form.__name__} replaces {name}")
    found += [f"{form.__name__} marks {law}, which is no law" for law in form.gaps if law.partition("[")[0] not in own]
    if getattr(form, "__test__", True) is False:
        found.append(f"{form.__name__} is not collected")
    return found


def test_the_list_of_laws_is_complete() -> None:
    """A law that is deleted or renamed fails here, and so does a new one that is not listed."""
    assert sorted(laws_of(Laws)) == LAWS_OF_EVERY_STORE
    assert sorted(set(laws_of(EmbeddedStoreLaws)) - set(laws_of(Laws))) == LAWS_OF_FOLDERS
    assert sorted(set(laws_of(ServerStoreLaws)) - set(laws_of(Laws))) == LAWS_OF_SERVERS


def test_every_law_states_its_promise() -> None:
    """Each law has one sentence, which the docs can quote."""
    for form in (EmbeddedStoreLaws, ServerStoreLaws):
        for name, law in laws_of(form).items():
            assert (law.__doc__ or "").strip().endswith("."), name
            assert len((law.__doc__ or "").strip().splitlines()) == 1, name


@pytest.mark.parametrize("form", all_forms())
def test_every_store_form_keeps_every_law(form: type[StoreForm]) -> None:
    """A store form has all laws, unchanged, and knows whether it is a folder or a server."""
    assert violations(form) == []
    assert form.label
    assert form.is_server == issubclass(form, ServerLaws)


def test_all_named_store_forms_are_there() -> None:
    """The forms that the project promises to test are tested, each once."""
    labels = [form.label for form in all_forms()]
    assert len(set(labels)) == len(labels)
    assert set(labels) == {
        "memory",
        "Chroma folder",
        "Chroma server",
        "Qdrant folder",
        "Qdrant edge",
        "Qdrant double, gRPC",
        "Qdrant double, REST",
        "Qdrant server",
        "Milvus Lite file",
        "Milvus Lite server",
        "Milvus server",
    }


class _Fresh(Laws):
    gaps = MappingProxyType({})


def test_the_guard_sees_a_deleted_law() -> None:
    form = type("Form", (_Fresh,), {"test_count_equals_the_scan": None})
    assert violations(form) == ["Form lacks test_count_equals_the_scan"]


def test_the_guard_sees_a_replaced_law() -> None:
    form = type("Form", (_Fresh,), {"test_count_equals_the_scan": lambda self: None})
    assert violations(form) == ["Form replaces test_count_equals_the_scan"]
    marked = notimpl("test_count_equals_the_scan", reason="shown here", raises=AssertionError)(form)
    assert violations(marked) == []


def test_the_guard_sees_a_class_that_is_not_collected() -> None:
    assert violations(type("Form", (_Fresh,), {"__test__": False})) == ["Form is not collected"]


def test_a_gap_needs_a_reason_and_a_law() -> None:
    with pytest.raises(ValueError, match="reason"):
        notyet("test_count_equals_the_scan", reason=" ", raises=AssertionError)
    with pytest.raises(ValueError, match="no law"):
        never("test_of_no_such_law", reason="x", raises=AssertionError)(type("Form", (_Fresh,), {}))


def test_a_gap_covers_a_law_or_one_parameter_of_it() -> None:
    form = type("Form", (_Fresh,), {})
    form = notyet("test_every_metric_is_described_or_refused[l2]", reason="x", raises=AssertionError)(form)
    assert gap_of(form, "test_every_metric_is_described_or_refused[l2]") is not None
    assert gap_of(form, "test_every_metric_is_described_or_refused[dot]") is None
    assert gap_of(_Fresh, "test_every_metric_is_described_or_refused[l2]") is None
    assert gap_of(Laws, "test_count_equals_the_scan") is None


_FORM_WITH_GAPS = """
from rag_migration_pipeline_tests.contract.gaps import Gap

class TestForm:
    gaps = {
        "test_fixed": Gap("test_fixed", "notyet", "it was broken", AssertionError),
        "test_broken": Gap("test_broken", "notyet", "it is broken", AssertionError),
        "test_broken_otherwise": Gap("test_broken_otherwise", "never", "it is broken", AssertionError),
    }
    def test_fixed(self): pass
    def test_broken(self): assert not self
    def test_broken_otherwise(self): raise KeyError(1)
"""


def test_a_gap_is_strict(tmp_path: Path) -> None:
    """A marked law that holds after all fails the suite, so that a fix forces the mark away; so does another error."""
    (tmp_path / "test_form.py").write_text(_FORM_WITH_GAPS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "rag_migration_pipeline_tests.conftest",
    ]
    done = subprocess.run(
        [*command, "-rA", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert "2 failed, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_form.py::TestForm::test_broken\n" not in done.stdout


def test_the_table_of_gaps_lists_every_mark() -> None:
    marks = sum(len(form.gaps) for form in all_forms())
    assert len(gap_table().splitlines()) == marks + 2
