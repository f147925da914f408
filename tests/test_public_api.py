"""Every public name stands in the reference, and in a test that would miss it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import hpc_flows

ROOT = Path(__file__).resolve().parent.parent

#: Modules whose names users import; packages with the modules in them that users import.
MODULES = (
    "hpc_flows",
    "hpc_flows.artifacts",
    "hpc_flows.cache_policies",
    "hpc_flows.client.orchestration",
    "hpc_flows.client.schemas.filters",
    "hpc_flows.client.schemas.objects",
    "hpc_flows.client.schemas.sorting",
    "hpc_flows.concurrency.asyncio",
    "hpc_flows.concurrency.sync",
    "hpc_flows.context",
    "hpc_flows.events",
    "hpc_flows.filesystems",
    "hpc_flows.flow_runs",
    "hpc_flows.flows",
    "hpc_flows.futures",
    "hpc_flows.locking.filesystem",
    "hpc_flows.locking.memory",
    "hpc_flows.logging",
    "hpc_flows.results",
    "hpc_flows.runtime",
    "hpc_flows.serializers",
    "hpc_flows.shell",
    "hpc_flows.states",
    "hpc_flows.task_runners",
    "hpc_flows.tasks",
    "hpc_flows.testing.utilities",
    "hpc_flows.transactions",
    "hpc_flows.utilities.annotations",
    "hpc_flows.variables",
)


#: Modules that users do not import from, and those with a test of their own in test_docs.py.
NOT_COUNTED = set(
    "__main__ _version awaiting cli client clusters engine exceptions jobs journal leases "
    "mock_cluster flow_engine reporting resources runs schedulers server settings task_engine "
    "transports".split()
)


def _public(name: str) -> list[str]:
    """Return the names of a module that are meant for users."""
    module = importlib.import_module(name)
    named = getattr(module, "__all__", None)
    if named is None:
        named = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and not isinstance(value, ModuleType)
            if getattr(value, "__module__", name).startswith("hpc_flows")
            if inspect.isclass(value) or inspect.isfunction(value)
            if value.__module__ == name or value.__module__.startswith(f"{name}.")
        ]
    return sorted(key for key in named if not key.startswith("__"))


NAMES = [(module, name) for module in MODULES for name in _public(module)]


@cache
def _reference() -> str:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    return "\n".join(page.read_text() for page in pages)


@cache
def _tests() -> str:
    mine = Path(__file__)
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != mine]
    return "\n".join(path.read_text() for path in files)


def test_no_module_is_forgotten() -> None:
    found = {module.name for module in pkgutil.iter_modules(hpc_flows.__path__)}
    known = {name.split(".")[1] for name in MODULES if "." in name}
    assert found - known - NOT_COUNTED == set()


@pytest.mark.parametrize(("module", "name"), NAMES, ids=str)
def test_a_public_name_is_in_the_reference(module: str, name: str) -> None:
    found = re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", _reference()) is not None
    assert found, f"{module}.{name} stands on no page of docs/reference"


@pytest.mark.parametrize(("module", "name"), NAMES, ids=str)
def test_a_public_name_is_in_a_test(module: str, name: str) -> None:
    found = re.search(rf"\b{re.escape(name)}\b", _tests()) is not None
    assert found, f"no test names {module}.{name}"
