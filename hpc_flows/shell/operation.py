"""`ShellOperation`: shell commands that belong together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hpc_flows.awaiting import is_called_by_coroutine
from hpc_flows.context import current
from hpc_flows.engine.options import check_timeout
from hpc_flows.engine.parameters import refuse_unknown
from hpc_flows.exceptions import ParameterError
from hpc_flows.logging import INFO, run_log
from hpc_flows.shell.process import ShellProcess
from hpc_flows.shell.script import Script, find_shell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self, TypedDict, Unpack

    from hpc_flows.shell.lines import Lines

    class ShellOptions(TypedDict, total=False):
        """The options of `ShellOperation`; their meaning is told by its attributes."""

        stream_output: bool
        env: Mapping[str, str] | None
        working_dir: str | os.PathLike[str] | None
        shell: str | None
        extension: str | None
        return_all: bool
        continue_on_error: bool
        timeout_seconds: float | None


_OPTIONS = (
    "stream_output",
    "env",
    "working_dir",
    "shell",
    "extension",
    "return_all",
    "continue_on_error",
    "timeout_seconds",
)
_OWNER = "ShellOperation"


class ShellOperation:
    """Commands that one shell runs, one after the other, as one script.

    The first command that fails ends the script, and makes an error. Nothing is put into the
    commands: a value belongs into `env`, and stands in a command as `"$NAME"`.

    `op()` returns what was printed as one text, `op.run()` as a list of lines, and `op.trigger()`
    returns a `ShellProcess` at once. In `async def` code all of them are awaited. When the task
    around them is cancelled or reaches its time limit, and at the end of `with op:`, everything
    that was started is ended.

    Attributes:
        commands: the commands.
        stream_output: whether each line that is printed becomes a log record as it comes.
        env: environment variables beyond those of this process.
        working_dir: the folder that the commands run in; this process's, unless given.
        shell: name or path of the shell; bash, unless given.
        extension: how the script's name ends; `.sh`, unless given.
        return_all: whether the result holds also what is printed as errors, in its place.
        continue_on_error: whether failing commands are told in the log instead of making an error,
            and the next ones are run.
        timeout_seconds: seconds after which the commands are ended, or None.
    """

    def __init__(self, commands: Sequence[str] | str, **options: Unpack[ShellOptions]) -> None:
        """Keep commands; nothing is run yet.

        Raises:
            ParameterError: an option is wrong, or not known.
        """
        refuse_unknown(_OWNER, options.keys() - set(_OPTIONS), _OPTIONS)
        self.commands = _texts(commands)
        self.stream_output = options.get("stream_output", True)
        self.env = _environment(options.get("env"))
        self.working_dir = _folder(options.get("working_dir"))
        self.shell = options.get("shell")
        self.extension = options.get("extension") or ".sh"
        self.return_all = options.get("return_all", False)
        self.continue_on_error = options.get("continue_on_error", False)
        self.timeout_seconds = check_timeout(_OWNER, options.get("timeout_seconds"))
        self.stream_level = INFO
        self._processes: list[ShellProcess] = []

    def __repr__(self) -> str:
        return f"<ShellOperation {self.commands!r}>"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs, which is of this process alone."""
        return {**self.__dict__, "_processes": []}

    def __call__(self) -> Any:
        """Run the commands and return what they printed as one text, without its last line end.

        Raises:
            ShellError: a command failed, or the script cannot be started.
        """
        return self._text() if is_called_by_coroutine() else "\n".join(self._run())

    async def _text(self) -> str:
        return "\n".join(await self.arun())

    def run(self) -> Any:
        """Run the commands and return the lines that they printed.

        Raises:
            ShellError: a command failed, or the script cannot be started.
        """
        return self.arun() if is_called_by_coroutine() else self._run()

    def _run(self) -> Lines:
        process = self._prepared()
        try:
            process.start()
            process.wait()
        finally:
            process.close()
            self._processes.remove(process)
        return process.fetch_result()

    async def arun(self) -> Lines:
        """Do as `run` does, and let others run meanwhile."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        process = self._prepared()
        try:
            process.start()
            await process.await_for_completion()
        finally:
            await asyncio.shield(asyncio.to_thread(process.close))
            self._processes.remove(process)
        return process.fetch_result()

    def trigger(self) -> ShellProcess:
        """Start the commands and return their process; it can be awaited, too.

        Use it in `with ShellOperation(...) as op:`, which ends what still runs at its end.

        Raises:
            ShellError: the script cannot be started.
        """
        process = self._prepared()
        try:
            process.start()
        except BaseException:
            process.terminate()
            self._processes.remove(process)
            raise
        where = self.working_dir or os.getcwd()
        count = f"{len(self.commands)} commands"
        self._tell(f"PID {process.pid} triggered with {count} running in {where}")
        return process

    async def atrigger(self) -> ShellProcess:
        """Do as `trigger` does."""
        return self.trigger()

    def close(self) -> None:
        """End everything that was triggered and still runs."""
        while self._processes:
            self._processes[-1].close()
            self._processes.pop()

    async def aclose(self) -> None:
        """Do as `close` does, and let others run meanwhile."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        await asyncio.shield(asyncio.to_thread(self.close))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _prepared(self) -> ShellProcess:
        environment = {**os.environ, **self.env}
        shell = find_shell(self.shell or "bash", environment)
        stops = not self.continue_on_error
        process = ShellProcess(
            Script(self.commands, shell, self.extension, stop_on_error=stops),
            env=environment,
            cwd=self.working_dir,
            with_stderr=self.return_all,
            stream_level=self.stream_level if self.stream_output else None,
            timeout=self.timeout_seconds,
            raises=stops,
        )
        self._processes.append(process)
        return process

    def _tell(self, message: str) -> None:
        context = current()
        if context is not None and context.root is not None:
            run_log(context, INFO, message)


def _texts(commands: Any) -> list[str]:
    listed = [commands] if isinstance(commands, str) else commands
    wrong = not isinstance(listed, (list, tuple)) or not all(isinstance(c, str) for c in listed)
    if wrong or not listed:
        msg = f'{_OWNER} takes a list of commands, as in ["make", "./solve"], not {commands!r}.'
        raise ParameterError(msg)
    if any("\0" in command for command in listed):
        msg = f"A shell cannot read a command that holds a zero byte: {commands!r}."
        raise ParameterError(msg)
    return list(listed)


def _environment(env: Any) -> dict[str, str]:
    given = {} if env is None else dict(env)
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            msg = (
                f"env of {_OWNER} holds texts; {name!r} is {value!r}. Write "
                f"{{{str(name)!r}: str(...)}}."
            )
            raise ParameterError(msg)
    return given


def _folder(path: Any) -> str | None:
    return None if path is None else os.path.expanduser(os.fsdecode(path))
