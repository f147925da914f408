"""The house stands as docs/concepts/architecture.md draws it.

Imports are read from the source, so that those inside functions count as much as those at the top
of a file. Imports under `if TYPE_CHECKING:` count too, unless they are one of `SEEN_FROM_BELOW`:
an annotation makes no module depend on another when it runs, but a lower layer that needs the
*type* of a higher one is worth a line that says why.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hpc_flows"

#: The floors of the house from the ground up; a name imports only names that stand before it.
#: The same figure stands in docs/concepts/architecture.md.
FLOORS = {
    "words": "exceptions awaiting resources schedules runs states",
    "config": "settings clusters",
    "values": "serializers filesystems leases locking results cache_policies futures utilities",
    "record": "journal",
    "outside": "transports schedulers",
    "run here": "context runtime logging events artifacts variables",
    "run it": "transactions concurrency engine",
    "run there": "jobs",
    "choose": "task_runners",
    "user API": "tasks task_engine flows flow_engine flow_runs shell",
    "operate": "schemas client blocks automations deployments workers reporting",
    "serve": "server",
    "pretend": "mock_cluster",
    "command": "cli testing __init__",
}
ORDER = ["_version", *(name for names in FLOORS.values() for name in names.split())]

#: The doors upward, opened late: `Flow.serve` and `Flow.deploy` import deployments when they are
#: called, and a root run, of a flow or of a task that is called outside of any, starts its
#: reporting where somebody wants reports.
DOORS = {("flows", "deployments"), ("flows", "reporting"), ("task_runners", "reporting")}

#: Types that a lower module names in annotations and never loads.
SEEN_FROM_BELOW: dict[tuple[str, str], str] = {
    ("runs", "states"): "a run's newest state is an attribute of it",
    ("jobs", "task_runners"): "jobs carries out the task calls that a runner hands to it",
}

#: Where each third-party package may be imported; every other place is wrong.
HOMES: dict[str, tuple[str, ...]] = {
    "cloudpickle": ("serializers", "jobs"),
    "pydantic": (
        *("schemas", "blocks", "automations", "deployments", "server", "flows"),
        "serializers.json",
    ),
    "pydantic_core": ("serializers.json",),
    # For type checkers only: Python 3.11 has no defaults of type variables.
    "typing_extensions": ("states", "futures"),
    "fsspec": ("filesystems",),
    "graphviz": ("flows",),
    "jinja2": ("jobs.script",),
    "click": ("cli",),
    "rich": ("cli",),
    "paramiko": ("transports.paramiko", "transports.paramiko_tunnel"),
    "h5py": ("serializers.hdf5",),
    "numpy": ("serializers.hdf5",),
    "pandas": ("serializers.hdf5",),
    "dask": ("task_runners.dask",),
    "distributed": ("task_runners.dask",),
    "dask_jobqueue": ("task_runners.dask",),
    "pyslurm": ("schedulers.slurm_native",),
    "sqlalchemy": ("server",),
    "alembic": ("server.db",),
    "psycopg": ("server.db",),
    "hatchling": ("server.page",),
    "fastapi": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
}

VAGUE = re.compile(r"(^|_)(utils?|helpers?|commons?|managers?|misc)(_|$)")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
EXCUSES = re.compile(r"not (yet )?implemented|not supported yet|coming soon", re.IGNORECASE)

MAX_FILE = 500
MAX_FUNCTION = 50


class Import(NamedTuple):
    """One import: from which module, of which, where, and whether only for annotations."""

    source: str
    target: str
    line: int
    typing_only: bool


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in FILES.items()}


def _where(name: str, line: int) -> str:
    return f"{FILES[name].relative_to(ROOT)}:{line}"


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _marked(node: ast.AST, *, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Walk a tree, telling for each node whether it stands under `if TYPE_CHECKING:`."""
    yield node, typing_only
    branch = node.body if isinstance(node, ast.If) and _is_type_checking(node) else []
    for child in ast.iter_child_nodes(node):
        yield from _marked(child, typing_only=typing_only or child in branch)


def _absolute(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = FILES[name].name == "__init__.py"
    parts = ["hpc_flows", *([] if name == "__init__" else name.split("."))]
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])


