"""A pretend Slurm cluster on this machine: the commands, real processes, scripted faults.

It imports nothing else of hpc_flows, and nothing of hpc_flows but its command line and its test
doubles imports it. docs/how-to/rehearse-on-the-mock-cluster.md shows its use.
"""

from hpc_flows.mock_cluster.faults import KINDS as FAULT_KINDS
from hpc_flows.mock_cluster.faults import parse_words as parse_fault
from hpc_flows.mock_cluster.faults import read_file as read_faults
from hpc_flows.mock_cluster.launcher import (
    MockError,
    MockInfo,
    MockPaths,
    StartOptions,
    add_fault,
    clear_faults,
    paths,
    set_faults,
    shell_environment,
    show_faults,
    start,
    status,
    stop,
)
from hpc_flows.mock_cluster.sites import VERSIONS, SiteError, Timings

__all__ = [
    "FAULT_KINDS",
    "VERSIONS",
    "MockError",
    "MockInfo",
    "MockPaths",
    "SiteError",
    "StartOptions",
    "Timings",
    "add_fault",
    "clear_faults",
    "parse_fault",
    "paths",
    "read_faults",
    "set_faults",
    "shell_environment",
    "show_faults",
    "start",
    "status",
    "stop",
]
