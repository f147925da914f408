"""`hpc-flows variable`, `artifact` and `event`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow
from hpc_flows.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)
from hpc_flows.cli.main import invoke
from hpc_flows.events import emit_event
from hpc_flows.journal.reader import JournalReader
from hpc_flows.variables import Variable

if TYPE_CHECKING:
    from collections.abc import Callable

    Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        assert invoke(words) == status
        told = capsys.readouterr()
        return told.err if status else told.out

    return run


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("true", True), ('["a"]', ["a"]), ("plain", "plain"), ("", "")]
)
def test_a_variable_is_json_where_it_reads_as_such(said: Said, text: str, value: Any) -> None:
    said("variable", "set", "x", text)
    assert Variable.get("x") == value
    assert said("variable", "get", "x").strip() == text


def test_text_can_be_insisted_upon_and_tags_be_given(said: Said) -> None:
    said("variable", "set", "x", "12", "--text", "--tag", "a", "--tag", "b")
    assert Variable.get("x") == "12"
    shown = json.loads(said("variable", "inspect", "x", "--json"))
    assert (shown["value"], shown["tags"]) == ("12", ["a", "b"])
    assert "a, b" in said("variable", "inspect", "x")


def test_variables_are_listed_by_tag_and_removed(said: Said) -> None:
    assert "no variables yet" in said("variable", "ls")
    said("variable", "set", "folder", "/scratch", "--tag", "paths")
    said("variable", "set", "long", "y" * 100)
    listed = said("variable", "ls")
    assert "folder" in listed
    assert "y" * 60 + "…" in listed
    assert [each["name"] for each in json.loads(said("variable", "ls", "--json"))] == [
        "folder",
        "long",
    ]
    assert "long" not in said("variable", "ls", "--tag", "paths")
    said("variable", "unset", "long")
    assert Variable.get("long") is None


def test_an_existing_variable_wants_overwrite_and_a_missing_one_gets_a_hint(said: Said) -> None:
    said("variable", "set", "folder", "a")
    assert "already exists" in said("variable", "set", "folder", "b", status=1)
    said("variable", "set", "folder", "b", "--overwrite")
    assert "Did you mean 'folder'?" in said("variable", "get", "foldr", status=1)
    assert "Did you mean 'folder'?" in said("variable", "unset", "foldr", status=1)


def test_artifacts_are_listed_and_shown(said: Said) -> None:
    assert "There are no artifacts" in said("artifact", "ls")

    @flow(flow_run_name="the-run")
    def main() -> None:
        create_markdown_artifact("# Heading", key="report", description="all\nof it")
        create_table_artifact({"x": [1, 2], "y": [3]}, key="table")
        create_progress_artifact(12.5, key="done", description="so far")
        create_markdown_artifact("keyless")

    main()
    listed = said("artifact", "ls")
    assert "all of it" in listed
    assert "12 % so far" in listed
    assert len(json.loads(said("artifact", "ls", "--json"))) == 3
    assert len(json.loads(said("artifact", "ls", "--run", "the-run", "--json"))) == 4
    assert len(json.loads(said("runs", "show", "the-run", "--json"))["artifacts"]) == 4
    assert "all of it" in said("runs", "show", "the-run")
    assert "# Heading" in said("artifact", "inspect", "report")
    assert "12.5 %" in said("artifact", "inspect", "done")
    table = said("artifact", "inspect", "table").splitlines()[-3:]
    assert [row.split() for row in table] == [["x", "y"], ["1", "3"], ["2"]]
    assert json.loads(said("artifact", "inspect", "done", "--json"))["data"] == 12.5


@pytest.mark.parametrize(
    "table", [[{"x": 1, "y": 3}, {"x": 2}], [["1", "3"], ["2"]]], ids=["dicts", "lists"]
)
def test_tables_of_rows_are_shown_as_tables(said: Said, table: Any) -> None:
    @flow
    def main() -> None:
        create_table_artifact(table, key="table")

    main()
    rows = said("artifact", "inspect", "table").splitlines()[-2:]
    assert [row.split() for row in rows] == [["1", "3"], ["2"]]


def test_an_artifact_is_forgotten_by_its_key(said: Said) -> None:
    @flow
    def main() -> None:
        create_markdown_artifact("x", key="report")

    main()
    assert "its run keeps it" in said("artifact", "delete", "report")
    assert "There is no artifact 'report'" in said("artifact", "inspect", "report", status=1)


def test_events_are_emitted_listed_and_followed(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such events" in said("event", "ls")

    @flow(flow_run_name="the-run")
    def main() -> None:
        emit_event("sample.measured", {"prefect.resource.id": "lab.7"}, payload={"mass": 2})

    main()
    said("event", "emit", "visitor.came", "--resource-id", "lab", "--payload", '{"n": 1}')
    listed = said("event", "ls")
    assert listed.index("sample.measured") < listed.index("visitor.came")
    assert '{"mass": 2}' in listed
    (only,) = json.loads(said("event", "ls", "--run", "the-run", "--json"))
    assert (only["name"], only["resource"]) == ("sample.measured", {"prefect.resource.id": "lab.7"})
    assert "visitor" not in said("event", "ls", "--name", "sample.")
    assert "sample" not in said("event", "ls", "-n", "1")
    monkeypatch.setattr(JournalReader.poll, "__defaults__", (1,))  # a long journal in small
    assert json.loads(said("event", "stream", "the-run"))["payload"] == {"mass": 2}


@pytest.mark.parametrize("payload", ["{", "[1]"])
def test_a_payload_must_be_an_object(said: Said, payload: str) -> None:
    words = ("event", "emit", "a", "--resource-id", "b", "--payload", payload)
    assert "--payload" in said(*words, status=2)
