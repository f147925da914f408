"""Artifacts are kept with their run, and the newest of each key is found without it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from hpc_flows import flow, tags, task
from hpc_flows.artifacts import (
    Artifact,
    ImageArtifact,
    LinkArtifact,
    MarkdownArtifact,
    ProgressArtifact,
    TableArtifact,
    acreate_image_artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    store,
    update_progress_artifact,
)
from hpc_flows.exceptions import ArtifactError
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from pathlib import Path


def _of_run(home: Path) -> list[Any]:
    (folder,) = (home / "runs").iterdir()
    return store.of_run(str(home), str(folder))


def test_every_kind_is_kept_as_it_is_shown(home: Path) -> None:
    @flow
    def main() -> list[UUID]:
        return [
            create_link_artifact("https://x.org", "X", key="link"),
            create_link_artifact("https://x.org"),
            create_markdown_artifact("# Title", key="text", description="what it is"),
            create_table_artifact([{"a": 1, "b": float("nan")}], key="table"),
            create_progress_artifact(12, key="progress"),
            create_image_artifact("https://x.org/x.png", key="image"),
        ]

    ids = main()
    assert all(isinstance(id_, UUID) for id_ in ids)
    found = _of_run(home)
    assert [artifact.id for artifact in found] == ids
    assert [(artifact.type, artifact.data) for artifact in found] == [
        ("markdown", "[X](https://x.org)"),
        ("markdown", "[https://x.org](https://x.org)"),
        ("markdown", "# Title"),
        ("table", '[{"a": 1, "b": null}]'),
        ("progress", 12.0),
        ("image", "https://x.org/x.png"),
    ]
    text = Artifact.get("text")
    assert (text.key, text.description, text.id) == ("text", "what it is", ids[2])


def test_an_artifact_knows_the_run_that_made_it(home: Path) -> None:
    @task
    def inner() -> None:
        create_markdown_artifact("x", key="of-task")

    @flow
    def main() -> None:
        create_markdown_artifact("x", key="of-flow")
        with tags("tagged"):
            inner()

    main()
    (folder,) = (home / "runs").iterdir()
    of_task, of_flow = Artifact.get("of-task"), Artifact.get("of-flow")
    assert of_task.run == of_task.flow_run_id == of_flow.flow_run_id == folder.name
    assert of_flow.task_run_id is None
    assert of_task.task_run_id is not None
    assert of_task.tags == ["tagged"]


def test_the_newest_version_of_a_key_is_found_across_runs(home: Path) -> None:
    @flow
    def main(text: str) -> UUID:
        return create_markdown_artifact(text, key="report")

    main("first")
    second = main("second")
    assert (Artifact.get("report").id, Artifact.get("report").data) == (second, "second")
    assert len(list((home / "runs").iterdir())) == 2


def test_a_late_older_version_does_not_replace_a_newer_one(home: Path) -> None:
    @flow
    def main() -> None:
        create_markdown_artifact("newer", key="report")

    main()
    newer = Artifact.get("report")
    facts = {**newer.to_dict(), "id": str(UUID(int=7)), "updated": newer.updated - 10, "data": "o"}
    store._point_to(str(home), store.StoredArtifact(str(home), facts))
    assert Artifact.get("report").data == "newer"


def test_large_data_are_a_file_of_the_run(home: Path) -> None:
    rows = [[number, "x" * 50] for number in range(5000)]

    @flow
    def main() -> None:
        create_table_artifact(rows, key="large")

    main()
    (folder,) = (home / "runs").iterdir()
    (event,) = [event for event in read_run(str(folder)) if event.kind == "artifact"]
    assert "data" not in event.data
    assert event.data["size"] > 250_000
    assert json.loads(Artifact.get("large").data) == rows
    (file,) = (folder / "artifacts").iterdir()
    file.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        assert Artifact.get("large").data


def test_progress_is_updated_from_other_tasks_and_processes(home: Path) -> None:
    @task
    def work(id_: str, progress: float) -> None:
        update_progress_artifact(id_, progress)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> UUID:
        keyless = create_progress_artifact(0.0, description="at first")
        work.submit(str(keyless), 40).wait()
        work(str(keyless), 50)
        update_progress_artifact(keyless, 170, description="over")
        return keyless

    id_ = main()
    (found,) = _of_run(home)
    assert (found.id, found.data, found.description) == (id_, 100.0, "over")
    assert found.task_run_id is None
    assert found.updated >= found.created


def test_an_unknown_artifact_cannot_be_updated() -> None:
    with pytest.raises(ArtifactError, match="There is no artifact"):
        update_progress_artifact(UUID(int=1), 5)


@pytest.mark.parametrize("progress", ["half", float("nan"), True, None])
def test_progress_is_a_number(progress: Any) -> None:
    with pytest.raises(ArtifactError, match="from 0 to 100"):
        create_progress_artifact(progress)


@pytest.mark.parametrize("key", ["", "Upper", "with space", "a_b", "../x", "x" * 241, 3])
def test_keys_are_lower_case_letters_digits_and_dashes(key: Any) -> None:
    @flow
    def main() -> None:
        with pytest.raises(ArtifactError, match="loss-curve"):
            create_markdown_artifact("x", key=key)

    main()


def test_outside_of_runs_it_is_kept_with_a_warning(home: Path) -> None:
    with pytest.warns(FutureWarning, match="belongs to no run") as caught:
        create_markdown_artifact("alone", key="alone")
    assert caught[0].filename == __file__
    assert Artifact.get("alone").run == "outside"
    assert [each.data for each in store.of_run(str(home), str(home / "outside"))] == ["alone"]


def test_the_class_gets_or_creates() -> None:
    @flow
    def main() -> list[bool]:
        made = [Artifact.get_or_create("k", type="any", data={"a": 1})[1] for _ in range(2)]
        return [*made, TableArtifact.get_or_create("t", table=[[1]])[1]]

    assert main() == [True, False, True]
    assert Artifact.get("k").data == Artifact(data={"a": 1}).format() == '{"a": 1}'
    assert Artifact.get("nothing") is None
    assert Artifact.get().key == "t"


@pytest.mark.parametrize(
    ("artifact", "type_", "data"),
    [
        (LinkArtifact(link="l", link_text="t", key="k"), "markdown", "[t](l)"),
        (MarkdownArtifact(markdown="m", key="k"), "markdown", "m"),
        (TableArtifact(table=[[1, None]], key="k"), "table", "[[1, null]]"),
        (ProgressArtifact(progress=-3, key="k"), "progress", 0.0),
        (ImageArtifact(image_url="i", key="k"), "image", "i"),
        (Artifact(type="own", data=[1], key="k"), "own", "[1]"),
    ],
)
def test_each_class_formats_and_creates(artifact: Artifact, type_: str, data: Any) -> None:
    @flow
    def main() -> Any:
        return artifact.create()

    made = main()
    assert artifact.format() == made.data == data
    assert (made.type, made.key, Artifact.get("k").id) == (type_, "k", made.id)


def test_all_of_it_can_be_awaited() -> None:
    @flow
    async def main() -> list[Any]:
        ids = [
            await acreate_link_artifact("l"),
            await acreate_markdown_artifact("m"),
            await acreate_table_artifact([[1]]),
            await acreate_image_artifact("i"),
            await create_markdown_artifact("m", key="awaited"),
        ]
        progress = await acreate_progress_artifact(1)
        assert await aupdate_progress_artifact(progress, 2) == progress
        assert await update_progress_artifact(progress, 3) == progress
        kept = await Artifact(type="t", data=[1]).acreate()
        found, made = await Artifact.aget_or_create("awaited")
        got = await Artifact.get("awaited")
        assert found.id == got.id == (await Artifact.aget("awaited")).id
        return [*ids, kept.id, made, await Artifact(data=[1]).aformat()]

    *ids, made, text = asyncio.run(main())
    assert len({str(id_) for id_ in ids}) == 6
    assert (made, text) == (False, "[1]")


def test_data_that_are_not_json_are_refused() -> None:
    @flow
    def main() -> None:
        with pytest.raises(ArtifactError, match="must be JSON"):
            create_table_artifact([[object()]])

    main()


def test_a_deleted_key_is_forgotten() -> None:
    @flow
    def main() -> None:
        create_markdown_artifact("x", key="gone")

    main()
    assert store.delete("gone")
    assert Artifact.get("gone") is None
    assert not store.delete("gone")
