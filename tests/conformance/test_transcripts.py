"""Refusals word for word: what real Slurm was seen to print is what both print here."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from slurm_samples import Told, submissions

from hpc_flows.schedulers.slurm import Slurm
from hpc_flows.schedulers.slurm_commands import command_environment

if TYPE_CHECKING:
    from conftest import Bench

#: Asks the accounting database which clusters there are, and says something else without it.
_NEEDS_ACCOUNTING = "-M nosuchcluster"

REFUSED = [told for told in submissions("rejected.txt") if told.status != 0]


@pytest.mark.parametrize("told", REFUSED, ids=[told.command for told in REFUSED])
def test_a_refusal_is_printed_word_for_word(bench: Bench, told: Told) -> None:
    if not bench.accounting and _NEEDS_ACCOUNTING in told.command:
        return
    if os.getuid() == 0 and "--uid" in told.command:
        return
    assert isinstance(bench.scheduler, Slurm)
    done = subprocess.run(
        ["/bin/sh", "-c", told.command],
        env=command_environment(os.environ, bench.scheduler.path),
        cwd=bench.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (told.stdout, told.stderr, told.status)
