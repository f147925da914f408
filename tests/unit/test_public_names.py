"""Names that users import: they exist, they are lazy, and wrong ones get a close match."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hpc_flows
import hpc_flows.task_runners

PREFECT_NAMES = {
    "hpc_flows": "Flow State Task allow_failure flow get_run_logger tags task unmapped",
    "hpc_flows.context": "tags",
    "hpc_flows.flows": "Flow flow",
    "hpc_flows.futures": "PrefectConcurrentFuture PrefectFuture PrefectFutureList as_completed "
    "wait",
    "hpc_flows.logging": "LogEavesdropper disable_run_logger get_logger get_run_logger",
    "hpc_flows.logging.loggers": "PrefectLogAdapter disable_logger disable_run_logger "
    "flow_run_logger get_logger get_run_logger patch_print print_as_log task_run_logger",
    "hpc_flows.artifacts": "Artifact create_image_artifact create_link_artifact "
    "create_markdown_artifact create_progress_artifact create_table_artifact "
    "update_progress_artifact acreate_table_artifact",
    "hpc_flows.events": "Event RelatedResource Resource emit_event",
    "hpc_flows.variables": "Variable",
    "hpc_flows.runtime": "deployment flow_run task_run",
    "hpc_flows.states": "Cancelled Completed Crashed Failed Pending Running State StateType",
    "hpc_flows.task_runners": "ConcurrentTaskRunner ProcessPoolTaskRunner TaskRunner "
    "ThreadPoolTaskRunner",
    "hpc_flows.tasks": "Task task",
    "hpc_flows.exceptions": "MappingLengthMismatch MappingMissingIterable ParameterBindError "
    "ParameterTypeError ReservedArgumentError",
}


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in PREFECT_NAMES.items() for name in names.split()],
)
def test_prefects_names_are_where_prefect_has_them(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("from hpc_flows import serve", "makes no deployments"),
        ("from hpc_flows import aserve", "hpc-flows run"),
        ("from hpc_flows import deploy", "makes no deployments"),
        ("from hpc_flows.futures import PrefectDistributedFuture", "PrefectFuture"),
        ("from hpc_flows.futures import PrefectFlowRunFuture", "no deployments"),
        ("from hpc_flows.task_runners import PrefectTaskRunner", "ClusterTaskRunner"),
        ("from hpc_flows.filesystems import SMB", "RemoteFileSystem"),
    ],
)
def test_who_imports_a_name_of_prefects_that_is_not_here_is_told_why(
    line: str, reason: str
) -> None:
    with pytest.raises(ImportError, match=reason):
        exec(line, {})  # noqa: S102 - a line of a user's program
    _, module, _, name = line.split()
    with pytest.raises(AttributeError, match=reason):
        getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("package", [hpc_flows, hpc_flows.task_runners])
def test_every_listed_name_has_one_home_that_type_checkers_see_too(package: object) -> None:
    tree = ast.parse(Path(package.__file__).read_text())  # type: ignore[attr-defined]
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hpc_flows.")
        for alias in node.names
    }
    homes = {f"{package.__name__}.{home}" for home in package._HOMES.values()}  # type: ignore[attr-defined]
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert set(names) == set(package._HOMES)  # type: ignore[attr-defined]
    assert {name: seen[name] for name in names} == {
        name: f"{package.__name__}.{home}"  # type: ignore[attr-defined]
        for name, home in package._HOMES.items()  # type: ignore[attr-defined]
    }
    assert homes


def test_a_wrong_name_gets_the_close_match() -> None:
    with pytest.raises(AttributeError, match=r"'tsk'. Did you mean 'task'"):
        _ = hpc_flows.tsk  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from hpc_flows import Flwo")  # noqa: S102 - as users write it


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, hpc_flows; print([m for m in sys.modules if m.startswith('hpc_flows.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_what_every_program_imports_is_lean() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from hpc_flows import flow, task, Resources\n"
        "print('\\n'.join(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {
        "asyncio", "cloudpickle", "concurrent", "contextlib", "dataclasses", "datetime", "hashlib",
        "hmac", "inspect", "json", "logging", "pathlib", "pydantic", "re", "subprocess",
        "threading", "tomllib", "traceback", "typing", "uuid",
    }  # fmt: skip
    loaded = set(done.stdout.split())
    assert not heavy & loaded
    assert "hpc_flows.tasks" in loaded
