"""Milvus without a store: settings, expressions, pages, codes and screening, each with the quirk behind it."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from rag_migration_pipeline import errors
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import (
    INT64_MIN,
)
from rag_migration_pipeline.stores.milvus import MilvusSettings, settings_from_locator
from rag_migration_pipeline.stores.milvus_capabilities import field_rules
from rag_migration_pipeline.stores.milvus_errors import from_rpc, from_status
from rag_migration_pipeline.stores.milvus_reading import KeyRange, Reader
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_screening import payload_problem
from rag_migration_pipeline.stores.milvus_types import Column, FieldType
from rag_migration_pipeline.stores.milvus_wire import holdable, key_in, key_range, literal, refuse_disorder

SERVER = field_rules(is_lite=False, version=(2, 3, 5))
LITE = field_rules(is_lite=True, version=())
INT_KEY = Column(name="id", type=FieldType.INT64)
TEXT_KEY = Column(name="id", type=FieldType.VARCHAR, max_length=100)


class TestSettings:
    def test_urls_become_settings(self) -> None:
        url = "milvus://u:p@Host:1234/docs?database=d&tls=true&ca_file=/ca.pem&tls_server_name=n&load_source=true"
        settings = settings_from_locator(parse_locator(url, "source", {}))
        assert (settings.host, settings.port, settings.database) == ("host", 1234, "d")
        assert (settings.is_tls, settings.ca_file, settings.tls_server_name) == (True, "/ca.pem", "n")
        assert settings.load_source
        assert settings.credentials == "u:p"
        assert settings.address == "milvus://host:1234?database=d"

    def test_a_token_wins_over_user_and_password(self) -> None:
        given = {"SOURCE_MILVUS_TOKEN": "t", "MILVUS_USER": "u", "MILVUS_PASSWORD": "p"}
        settings = settings_from_locator(parse_locator("milvus://h/docs", "source", given))
        assert settings.credentials == "t"
        assert settings.port == 19530

    def test_a_folder_has_no_server_options(self) -> None:
        with pytest.raises(errors.SpecError, match="tls"):
            settings_from_locator(parse_locator("milvus+file:///data/x.db/docs?tls=true", "target", {}))

    def test_an_ipv6_host_is_bracketed(self) -> None:
        assert MilvusSettings(host="::1").endpoint == "[::1]:19530"

    def test_the_address_of_a_folder_is_its_real_path(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        address = MilvusSettings(path=str(tmp_path / "link" / "x.db")).address
        assert address == f"milvus+file://{tmp_path.resolve()}/x.db"

    def test_importing_the_adapter_imports_no_client(self) -> None:
        code = (
            "import sys, rag_migration_pipeline.stores.milvus; sys.exit(bool({'pymilvus', 'grpc'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_secrets_are_in_no_repr(self) -> None:
        settings = MilvusSettings(host="h", token=SecretStr("hush"), user=SecretStr("hush"), password=SecretStr("hush"))
        assert "hush" not in repr(settings) + str(settings) + settings.address


class TestExpressions:
    @pytest.mark.parametrize(
        ("record_id", "written"),
        [
            ("plain", '"plain"'),
            ('a"b', r'"a\"b"'),
            ("back\\slash", r'"back\\slash"'),
            ("new\nline\r", r'"new\nline\r"'),
            ("it's \x00 \t ü", '"it\'s \x00 \t ü"'),
            (-5, "-5"),
        ],
    )
    def test_ids_are_escaped(self, record_id: Any, written: str) -> None:
        assert literal(record_id) == written

    def test_the_smallest_integer_is_never_written_out(self) -> None:
        """2.3.5 cannot parse -9223372036854775808."""
        expressions = [
            key_range(INT_KEY),
            key_range(INT_KEY, start=INT64_MIN),
            key_range(INT_KEY, start=INT64_MIN, stop=5),
            key_range(INT_KEY, after=INT64_MIN),
            key_range(INT_KEY, start=INT64_MIN, stop=INT64_MIN),
            key_in(INT_KEY, [INT64_MIN]),
            key_in(INT_KEY, [3, INT64_MIN]),
        ]
        assert [text for text in expressions if str(INT64_MIN) in text] == []

    def test_ranges_of_text_start_with_the_empty_key(self) -> None:
        assert key_range(TEXT_KEY) == 'id >= ""'
        assert key_range(TEXT_KEY, start="a", after="b", stop="c") == 'id > "b" && id < "c"'

    def test_ids_that_the_key_cannot_hold_are_not_asked_for(self) -> None:
        assert holdable(TEXT_KEY, ["a", 1, "\ud800"]) == ["a"]
        assert holdable(INT_KEY, ["1", 1, True, 2**63, INT64_MIN]) == [1, INT64_MIN]


class TestReading:
    def test_pages_out_of_order_are_refused(self) -> None:
        refuse_disorder(["a", "b"], None, "docs")
        with pytest.raises(errors.StoreRequestError, match="out of order"):
            refuse_disorder(["b", "c"], "b", "docs")

    def test_answers_that_are_too_long_are_asked_for_in_smaller_pages(self) -> None:
        """A server refuses long answers without a code of its own; each record is still read once."""
        connection = RefusingConnection(keys=list(range(100)), most=7)
        layout = Layout(collection="c", key=INT_KEY, vectors={}, fields={}, has_dynamic=False, is_auto_id=False)
        ids = [record_id for page in Reader(connection).ids(KeyRange(layout, "c"), 64) for record_id in page]
        assert ids == list(range(100))

    def test_a_refusal_that_is_not_about_size_comes_through(self) -> None:
        connection = RefusingConnection(keys=[1], most=0)
        layout = Layout(collection="c", key=INT_KEY, vectors={}, fields={}, has_dynamic=False, is_auto_id=False)
        with pytest.raises(errors.StoreRequestError, match="no reason"):
            list(Reader(connection).ids(KeyRange(layout, "c"), 64))
        assert connection.query_count < 10


class RefusingConnection:
    """Answers queries for at most that many keys, as a server with a limit does."""

    is_lite = False

    def __init__(self, keys: list[int], most: int) -> None:
        self.keys, self.most, self.query_count = keys, most, 0

    def call(self, rpc: str, request: Any, what: str = "") -> Any:
        from pymilvus.grpc_gen import milvus_pb2

        if rpc == "AllocTimestamp":
            return SimpleNamespace(timestamp=1)
        self.query_count += 1
        limit = int(next(pair.value for pair in request.query_params if pair.key == "limit"))
        if limit > self.most:
            raise errors.StoreRequestError("no reason")
        after = int(request.expr.rpartition(" ")[2]) if ">" in request.expr else -1
        answer = milvus_pb2.QueryResults()
        data = answer.fields_data.add(field_name="id", type=5)
        data.scalars.long_data.data.extend([key for key in self.keys if key > after][:limit])
        return answer


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "error_code", "is_retriable", "is_lite", "expected"),
        [
            (0, 0, False, False, None),
            (100, 4, False, False, errors.CollectionNotFoundError),
            (0, 4, False, False, errors.CollectionNotFoundError),
            (800, 1, False, False, errors.CollectionNotFoundError),
            (8, 49, False, False, errors.RateLimitedError),
            (0, 49, False, False, errors.RateLimitedError),
            (1401, 1, False, False, errors.AuthenticationError),
            (10001, 1, False, False, errors.StoreTimeoutError),
            (1, 1, False, False, errors.StoreUnavailableError),
            (1, 1, False, True, errors.StoreRequestError),
            (777, 1, True, False, errors.StoreUnavailableError),
            (1100, 5, False, False, errors.StoreRequestError),
            (9, 1, False, False, errors.StoreRequestError),
            (0, 1, False, False, errors.StoreRequestError),
        ],
    )
    def test_status_codes_say_whether_to_try_again(
        self, code: int, error_code: int, is_retriable: bool, is_lite: bool, expected: type | None
    ) -> None:
        status = SimpleNamespace(code=code, error_code=error_code, reason="why", retriable=is_retriable)
        error = from_status(status, "reading", "milvus://h", is_lite=is_lite)
        assert type(error) is (expected or type(None))
        if error is not None:
            assert "why" in str(error)
            assert "milvus://h" in str(error)
            assert type(pickle.loads(pickle.dumps(error))) is expected

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (grpc.StatusCode.UNAVAILABLE, errors.StoreUnavailableError),
            (grpc.StatusCode.INTERNAL, errors.StoreUnavailableError),
            (grpc.StatusCode.DEADLINE_EXCEEDED, errors.StoreTimeoutError),
            (grpc.StatusCode.UNAUTHENTICATED, errors.AuthenticationError),
            (grpc.StatusCode.PERMISSION_DENIED, errors.AuthenticationError),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.StoreRequestError),
            (grpc.StatusCode.UNIMPLEMENTED, errors.StoreRequestError),
            (grpc.StatusCode.UNKNOWN, errors.StoreRequestError),
        ],
    )
    def test_grpc_codes_say_whether_to_try_again(self, code: grpc.StatusCode, expected: type) -> None:
        error = from_rpc(SimpleNamespace(code=lambda: code, details=lambda: "why"), "reading", "milvus://h")
        assert type(error) is expected
        assert error.todo

    def test_a_file_of_trusted_roots_that_is_missing_is_named(self) -> None:
        settings = MilvusSettings(host="127.0.0.1", is_tls=True, ca_file="/no/such.pem")
        with pytest.raises(errors.SpecError, match=r"/no/such\.pem"):
            settings.open(create=False)


class TestScreening:
    LAYOUT = Layout(
        collection="c",
        key=TEXT_KEY,
        vectors={"": Column(name="vector", type=FieldType.FLOAT_VECTOR, dimension=2)},
        fields={"document": Column(name="document", type=FieldType.VARCHAR, max_length=70_000)},
        has_dynamic=True,
        is_auto_id=False,
    )

    @pytest.mark.parametrize(
        ("text", "is_held"),
        [
            ("a" * 65_528, True),
            ("a" * 65_529, False),
            ("ü" * 32_764, True),
            ("ü" * 32_765, False),
            ("\x01" * 10_922, False),
        ],
    )
    def test_the_dynamic_field_is_measured_as_the_json_that_is_sent(self, text: str, is_held: bool) -> None:
        """``{"x":""}`` takes 8 bytes of 65,536; a control character takes six."""
        assert (payload_problem(self.LAYOUT, {"document": "", "x": text}, SERVER) is None) is is_held

    def test_typed_text_does_not_count_as_dynamic(self) -> None:
        assert payload_problem(self.LAYOUT, {"document": "d" * 66_000, "x": "a" * 60_000}, SERVER) is None

    def test_a_lite_folder_has_no_limit(self) -> None:
        assert payload_problem(self.LAYOUT, {"document": "", "x": "a" * 10**6}, LITE) is None

    def test_nested_values_are_measured(self) -> None:
        assert payload_problem(self.LAYOUT, {"document": "", "x": [["a" * 40_000] * 2]}, SERVER) is not None

    def test_an_envelope_that_is_too_long_says_what_to_do(self) -> None:
        column = Column(name=ENVELOPE_KEY, type=FieldType.VARCHAR, max_length=65_535)
        layout = replace(self.LAYOUT, fields={ENVELOPE_KEY: column})
        assert payload_problem(layout, {ENVELOPE_KEY: "e" * 65_535}, SERVER) is None
        reason = payload_problem(layout, {ENVELOPE_KEY: "e" * 65_536}, SERVER)
        assert reason is not None
        assert "takes 65536 bytes and the field holds at most 65535" in reason
        assert "shorten these values" in reason
