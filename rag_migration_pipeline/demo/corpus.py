"""The demo's documents: the docstrings of the Python standard library that runs the demo.

Belongs here: finding the library's source files, reading their docstrings by parsing (nothing is imported or run), and
the metadata of each document. Does not belong here: vectors (``embedding``) and stores (``fill``).

The corpus is the same on every run of one Python version: files are read in the order of their names, and the sample
is drawn by a hash of each id.
"""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import SpecError

# 7,500 documents exist in 3.11; an embedded Chroma indexes about 500 records/s, so 3,000 fill in about 6 s.
DEFAULT_LIMIT = 3_000
MINIMUM_DOCUMENTS = 2_000

# Tests and fixtures document themselves, not Python, and some lib2to3 fixtures are broken on purpose.
SKIPPED_FOLDERS = frozenset({"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DocumentedNode = ast.Module | ast.ClassDef | FunctionNode


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """One documented object of the library.

    Attributes:
        id: The qualified name, as in ``json.decoder.JSONDecoder.decode``; later definitions of a name get ``#2``, ...
        text: The docstring, with its indentation removed; never empty.
        metadata: module, qualified_name, kind, line, length (characters), is_public, words_per_line; and only where
            there is something to say: parameters (list of str) and class_name. A key without a value is missing.
    """

    id: str
    text: str
    metadata: dict[str, Any]


def read_corpus(limit: int | None = DEFAULT_LIMIT, folder: Path | None = None) -> tuple[CorpusDocument, ...]:
    """Read the documents of the standard library, in the order of their files and lines.

    Args:
        limit: At most so many documents, an even sample of all modules; None reads all.
        folder: The library's folder; by default that of the running Python.

    Raises:
        SpecError: The folder holds too few documents, as where Python was installed without its sources.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    documents = sample_documents(list(read_documents(folder)), limit)
    expected = MINIMUM_DOCUMENTS if limit is None else min(limit, MINIMUM_DOCUMENTS)
    if len(documents) < expected:
        raise SpecError(
            f"The demo's corpus is made from the Python standard library: expected at least {expected} docstrings in "
            f"{folder}, found {len(documents)}.",
            todo="Run the demo with a Python that was installed with its source files.",
            expected=expected,
            found=len(documents),
        )
    return tuple(documents)


def sample_documents(documents: list[CorpusDocument], limit: int | None) -> list[CorpusDocument]:
    """Keep at most ``limit`` documents, chosen by the hash of their ids, in the order given.

    A patch release that adds or removes a function thus moves one document, and not the whole sample.
    """
    if limit is None or len(documents) <= limit:
        return documents
    by_hash = sorted(documents, key=lambda document: hashlib.blake2b(document.id.encode()).digest())
    chosen = {document.id for document in by_hash[:limit]}
    return [document for document in documents if document.id in chosen]


def read_documents(folder: Path) -> Iterator[CorpusDocument]:
    """Yield every documented object under a library folder, each with an id of its own."""
    seen: dict[str, int] = {}
    for path in _list_source_files(folder):
        module = _name_module(path.relative_to(folder))
        for name, kind, class_name, node in _walk_definitions(_parse(path), module, "module", None):
            text = ast.get_docstring(node)
            if not text or not _is_storable(text):
                continue
            seen[name] = seen.get(name, 0) + 1
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            yield CorpusDocument(unique, text, _describe(module, name, kind, class_name, node, text))


def corpus_digest(documents: Iterable[CorpusDocument]) -> str:
    """Return a digest over ids, texts and metadata, which says whether two corpora are the same."""
    digest = hashlib.blake2b(digest_size=16)
    for document in documents:
        digest.update(repr((document.id, document.text, sorted(document.metadata.items()))).encode())
    return digest.hexdigest()


def _list_source_files(folder: Path) -> Iterator[Path]:
    """Yield the modules under a folder by name; what is no identifier (``config-3.11``) is no package."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else []
    for entry in entries:
        if entry.is_dir():
            if entry.name.isidentifier() and entry.name not in SKIPPED_FOLDERS:
                yield from _list_source_files(entry)
        elif entry.suffix == ".py" and entry.stem.isidentifier():
            yield entry


def _name_module(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _parse(path: Path) -> ast.Module:
    """Parse a file; a file that is not of this Python's syntax counts as empty."""
    with warnings.catch_warnings():
        # Invalid escapes in old docstrings warn while parsing; they are not ours to mend.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])


def _walk_definitions(
    node: DocumentedNode, name: str, kind: str, class_name: str | None
) -> Iterator[tuple[str, str, str | None, DocumentedNode]]:
    """Yield (qualified name, kind, class, node) in the order of lines; what a function hides inside stays there."""
    yield name, kind, class_name, node
    if isinstance(node, FunctionNode):
        return
    for child in _list_members(node):
        if isinstance(child, ast.ClassDef):
            yield from _walk_definitions(child, f"{name}.{child.name}", "class", None)
        elif isinstance(node, ast.ClassDef):
            yield from _walk_definitions(child, f"{name}.{child.name}", "method", node.name)
        else:
            yield from _walk_definitions(child, f"{name}.{child.name}", "function", None)


def _list_members(node: ast.AST) -> Iterator[ast.ClassDef | FunctionNode]:
    """Yield the classes and functions of a module or class, also those under its ``if``, ``try`` and ``with``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _list_members(child)


def _describe(
    module: str, name: str, kind: str, class_name: str | None, node: DocumentedNode, text: str
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "module": module,
        "qualified_name": name,
        "kind": kind,
        "line": getattr(node, "lineno", 1),
        "length": len(text),
        "is_public": all(_is_public(part) for part in name.split(".")),
        "words_per_line": round(len(text.split()) / len(text.splitlines()), 3),
    }
    parameters = _list_parameters(node, kind) if isinstance(node, FunctionNode) else []
    if parameters:
        metadata["parameters"] = parameters
    if class_name is not None:
        metadata["class_name"] = class_name
    return metadata


def _is_public(part: str) -> bool:
    return not part.startswith("_") or (part.startswith("__") and part.endswith("__"))


def _list_parameters(node: FunctionNode, kind: str) -> list[str]:
    """Return the parameters as they are spelled in the signature, without the instance or class of a method."""
    given = node.args
    positional = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    is_static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    if kind == "method" and not is_static:
        positional = positional[1:]
    variadic = [f"*{given.vararg.arg}"] if given.vararg else []
    keywords = [argument.arg for argument in given.kwonlyargs]
    return positional + variadic + keywords + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def _is_storable(text: str) -> bool:
    """Say whether every store can hold the text: no lone surrogates, no NUL."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
