"""The demo's corpus and embedding keep what they promise: real, typed, the same on every run, and resumable."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rag_migration_pipeline
from rag_migration_pipeline.demo.compare import compare_collections
from rag_migration_pipeline.demo.corpus import (
    DEFAULT_LIMIT,
    MINIMUM_DOCUMENTS,
    CorpusDocument,
    corpus_digest,
    read_corpus,
    read_documents,
    sample_documents,
)
from rag_migration_pipeline.demo.embedding import DIMENSION, HashedTfidf
from rag_migration_pipeline.demo.fill import fill_chroma
from rag_migration_pipeline.errors import CollectionExistsError, SpecError, StoreRequestError

ROOT = Path(rag_migration_pipeline.__path__[0]).parent

LIBRARY = {
    "json/__init__.py": '''"""Read and write JSON."""
def loads(s, /, *args, strict=True, **keywords):
    """Read."""
    def inner():
        """Hidden."""
def nothing():
    """Take nothing."""
def silent(): pass
''',
    "json/decoder.py": '''
try:
    import _json
except ImportError:
    def scan(s):
        """Scan in Python."""
else:
    def scan(s, end):
        """Scan in C."""
class Decoder:
    """Decode."""
    def __init__(self): "Make."
    def _decode(self, text): "Decode\\\\n  a text."
    @staticmethod
    def static(text): "Static."
    @classmethod
    def made(cls): "Made."
''',
    "test/test_json.py": '"""Skipped."""',
    "site-packages/other.py": '"""Skipped."""',
    "config-3.11/made.py": '"""Skipped."""',
    "broken.py": "def (:\n",
    "surrogate.py": '"""Lone \\ud800."""',
    "nul.py": '"""A \\0."""',
}

DIGEST_PROGRAM = """
import hashlib
from rag_migration_pipeline.demo.corpus import corpus_digest, read_corpus
from rag_migration_pipeline.demo.embedding import HashedTfidf
documents = read_corpus(300)
texts = [document.text for document in documents]
vectors = HashedTfidf.fit(texts).embed(texts)
print(corpus_digest(documents), hashlib.sha256(vectors.tobytes()).hexdigest())
"""

FILL_PROGRAM = """
import sys, time
from rag_migration_pipeline.demo.fill import fill_chroma
def report(done, total):
    print(done, flush=True)
    time.sleep(0.02)