def _targets(name: str, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = _absolute(name, node)
        own = module.split(".")[0] == "hpc_flows"
        return [_deepest(f"{module}.{alias.name}") for alias in node.names] if own else [module]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    ):
        first = node.args[0] if node.args else None
        return [str(first.value)] if isinstance(first, ast.Constant) else []
    return []


def _deepest(dotted: str) -> str:
    """Cut the name of a function or class from a dotted path, leaving the module."""
    inner = dotted.removeprefix("hpc_flows").lstrip(".")
    while inner not in FILES and "." in inner:
        inner = inner.rpartition(".")[0]
    if inner not in FILES and inner not in ORDER:
        inner = ""
    return f"hpc_flows.{inner}" if inner else "hpc_flows"


IMPORTS = [
    Import(name, target, node.lineno, typing_only)
    for name, tree in TREES.items()
    for node, typing_only in _marked(tree)
    for target in _targets(name, node)
]


def _inner(target: str) -> str | None:
    """Return the module below hpc_flows that is imported; None for everything else."""
    if target == "hpc_flows":
        return "__init__"
    return target.removeprefix("hpc_flows.") if target.startswith("hpc_flows.") else None


OWN = [
    item._replace(target=inner) for item in IMPORTS if (inner := _inner(item.target)) is not None
]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _goes_down(item: Import) -> bool:
    source, target = _top(item.source), _top(item.target)
    if source == target or ORDER.index(target) < ORDER.index(source):
        return True
    pair = (source, target)
    return pair in DOORS or (item.typing_only and pair in SEEN_FROM_BELOW)


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, ast.AST]]:
    for name, tree in TREES.items():
        for parent in ast.walk(tree):
            for node in ast.iter_child_nodes(parent):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield name, node, parent


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring and decorators."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return total
    text = node.body[0]
    return total - ((text.end_lineno or text.lineno) - text.lineno + 1)


def test_every_module_has_its_place_in_the_order() -> None:
    strangers = sorted({_top(name) for name in FILES} - {*ORDER, "__main__"})
    assert not strangers, f"not in docs/concepts/architecture.md: {strangers}"


def test_modules_import_only_what_stands_before_them() -> None:
    wrong = [
        f"{_where(item.source, item.line)} {_top(item.source)} imports {item.target}"
        for item in OWN
        if _top(item.source) in ORDER and not _goes_down(item)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_import_each_other() -> None:
    edges: dict[str, set[str]] = {name: set() for name in FILES}
    for item in OWN:
        if not item.typing_only and item.target in FILES and item.source != item.target:
            edges[item.source].add(item.target)
    assert (loop := _find_cycle(edges)) is None, " -> ".join(loop)


def _find_cycle(edges: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for target in sorted(edges[name]):
            if loop := visit(target, [*trail, name]):
                return loop
        done.add(name)
        return None

    return next((loop for name in edges if (loop := visit(name, []))), None)


def test_third_party_packages_are_imported_only_at_home() -> None:
    wrong = []
    for item in IMPORTS:
        package = item.target.partition(".")[0]
        if package in sys.stdlib_module_names or package == "hpc_flows":
            continue
        homes = HOMES.get(package, ())
        if not any(item.source == home or item.source.startswith(f"{home}.") for home in homes):
            wrong.append(f"{_where(item.source, item.line)} imports {package}; its home: {homes}")
    assert not wrong, "\n".join(wrong)


def test_the_mock_cluster_stands_alone() -> None:
    wrong = [
        _where(item.source, item.line)
        for item in OWN
        if _top(item.source) == "mock_cluster" and _top(item.target) != "mock_cluster"
    ]
    assert not wrong, f"the mock cluster imports nothing of hpc_flows: {wrong}"


def test_only_the_command_line_and_the_doubles_use_the_mock_cluster() -> None:
    users = {_top(item.source) for item in OWN if _top(item.target) == "mock_cluster"}
    assert users <= {"mock_cluster", "cli", "testing"}


def test_every_exemption_for_annotations_is_used() -> None:
    used = {(_top(item.source), _top(item.target)) for item in OWN if item.typing_only}
    stale = sorted(set(SEEN_FROM_BELOW) - used)
    assert not stale, f"take out of SEEN_FROM_BELOW: {stale}"


def test_files_stay_below_five_hundred_lines() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in (PACKAGE, ROOT / "tests")
        for path in folder.rglob("*.py")
    }
    assert not {name: size for name, size in sizes.items() if size >= MAX_FILE}


def test_functions_are_short() -> None:
    sizes = {
        f"{_where(name, node.lineno)} {node.name}": _code_lines(node)
        for name, node, _ in _functions()
    }
    long = {where: size for where, size in sizes.items() if size > MAX_FUNCTION}
    assert not long, long
    counts = sorted(sizes.values())
    assert statistics.median(counts) < 10
    assert counts[int(len(counts) * 0.9)] < 30


def test_no_module_has_a_name_that_tells_nothing() -> None:
    vague = [name for name in FILES if any(VAGUE.search(part) for part in name.split("."))]
    assert not vague


def test_nothing_is_left_to_do_in_the_source() -> None:
    left = []
    for name, path in FILES.items():
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                comment = token.type == tokenize.COMMENT and UNFINISHED.search(token.string)
                excuse = token.type == tokenize.STRING and EXCUSES.search(token.string)
                missing = token.type == tokenize.NAME and token.string == "NotImplementedError"
                if comment or excuse or missing:
                    left.append(f"{_where(name, token.start[0])} {token.line.strip()}")
    assert not left, "\n".join(left)


def _bases(parent: ast.AST) -> set[str]:
    if not isinstance(parent, ast.ClassDef):
        return set()
    return {ast.unparse(base).split("[")[0].rpartition(".")[2] for base in parent.bases}


def _is_only_declared(node: ast.FunctionDef | ast.AsyncFunctionDef, parent: ast.AST) -> bool:
    """Tell whether an empty body is meant: abstract, overload, Protocol, or a group of commands."""
    calls = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in calls}
    return bool(marks & {"abstractmethod", "overload", "group"}) or "Protocol" in _bases(parent)


