"""Loggers for programs, under the names that Prefect users import: `hpc_flows.logging.loggers`."""

from __future__ import annotations

import logging as std
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from hpc_flows.context import current
from hpc_flows.exceptions import MissingContextError
from hpc_flows.logging import _describe, _print, _std_logger, catch_prints, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from hpc_flows.context import RunContext
    from hpc_flows.runs import FlowRun, TaskRun

    _Adapter = std.LoggerAdapter[std.Logger]
else:
    _Adapter = std.LoggerAdapter

__all__ = [
    "LogEavesdropper",
    "PrefectLogAdapter",
    "RunLogger",
    "disable_logger",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "patch_print",
    "print_as_log",
    "task_run_logger",
]

#: The loggers of runs.
RUN_LOGGERS = ("hpc_flows.flow_runs", "hpc_flows.task_runs", "hpc_flows.task_runs.output")

#: `print` as it is in runs with `log_prints`.
print_as_log = _print


class RunLogger(_Adapter):
    """A logger that knows its run; `extra` of a single call is added to what it knows."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the run to a record."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def getChild(self, suffix: str, extra: dict[str, Any] | None = None) -> RunLogger:  # noqa: N802 - as in the standard library
        """Return a logger below this one that knows the same, and `extra`."""
        return RunLogger(self.logger.getChild(suffix), {**(self.extra or {}), **(extra or {})})


#: Prefect's name of it.
PrefectLogAdapter = RunLogger


def flow_run_logger(flow_run: FlowRun, flow: Any = None, **extra: Any) -> RunLogger:
    """Return a logger whose records carry the names of a flow run.

    Args:
        flow_run: which.
        flow: its flow; its name is known without.
        extra: more attributes for every record.
    """
    facts = {
        "flow_run_id": flow_run.id,
        "flow_run_name": flow_run.name,
        "flow_name": flow_run.flow_name if flow is None else flow.name,
    }
    return RunLogger(_std_logger(RUN_LOGGERS[0]), {**facts, **extra})


def task_run_logger(
    task_run: TaskRun,
    task: Any = None,
    flow_run: FlowRun | None = None,
    flow: Any = None,
    **extra: Any,
) -> RunLogger:
    """Return a logger whose records carry the names of a task run.

    Args:
        task_run: which.
        task: its task; its name is known without.
        flow_run: the flow run that it belongs to, if the records shall name it.
        flow: the flow of that.
        extra: more attributes for every record.
    """
    facts: dict[str, Any] = {
        "task_run_id": task_run.id,
        "task_run_name": task_run.name,
        "task_name": task_run.task_name if task is None else task.name,
        "flow_run_id": task_run.flow_run_id,
    }
    if flow_run is not None:
        name = flow_run.flow_name if flow is None else flow.name
        facts.update(flow_run_name=flow_run.name, flow_name=name)
    return RunLogger(_std_logger(RUN_LOGGERS[1]), {**facts, **extra})


def get_run_logger(context: RunContext | None = None, **extra: Any) -> _Adapter | std.Logger:
    """Return a logger for the flow or task that calls this.

    Args:
        context: whose logger to return, instead of the caller's.
        extra: attributes for every log record.

    Raises:
        MissingContextError: it is called outside of flows and tasks, and of
            `disable_run_logger()`.
    """
    context = context or current()
    if context is not None and context.root is not None:
        _describe(context, extra)
        name = RUN_LOGGERS[0 if context.task_run is None else 1]
        return RunLogger(_std_logger(name), {**extra, "hpc_flows_context": context})
    if all(_std_logger(name).disabled for name in RUN_LOGGERS[:2]):
        silent = std.getLogger("hpc_flows.silent")
        silent.disabled = True
        return silent
    msg = (
        "get_run_logger() was called outside of any flow or task; there, use "
        "logging.getLogger(), or hpc_flows.logging.get_logger(). In a test of a function, call it "
        "in `with disable_run_logger():`."
    )
    raise MissingContextError(msg)


@contextmanager
def disable_logger(name: str) -> Iterator[None]:
    """Keep the logger of that name silent in a `with` block."""
    logger = _std_logger(name) if name.partition(".")[0] == "hpc_flows" else std.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Keep the loggers of runs silent in a `with` block.

    In it, `get_run_logger()` works outside of runs, too, so that `my_task.fn(...)` can be tested.
    """
    first, second, third = RUN_LOGGERS
    with disable_logger(first), disable_logger(second), disable_logger(third):
        yield


@contextmanager
def patch_print() -> Iterator[None]:
    """Make `print` a log record in a `with` block, in runs with `log_prints`.

    Runs do this themselves; there is no need to call it.
    """
    catch_prints()
    yield


class LogEavesdropper(std.Handler):
    """Collects what a logger says in a `with` block; `text()` returns it.

    Args:
        eavesdrop_on: the logger's name.
        level: the least important level that is collected.
    """

    def __init__(self, eavesdrop_on: str, level: int = std.NOTSET) -> None:
        super().__init__(level)
        self._logger = std.getLogger(eavesdrop_on)
        self._lines: list[str] = []
        self.setFormatter(std.Formatter("[%(levelname)s]: %(message)s"))

    def __enter__(self) -> Self:
        self._before = self._logger.level
        self._logger.setLevel(self.level or 1)
        self._logger.addHandler(self)
        self._lines = []
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def emit(self, record: std.LogRecord) -> None:
        """Collect a record."""
        self._lines.append(self.format(record))

    def text(self) -> str:
        """Return what was collected, a line for each record."""
        return "\n".join(self._lines)
