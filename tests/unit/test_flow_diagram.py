"""What a flow would run, drawn without running it."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import allow_failure, flow, tags, task, unmapped
from hpc_flows.exceptions import FlowVisualizationError, GraphvizImportError, ParameterBindError

if TYPE_CHECKING:
    from pathlib import Path

ran: list[str] = []


@task
def extract(n: int = 1) -> list[int]:
    ran.append("extract")
    return list(range(n))


@task(viz_return_value=[1, 2])
def split(_: Any) -> list[int]:
    ran.append("split")
    return []


@task
def square(x: int, y: Any = None) -> int:
    ran.append(f"square {y}")
    return x * x


@task
async def load(*_: Any) -> None:
    ran.append("load")


@flow
def publish(x: Any) -> Any:
    ran.append("publish")
    return x


@pytest.fixture(autouse=True)
def _nothing_runs(home: Path) -> Any:
    ran.clear()
    yield
    assert ran == []
    assert not (home / "runs").exists()


def _lines(drawn: str) -> list[str]:
    return [line.strip() for line in drawn.splitlines()[1:]]


def test_calls_are_boxes_and_values_that_are_passed_on_are_arrows() -> None:
    @flow
    def main(n: int) -> Any:
        found = extract(n)
        late = split.submit(found)
        with tags("a"):
            squares = square.map(split([late]), y=unmapped(found))
        return publish({"all": squares, "but": allow_failure(late)})

    assert _lines(main.generate_mermaid_graph(3)) == [
        'n0["extract-0"]',
        'n1["split-0"]',
        'n2["split-1"]',
        'n3[["square-0 (map)"]]',
        'n4(["publish-0"])',
        "n0 --> n1",
        "n1 --> n2",
        "n0 --> n3",
        "n2 --> n3",
        "n1 --> n4",
        "n3 --> n4",
    ]


def test_what_is_waited_for_is_an_arrow_too() -> None:
    @flow
    def main() -> None:
        first = extract.submit()
        load.submit(wait_for=[first])
        square(1, wait_for=[first])

    assert _lines(main.generate_mermaid_graph())[-2:] == ["n0 --> n1", "n0 --> n2"]


def test_an_async_flow_is_drawn_with_and_without_a_running_loop() -> None:
    @flow
    async def main() -> None:
        await load(await load(extract()))

    async def inside() -> str:
        return main.generate_mermaid_graph()

    expected = ["n0 --> n1", "n1 --> n2"]
    assert _lines(main.generate_mermaid_graph())[-2:] == expected
    assert _lines(asyncio.run(inside()))[-2:] == expected


@pytest.mark.parametrize(
    "use",
    [
        lambda value: list(value),  # noqa: PLW0108 - a class is no use of it
        lambda value: value[0],
        lambda value: value + 1,
        lambda value: value.mean(),
        lambda value: 1 if value else 2,
        lambda value: float(value),  # noqa: PLW0108 - as above
    ],
)
def test_a_flow_that_looks_at_a_value_is_told_to_say_what_stands_for_it(use: Any) -> None:
    main = flow(lambda: use(extract()))
    with pytest.raises(FlowVisualizationError, match="viz_return_value"):
        main.generate_mermaid_graph()


def test_a_flow_that_raises_while_it_is_drawn_is_told_why() -> None:
    nothing: dict[str, int] = {}
    main = flow(name="main")(lambda: nothing["key"])
    with pytest.raises(FlowVisualizationError, match=r"'main' cannot be drawn: KeyError: 'key'"):
        main.generate_mermaid_graph()
    with pytest.raises(ParameterBindError):
        main.generate_mermaid_graph(1)


class Graph:
    """Takes notes as `graphviz.Digraph` draws."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.body: list[Any] = []

    def node(self, name: str, **how: str) -> None:
        self.body.append((name, how["shape"]))

    def edge(self, *ends: str) -> None:
        self.body.append(ends)

    def render(self, **how: Any) -> None:
        self.body.append(how["filename"])


def test_a_picture_is_made_with_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", SimpleNamespace(Digraph=Graph))
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/dot")
    main = flow(name="main")(lambda: publish(square.map(split(1))))
    graph = main.visualize()
    assert graph.body == [
        ("split-0", "box"),
        ("square-0", "box3d"),
        ("split-0", "square-0"),
        ("publish-0", "oval"),
        ("square-0", "publish-0"),
        "main",
    ]
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FlowVisualizationError, match=r"`dot`.*generate_mermaid_graph\(\)"):
        main.visualize()


def test_without_graphviz_the_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(GraphvizImportError, match=r"generate_mermaid_graph\(\)"):
        flow(lambda: extract()).visualize()  # noqa: PLW0108 - a task is no function
