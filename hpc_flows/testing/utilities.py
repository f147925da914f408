"""Context managers and comparisons for the tests of people who write flows."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpc_flows.settings import PREFIX
from hpc_flows.settings.temporary import environment, temporary_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["exceptions_equal", "prefect_test_harness", "temporary_settings", "test_harness"]


@contextmanager
def prefect_test_harness(
    server_startup_timeout: float | None = None, *, keep: bool = False
) -> Iterator[str]:
    """Give flows a home of their own for the length of a `with` block, and yield its path.

    Runs, results, logs and settings of the user are neither read nor touched: settings given by
    `HPC_FLOWS_...` variables are taken away meanwhile. No server is needed.

    Args:
        server_startup_timeout: as in Prefect, where a server has to start within that many seconds;
            none is started here, so that it is always met.
        keep: whether the home stays after the block, to look into it.
    """
    del server_startup_timeout
    home = tempfile.mkdtemp(prefix="hpc-flows-test-")
    ours = [name for name in os.environ if name.startswith(PREFIX)]
    changes: dict[str, str | None] = dict.fromkeys(ours)
    changes[f"{PREFIX}HOME"] = home
    try:
        with environment(changes):
            yield home
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


test_harness = prefect_test_harness
# pytest would take a function of this name for a test.
test_harness.__test__ = False  # type: ignore[attr-defined]


def exceptions_equal(first: BaseException | None, second: BaseException | None) -> bool:
    """Tell whether two exceptions are of one type and have the same arguments."""
    if first is None or second is None:
        return first is second
    return type(first) is type(second) and first.args == second.args