fill_chroma(sys.argv[1], "docs", 20, limit=300, on_progress=report)
"""


@pytest.fixture(scope="module")
def corpus() -> tuple[CorpusDocument, ...]:
    return read_corpus()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, source in LIBRARY.items():
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "library"


def run_python(program: str, *arguments: str, hash_seed: str = "0") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_corpus_has_at_least_two_thousand_documents_with_ids_of_their_own(
    corpus: tuple[CorpusDocument, ...],
) -> None:
    ids = {document.id for document in corpus}
    assert MINIMUM_DOCUMENTS <= len(corpus) <= DEFAULT_LIMIT
    assert len(ids) == len(corpus)
    assert {document.metadata["kind"] for document in corpus} == {"module", "class", "function", "method"}
    assert not {document.metadata["module"].split(".")[0] for document in corpus} & {"test", "idlelib", "lib2to3"}


def test_metadata_has_its_types_and_lacks_the_key_where_there_is_nothing(corpus: tuple[CorpusDocument, ...]) -> None:
    expected = {"module": str, "qualified_name": str, "kind": str, "line": int, "length": int, "is_public": bool}
    for document in corpus:
        found = dict(document.metadata)
        parameters, class_name = found.pop("parameters", ["none"]), found.pop("class_name", "none")
        assert {key: type(value) for key, value in found.items()} == {**expected, "words_per_line": float}
        assert parameters
        assert all(type(name) is str and name for name in [*parameters, class_name])
        assert found["length"] == len(document.text) > 0
        assert document.id.split("#")[0] == found["qualified_name"]
    for key in ("parameters", "class_name", "is_public"):
        with_value = sum(bool(document.metadata.get(key)) for document in corpus)
        assert len(corpus) * 0.2 < with_value < len(corpus) * 0.9, key


def test_definitions_are_found_and_described_as_they_are_written(library: Path) -> None:
    found = {document.id: document for document in read_documents(library)}
    parameters = {name: document.metadata.get("parameters") for name, document in found.items()}
    assert parameters == {
        "json": None,
        "json.loads": ["s", "*args", "strict", "**keywords"],
        "json.nothing": None,
        "json.decoder.scan": ["s"],
        "json.decoder.scan#2": ["s", "end"],
        "json.decoder.Decoder": None,
        "json.decoder.Decoder.__init__": None,
        "json.decoder.Decoder._decode": ["text"],
        "json.decoder.Decoder.static": ["text"],
        "json.decoder.Decoder.made": None,
    }
    assert found["json.decoder.scan#2"].metadata["qualified_name"] == "json.decoder.scan"
    assert found["json.decoder.scan#2"].metadata["line"] == 8
    assert "parameters" not in found["json.nothing"].metadata
    assert found["json.decoder.Decoder.__init__"].metadata["is_public"] is True
    assert found["json.decoder.Decoder._decode"].metadata["is_public"] is False
    assert found["json.decoder.Decoder._decode"].metadata["class_name"] == "Decoder"


def test_a_python_without_sources_is_refused_in_words(library: Path) -> None:
    with pytest.raises(SpecError, match=r"at least 2000 docstrings in .*, found 10\. Run the demo"):
        read_corpus(folder=library)


def test_a_sample_keeps_the_order_and_is_part_of_every_larger_sample(corpus: tuple[CorpusDocument, ...]) -> None:
    small = [document.id for document in sample_documents(list(corpus), 500)]
    assert len(small) == 500
    assert [document.id for document in corpus if document.id in set(small)] == small


def test_corpus_and_vectors_are_the_same_bits_in_every_process() -> None:
    documents = read_corpus(300)
    texts = [document.text for document in documents]
    vectors = HashedTfidf.fit(texts).embed(texts)
    here = f"{corpus_digest(documents)} {hashlib.sha256(vectors.tobytes()).hexdigest()}\n"
    assert run_python(DIGEST_PROGRAM, hash_seed="1") == here
    assert run_python(DIGEST_PROGRAM, hash_seed="4711") == here


def test_vectors_are_the_same_bits_on_every_machine() -> None:
    texts = ["Decode a JSON document.", "Open a socket, and a SOCKET again.", "", "Grüße von_hier"]
    vectors = HashedTfidf.fit(texts).embed(texts)
    assert (
        hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()
        == "848e00f02712a671eb6a6a869c507f6eca7af5fa118835b2e5719271a1067549"
    )


def test_vectors_have_the_promised_shape_and_lengths_that_tell_texts_apart(corpus: tuple[CorpusDocument, ...]) -> None:
    texts = [document.text for document in corpus]
    started_s = time.process_time()
    vectors = HashedTfidf.fit(texts).embed(texts)
    assert time.process_time() - started_s < 3
    lengths = np.linalg.norm(vectors, axis=1)
    assert vectors.shape == (len(corpus), DIMENSION) == (len(corpus), 384)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert lengths.min() > 1e-3
    assert np.percentile(lengths, 95) > 2 * np.percentile(lengths, 5)
    assert np.mean(np.abs(lengths - 1) < 0.1) < 0.01, "lengths that are nearly 1 would hide a lost length"


@pytest.mark.parametrize("text", ["", "...", "  ", "___"])
def test_a_text_without_words_has_a_vector_too(text: str) -> None:
    for embedding in (HashedTfidf.fit([]), HashedTfidf.fit([text]), HashedTfidf.fit(["a b", "c"])):
        assert np.linalg.norm(embedding.embed([text])) > 0
    assert HashedTfidf.fit([]).embed([]).shape == (0, DIMENSION)


def test_neighbours_are_about_the_same_thing(corpus: tuple[CorpusDocument, ...]) -> None:
    texts = [f"{document.id}\n{document.text}" for document in corpus]
    embedding = HashedTfidf.fit(texts)
    vectors = embedding.embed(texts)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    packages = np.array([document.metadata["module"].split(".")[0] for document in corpus])
    json, socket = units[packages == "json"], units[packages == "socket"]
    assert min(len(json), len(socket)) > 2
    assert (json @ json.T)[np.triu_indices(len(json), 1)].mean() > 2 * abs((json @ socket.T).mean())
    nearest = np.argsort(-(units @ embedding.embed(["decode a JSON document"])[0]))[:3]
    assert (packages[nearest] == "json").sum() >= 2


def test_filling_twice_writes_once(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    assert (
        fill_chroma(tmp_path / "a" / "chroma", "docs", 120, limit=300, on_progress=lambda *at: steps.append(at)) == 300
    )
    assert steps == [(120, 300), (240, 300), (300, 300)]
    steps.clear()
    started_s = time.process_time()
    assert (
        fill_chroma(tmp_path / "a" / "chroma", "docs", 120, limit=300, on_progress=lambda *at: steps.append(at)) == 300
    )
    assert steps == []
    assert time.process_time() - started_s < 1


@pytest.mark.slow
def test_a_fill_that_was_killed_is_completed_and_equals_an_undisturbed_one(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", FILL_PROGRAM, str(killed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 100:
            pass
        process.send_signal(signal.SIGKILL)
    steps: list[tuple[int, int]] = []
    assert fill_chroma(killed, "docs", 120, limit=300, on_progress=lambda *at: steps.append(at)) == 300
    assert steps[0][0] > 100 + 120 - 1, "the first write of the second run adds to what the first left"
    fill_chroma(whole, "docs", 120, limit=300)
    found = compare_collections(whole, "docs", killed, "docs")
    assert found.is_identical, found
    assert found.summary == "round trip: 300 of 300 records identical"


def test_the_vector_index_is_never_rewritten_in_place_where_a_kill_could_tear_it(tmp_path: Path) -> None:
    # chromadb 1.5.9 writes index_metadata.pickle with each rewrite, by default after 1,000 records.
    assert fill_chroma(tmp_path, "docs", limit=1_500) == 1_500
    assert [path.name for path in tmp_path.rglob("index_metadata.pickle")] == []


def test_a_collection_that_is_not_the_corpus_is_refused_and_left_alone(tmp_path: Path) -> None:
    import chromadb
    from chromadb.config import Settings

    with chromadb.PersistentClient(path=str(tmp_path), settings=Settings(anonymized_telemetry=False)) as client:
        client.create_collection("docs", embedding_function=None).add(ids=["mine"], embeddings=[[1.0, 2.0]])
    with pytest.raises(CollectionExistsError, match="'docs' is unfinished and not this Python's corpus"):
        fill_chroma(tmp_path, "docs", limit=300)
    with chromadb.PersistentClient(path=str(tmp_path), settings=Settings(anonymized_telemetry=False)) as client:
        assert client.get_collection("docs", embedding_function=None).get()["ids"] == ["mine"]


def test_a_foreign_env_file_in_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SOMETHING_ELSE=1\nIS_PERSISTENT=perhaps\n")
    monkeypatch.chdir(tmp_path)
    assert fill_chroma("chroma", "docs", limit=50) == 50
    assert compare_collections("chroma", "docs", tmp_path / "chroma", "docs").is_identical


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreRequestError, match=r"Cannot make the folder .*file/chroma"):
        fill_chroma(tmp_path / "file" / "chroma", "docs")
