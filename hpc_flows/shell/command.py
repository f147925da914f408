"""`shell_run_command`: one shell command as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.awaiting import is_called_by_coroutine
from hpc_flows.logging import INFO
from hpc_flows.shell.operation import ShellOperation
from hpc_flows.tasks import Task

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any


class _ShellTask(Task[..., "list[str] | str"]):
    """A task that is awaited in `async def` code, and returns a value elsewhere."""

    def __init__(self, fn: Callable[..., Any], **options: Any) -> None:
        super().__init__(fn, **options)
        self._awaited = Task(_awaited, **{"name": self.name, **self._options})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_called_by_coroutine():
            return self._awaited(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def with_options(self, **options: Any) -> _ShellTask:
        changed: Any = super().with_options(**options)
        return _ShellTask(self.fn, **changed._options)  # noqa: SLF001 - of a task like this


def _operation(
    command: str,
    env: Mapping[str, str] | None,
    helper_command: str | None,
    shell: str | None,
    extension: str | None,
    stream_level: int,
    cwd: str | os.PathLike[str] | None,
) -> ShellOperation:
    commands = [command] if helper_command is None else [helper_command, command]
    operation = ShellOperation(commands, env=env, shell=shell, extension=extension, working_dir=cwd)
    operation.stream_level = stream_level
    return operation


def _answer(lines: list[str], *, return_all: bool) -> list[str] | str:
    if return_all:
        return list(lines)
    return lines[-1] if lines else ""


async def _awaited(
    command: str,
    env: Mapping[str, str] | None = None,
    helper_command: str | None = None,
    shell: str | None = None,
    extension: str | None = None,
    return_all: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    stream_level: int = INFO,
    cwd: str | os.PathLike[str] | None = None,
) -> list[str] | str:
    operation = _operation(command, env, helper_command, shell, extension, stream_level, cwd)
    return _answer(await operation.arun(), return_all=return_all)


@_ShellTask
def shell_run_command(
    command: str,
    env: Mapping[str, str] | None = None,
    helper_command: str | None = None,
    shell: str | None = None,
    extension: str | None = None,
    return_all: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    stream_level: int = INFO,
    cwd: str | os.PathLike[str] | None = None,
) -> list[str] | str:
    """Run a shell command; a task, awaited in `async def` code.

    Args:
        command: what the shell runs; the first part of it that fails ends it.
        env: environment variables beyond those of this process.
        helper_command: what is run before it by the same shell, such as `cd` or `module load`.
        shell: name or path of the shell; bash, unless given.
        extension: how the script's name ends.
        return_all: return all lines instead of the last one.
        stream_level: level of the log records that the lines become.
        cwd: the folder that it runs in.

    Raises:
        ShellError: the command failed, or cannot be started.
    """
    operation = _operation(command, env, helper_command, shell, extension, stream_level, cwd)
    return _answer(operation._run(), return_all=return_all)  # noqa: SLF001 - never to be awaited
