"""Context managers and comparisons for the tests of people who write flows."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.settings import PREFIX, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["exceptions_equal", "prefect_test_harness", "temporary_settings", "test_harness"]


@contextmanager
def prefect_test_harness(*, keep: bool = False) -> Iterator[str]:
    """Give flows a home of their own for the length of a `with` block, and yield its path.

    Runs, results, logs and settings of the user are neither read nor touched: settings given by
    `HPC_FLOWS_...` variables are taken away meanwhile. No server is needed.

    Args:
        keep: whether the home stays after the block, to look into it.
    """
    home = tempfile.mkdtemp(prefix="hpc-flows-test-")
    ours = [name for name in os.environ if name.startswith(PREFIX)]
    changes: dict[str, str | None] = dict.fromkeys(ours)
    changes[f"{PREFIX}HOME"] = home
    try:
        with _environment(changes):
            yield home
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


test_harness = prefect_test_harness
# pytest would take a function of this name for a test.
test_harness.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def temporary_settings(**values: Any) -> Iterator[None]:
    """Give settings other values for the length of a `with` block; None stands for the default.

    Args:
        **values: by the names of the settings, such as `task_default_retries=2`.

    Raises:
        SettingsError: there is no such setting.
    """
    known = {setting.name: setting.variable for setting in SETTINGS}
    for name in values:
        if name not in known:
            msg = f"There is no setting {name!r}.{close_match(name, known)}"
            raise SettingsError(msg)
    with _environment({known[name]: _text(value) for name, value in values.items()}):
        yield


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    """Set variables of the environment, or take them away, for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in changes}
    _put(changes)
    try:
        yield
    finally:
        _put(before)


def _put(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def exceptions_equal(first: BaseException | None, second: BaseException | None) -> bool:
    """Tell whether two exceptions are of one type and have the same arguments."""
    if first is None or second is None:
        return first is second
    return type(first) is type(second) and first.args == second.args
