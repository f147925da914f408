"""Pictures of what a flow would run: its function is called, its tasks and subflows are not."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from hpc_flows.context import entered
from hpc_flows.engine.parameters import bind, unbind
from hpc_flows.exceptions import FlowVisualizationError, GraphvizImportError, text_of
from hpc_flows.flows.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpc_flows.flows import Flow
    from hpc_flows.flows.sketch import Node

_INSTEAD = "generate_mermaid_graph() returns the same as text, and needs nothing installed."


def sketched(flow: Flow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Node]:
    """Return the calls that a call of the flow would make.

    Raises:
        ParameterBindError: the arguments do not fit the function.
        FlowVisualizationError: the function raised an error, as the values of tasks are missing.
    """
    sketch = Sketch()
    parameters = bind(flow.fn, args, kwargs)
    try:
        with entered(sketch):
            _call(flow, parameters)
    except FlowVisualizationError:
        raise
    except Exception as error:
        msg = (
            f"The flow {flow.name!r} cannot be drawn: {type(error).__name__}: {text_of(error)}. "
            f"Where it uses the values of tasks itself, say what stands for them: "
            f"@task(viz_return_value=[1, 2, 3])."
        )
        raise FlowVisualizationError(msg) from error
    return sketch.nodes


def _call(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    args, kwargs = unbind(flow.fn, parameters)
    if not flow.isasync:
        flow.body(*args, **kwargs)
        return
    made = flow.body(*args, **kwargs)
    # The caller may run in an event loop, in which another cannot be run.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy_context().run, asyncio.run, made).result()


def mermaid(flow: Flow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the calls that a call of the flow would make, as the text of a Mermaid diagram."""
    nodes = sketched(flow, args, kwargs)
    ids = {node: f"n{number}" for number, node in enumerate(nodes)}
    lines = ["graph TD"]
    lines += [f"    {ids[node]}{_shape(node)}" for node in nodes]
    lines += [f"    {ids[one]} --> {ids[node]}" for node in nodes for one in node.upstream]
    return "\n".join(lines)


def _shape(node: Node) -> str:
    name = node.name.replace('"', "&quot;")
    if node.is_flow:
        return f'(["{name}"])'
    return f'[["{name} (map)"]]' if node.is_mapped else f'["{name}"]'


def drawn(flow: Flow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return a `graphviz.Digraph` of the calls that a call of the flow would make.

    In a notebook it is shown; elsewhere it is written to a file `<flow's name>.png`, which is
    opened where there is a screen.

    Raises:
        GraphvizImportError: graphviz is not installed.
        FlowVisualizationError: it cannot be drawn.
    """
    nodes = sketched(flow, args, kwargs)
    try:
        graphviz = importlib.import_module("graphviz")  # optional
    except ImportError:
        msg = f"Pictures of flows need the Python package graphviz. {_INSTEAD}"
        raise GraphvizImportError(msg) from None
    graph = graphviz.Digraph(flow.name)
    for node in nodes:
        shape = "oval" if node.is_flow else "box3d" if node.is_mapped else "box"
        graph.node(node.name, shape=shape)
        for one in node.upstream:
            graph.edge(one.name, node.name)
    if "IPython" not in sys.modules:
        _write(graph, flow.name)
    return graph


def _write(graph: Any, name: str) -> None:
    if shutil.which("dot") is None:
        msg = f"Pictures of flows need the program `dot` of Graphviz on the PATH. {_INSTEAD}"
        raise FlowVisualizationError(msg)
    screen = bool(os.environ.get("DISPLAY")) or sys.platform in {"darwin", "win32"}
    graph.render(filename=name, format="png", cleanup=True, view=screen)