def _is_optional_hook(node: ast.FunctionDef | ast.AsyncFunctionDef, parent: ast.AST) -> bool:
    """Tell whether it is a described method that does nothing unless a subclass overrides it."""
    has_subclass = isinstance(parent, ast.ClassDef) and parent.name in SUBCLASSED
    return has_subclass and ast.get_docstring(node) is not None


#: Names of classes that other classes of the package are made from.
SUBCLASSED = {
    base
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    for base in _bases(node)
}


#: What does nothing, and why that is right.
NOTHING_TO_DO = {
    ("engine.generators", "perform"): "a driver that hands values to nobody drops them",
    ("engine.generators", "aperform"): "as above",
    ("flows.sketch", "record_pending"): "a drawing of a flow leaves no journal",
    ("flows.sketch", "check"): "a drawing takes every task",
    ("flows.sketch", "cancel"): "nothing runs in a drawing",
    ("results.places", "remove"): "a storage of the user's need not be able to remove",
}


def test_no_function_is_a_stub() -> None:
    stubs = []
    for name, node, parent in _functions():
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        empty = all(
            isinstance(line, ast.Pass)
            or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            for line in body
        )
        meant = _is_only_declared(node, parent) or _is_optional_hook(node, parent)
        if empty and not meant and (name, node.name) not in NOTHING_TO_DO:
            stubs.append(f"{_where(name, node.lineno)} {node.name}")
    assert not stubs, "\n".join(stubs)


@pytest.mark.parametrize(
    ("source", "target", "typing_only", "allowed"),
    [
        ("jobs.submit", "schedulers.base", False, True),
        ("schedulers.slurm", "jobs.submit", False, False),
        ("jobs.submit", "task_runners.base", True, True),
        ("jobs.submit", "task_runners.base", False, False),
        ("engine.task_engine", "tasks", True, False),
        ("flows", "deployments", False, True),
        ("mock_cluster.controller", "cli.main", False, False),
    ],
)
def test_the_rule_itself_tells_up_from_down(
    source: str, target: str, *, typing_only: bool, allowed: bool
) -> None:
    assert _goes_down(Import(source, target, 1, typing_only)) is allowed


def test_a_cycle_is_found() -> None:
    assert _find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
