"""Real services for tests: sshd, PostgreSQL, Chromium, a Prefect server.

Nothing here touches what the machine runs itself: each service is started from the installed
program by the test that asks for it first, in a temporary folder, as a plain user, and is ended by
the id of its process. `make test` as root on Debian installs the programs.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

# Read at once: a fixture of tests/conftest.py clears HPC_FLOWS_* for each test.
_IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def absent(what: str) -> NoReturn:
    """Skip the test because a service is not to be had here; in CI that is a failure.

    Args:
        what: what is missing, as the beginning of a sentence.
    """
    reason = f"{what}; `make test` as root on Debian installs it"
    if _IN_CI:
        pytest.fail(f"CI is set, and a test against a real service cannot run: {reason}")
    pytest.skip(reason)
