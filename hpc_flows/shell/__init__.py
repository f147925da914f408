"""Shell commands in flows and tasks: their lines are log records, and they end with their task.

Nothing is put into a command unasked: what a command needs is handed over in `env`, where the
shell does not read it as code, or quoted by `shlex.quote`.
"""

from __future__ import annotations

from hpc_flows.shell.command import shell_run_command
from hpc_flows.shell.operation import ShellOperation
from hpc_flows.shell.process import ShellProcess

__all__ = ["ShellOperation", "ShellProcess", "shell_run_command"]
