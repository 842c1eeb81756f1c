"""Files that describe migrations: forms, several in one file, references, places; a message shows no value."""

from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.config_files import read_config, resolved
from rag_migration_pipeline.errors import SpecError

SECRET = "do-not-show-me-7391"
YAML = "name: a\nsource: memory://x\n---\nname: b\nsource: memory://y\n"
FORMS = {
    "two.yaml": YAML,
    "list.yml": "- name: a\n  source: memory://x\n- {name: b, source: memory://y}\n",
    "named.yaml": "migrations:\n  - name: a\n    source: memory://x\n  - {name: b, source: memory://y}\n",
    "list.json": '[{"name": "a", "source": "memory://x"}, {"name": "b", "source": "memory://y"}]',
    "named.toml": '[[migrations]]\nname="a"\nsource="memory://x"\n[[migrations]]\nname="b"\nsource="memory://y"\n',
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_the_same(tmp_path: Path, name: str) -> None:
    found = read_config(write(tmp_path, name, FORMS[name]))
    assert [item.values for item in found] == [
        {"name": "a", "source": "memory://x"},
        {"name": "b", "source": "memory://y"},
    ]
    assert [item.position for item in found] == [1, 2]


def test_yaml_tells_the_lines_of_every_migration(tmp_path: Path) -> None:
    for name, lines in (("two.yaml", (2, 5)), ("list.yml", (2, 3)), ("named.yaml", (3, 4))):
        found = read_config(write(tmp_path, name, FORMS[name]))
        said = []
        for item in found:
            assert item.line_of is not None
            said.append(item.line_of(("source",)))
        assert tuple(said) == lines, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${HOST}", "h"),
        ("qdrant://${HOST}:${PORT:-6333}/docs", "qdrant://h:6333/docs"),
        ("${EMPTY:-other}", "other"),
        ("${MISSING:-}", ""),
        ("$${HOST}", "${HOST}"),
        ("cost $5 {HOST}", "cost $5 {HOST}"),
        (7, 7),
        ({"a": ["${HOST}", None]}, {"a": ["h", None]}),
    ],
)
def test_references_are_replaced_anywhere_in_a_text(text: Any, expected: Any) -> None:
    assert resolved(text, {"HOST": "h", "EMPTY": ""}) == expected


def test_what_a_reference_stands_for_is_never_looked_into_again() -> None:
    assert resolved("${A}", {"A": "${B}", "B": SECRET}) == "${B}"


def test_a_reference_to_nothing_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "m.yaml", f"name: a\n---\nname: b\nfilter: {{x: ['{SECRET}', '${{NOBODY}}']}}\n")
    with pytest.raises(SpecError) as caught:
        read_config(path, {})
    assert f"{path}, document 2: line 4, filter.x.1: the environment variable NOBODY is not set." in str(caught.value)
    assert "${NOBODY:-default}" in caught.value.todo


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.yaml", "a: 1\nb: [", "line 4"),
        ("m.yaml", "name: a\nname: b", "line 2 has a key that line 1 has too"),
        ("m.json", '{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("m.toml", "a = 1\nb = ", "line 2"),
        ("m.toml", "a = 1\na = 2", "line 2"),
        ("m.yaml", "migrations: [{name: a}]\nretry: 3", "beside the list migrations stands 'retry'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_without_values(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    path = write(tmp_path, name, text + f"\n# {SECRET}\n" if not name.endswith("json") else text)
    with pytest.raises(SpecError) as caught:
        read_config(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml: No such file"):
        read_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "name: a\nfilter: &loop {x: *loop}\n", "an alias (*name) stands within what its anchor"),
        ("a.yaml", "name: a\nfilter: &loop [1, {x: [*loop]}]\n", "an alias (*name) stands within what its anchor"),
        ("a.yaml", f"name: a\nmapping: {'[' * 5000}{']' * 5000}\n", "it is nested too deeply"),
        ("a.json", f'{{"name": {"[" * 200_000}{"]" * 200_000}}}', "it is nested too deeply"),
    ],
)
def test_what_has_no_end_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_config(write(tmp_path, name, text))
    assert said in caught.value.what


def test_an_alias_that_is_used_twice_is_no_loop(tmp_path: Path) -> None:
    found = read_config(write(tmp_path, "a.yaml", "name: a\nfilter: {x: &one {y: 1}, z: [*one, *one]}\n"))
    assert found[0].values["filter"] == {"x": {"y": 1}, "z": [{"y": 1}, {"y": 1}]}
