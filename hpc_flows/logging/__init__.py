"""Log records of runs: one line on the console and one event in the journal for each.

The standard library's logging is used where the program has loaded it. Where it has not (in jobs,
where importing it would cost a fifth of the budget) the same lines are written directly.
"""

from __future__ import annotations

import os
import sys
import time

from hpc_flows.context import current
from hpc_flows.journal.event import masked, quote, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging as std
    from typing import Any

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.logging.children import capture_output
    from hpc_flows.logging.loggers import (
        LogEavesdropper,
        disable_logger,
        disable_run_logger,
        flow_run_logger,
        get_run_logger,
        task_run_logger,
    )
    from hpc_flows.states import State

__all__ = [
    "LogEavesdropper",
    "capture_output",
    "disable_logger",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "task_run_logger",
]

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_LEVELS = {name: level for level, name in _NAMES.items()}
_COLOURS = {
    "DEBUG": "\x1b[2m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}
_ROOT = "hpc_flows"
#: The handler of pytest's `caplog`, which sees what runs log although our loggers do not propagate.
_CAPLOG = "LogCaptureHandler"
_FLOW_RUNS = "hpc_flows.flow_runs"
_TASK_RUNS = "hpc_flows.task_runs"
_OUTPUT = "hpc_flows.task_runs.output"


def level_number(name: str) -> int:
    """Return the number of a level's name, such as 20 for INFO."""
    return _LEVELS[name]


def run_log(context: RunContext, level: int, message: str, name: str | None = None) -> None:
    """Log a message of the engine about the context's task run or, without one, its flow run.

    It goes through the standard library's logger where someone has attached to that. `name` is
    the logger's, if it is not that of the context.
    """
    root = context.root
    if root is None or level < root.log_level:
        return
    name = name or (_FLOW_RUNS if context.task_run is None else _TASK_RUNS)
    if _is_customised(name):
        _std_logger(name).log(level, message, extra={"hpc_flows_context": context})
        return
    _emit(context, _NAMES[level], name, message, time.time())


def end_log(context: RunContext, level: int, state: State) -> None:
    """Record the state in which the context's task run ends, and log it.

    Every task does this, and so both are one line after the other in one write, where nobody has
    asked to see records before they are written.
    """
    root, run, message = context.root, context.task_run, f"Finished in state {state!r}"
    if level < root.log_level or _capture is not None or _is_customised(_TASK_RUNS):
        root.record("task", run, state)
        run_log(context, level, message)
        return
    name, message = _NAMES[level], shortened(message)
    kept = root.record("task", run, state, _text(context, name, _TASK_RUNS, message))
    _show(context, name, message, time.time(), kept=kept)


def _is_customised(name: str) -> bool:
    """Tell whether somebody has changed our loggers, so that records must go through them."""
    std_logging: Any = sys.modules.get("logging")
    if std_logging is None:
        return False
    for handler in std_logging.root.handlers:
        if type(handler).__name__ == _CAPLOG:
            return True
    known = std_logging.Logger.manager.loggerDict
    for each in (name, _ROOT):
        logger = known.get(each)
        if logger is None or isinstance(logger, std_logging.PlaceHolder):
            continue
        if logger.level not in (0, 1) or logger.filters or logger.disabled:
            return True
        for handler in logger.handlers:  # not any(): this is asked for each record
            if type(handler).__name__ != "RunHandler":
                return True
    return False


#: The `Capture` of logging.capture that takes what this process writes, or None.
_capture: Any = None


def active_capture() -> Any:
    """Return the `Capture` that takes what this process writes, or None."""
    return _capture


def set_capture(capture: Any) -> None:
    """Have a `Capture` asked before each record, and shown each line; None for no more."""
    global _capture  # noqa: PLW0603 - descriptors are the process's, and so is this
    _capture = capture


def output_log(context: RunContext, level: int, message: str, *, shown: bool) -> None:
    """Log a line that the context's task has written to its standard output or error.

    `shown` says whether to show it on the console, too.
    """
    if shown:
        run_log(context, level, message, _OUTPUT)
    elif context.root is not None:
        text = _text(context, _NAMES[level], _OUTPUT, shortened(message))
        context.root.journal.write_texts(("log", text))


def _text(context: RunContext, level: str, logger: str, message: str) -> str:
    """Return what the journal says of a record, as JSON; put together by hand, as it is fast."""
    text = f'{{"level":{quote(level)},"message":{quote(message)},"logger":{quote(logger)}'
    if context.flow_run is not None:
        text = f'{text},"flow_run":{quote(context.flow_run.id)}'
    if context.task_run is not None:
        text = f'{text},"task_run":{quote(context.task_run.id)}'
    return text + "}"


def _emit(context: RunContext, level: str, logger: str, message: str, when: float) -> None:
    """Write the record to the journal and to the console."""
    root = context.root
    if root is None:
        return
    if _capture is not None:
        _capture.catch_up()
    message = shortened(message)
    record = ("log", _text(context, level, logger, message))
    kept = not root.journal.write_texts(record)
    if not kept and root.journal.disowned:  # a forked child, as of multiprocessing
        adopt_journal(root)
        kept = not root.journal.write_texts(record)
    _show(context, level, message, when, kept=kept)


def _show(context: RunContext, level: str, message: str, when: float, *, kept: bool) -> None:
    """Show a record on the console; `kept` says whether the journal has it."""
    root, task_run, flow_run = context.root, context.task_run, context.flow_run
    if task_run is not None:
        subject = f"Task run '{task_run.name}' - "
    else:
        subject = "" if flow_run is None else f"Flow run '{flow_run.name}' - "
    print_line(root.settings.console_colour, level, subject + message, when)
    if not kept and root.journal.dropped == 1:
        lost = f"No space left for {root.journal.path}: log records are shown here and not kept"
        advice = "; states are kept. Free space there, or ask for more quota."
        print_line(root.settings.console_colour, "WARNING", lost + advice, when)


def adopt_journal(root: RootRun) -> None:
    """Give a forked child, whose journal is its parent's, one of its own in the same run."""
    # Loaded long since by whoever opened the run.
    from hpc_flows.journal.writer import JournalWriter  # noqa: PLC0415

    name = f"child-{os.getpid()}-{os.urandom(4).hex()}"
    fsync = root.settings.journal_fsync
    root.journal = JournalWriter(root.run_dir, root.run_id, name, background=False, fsync=fsync)


_clock: tuple[int, str] = (0, "")


def _time_of_day(when: float) -> str:
    """Return local time as 16:08:59.356; the clock's text is made once a second."""
    global _clock  # noqa: PLW0603 - a cache of the last second, nothing more
    second = int(when)
    known, text = _clock
    if known != second:
        text = time.strftime("%H:%M:%S", time.localtime(second))
        _clock = (second, text)
    return f"{text}.{int((when - second) * 1000):03d}"


def print_line(colour: str, level: str, message: str, when: float) -> None:
    """Show one line of a log on the console.

    Args:
        colour: `always`, `never`, or `auto` for terminals only, and not where NO_COLOR is set.
        level: the name of the record's level, such as `INFO`.
        message: what to show.
        when: seconds since 1970.
    """
    stream = sys.stderr
    line = f"{_time_of_day(when)} | {level:<7} | {masked(message)}\n"
    try:
        if level != "INFO" and _is_coloured(colour, stream):
            line = f"{_COLOURS[level]}{line[:-1]}\x1b[0m\n" if level in _COLOURS else line
        if _capture is None:
            stream.write(line)
        else:
            _capture.show(line)
    except (AttributeError, OSError, ValueError):
        # No console, a closed one, or one on a full disk: the journal has the record.
        return


def _is_coloured(colour: str, stream: Any) -> bool:
    if colour != "auto":
        return colour == "always"
    return not os.environ.get("NO_COLOR") and bool(stream.isatty())


def get_logger(name: str | None = None) -> std.Logger:
    """Return the standard library's logger `hpc_flows.<name>`, or `hpc_flows` without a name.

    What it logs in a run goes to the run's journal and to the console.
    """
    if name is None or name == _ROOT or name.startswith(_ROOT + "."):
        return _std_logger(name or _ROOT)
    return _std_logger(f"{_ROOT}.{name}")


def _describe(context: RunContext, extra: dict[str, Any]) -> None:
    """Add the attributes that Prefect users put in their formats."""
    flow_run, task_run = context.flow_run, context.task_run
    if flow_run is not None:
        extra.update(
            flow_run_id=flow_run.id, flow_run_name=flow_run.name, flow_name=flow_run.flow_name
        )
    if task_run is not None:
        extra.update(
            task_run_id=task_run.id, task_run_name=task_run.name, task_name=task_run.task_name
        )


def _std_logger(name: str) -> std.Logger:
    """Return a logger below `hpc_flows`, whose one handler writes to the journal and console."""
    import logging as std  # noqa: PLC0415 - lean modules do not load it until it is asked for

    root = std.getLogger(_ROOT)
    if not any(type(handler).__name__ == "RunHandler" for handler in root.handlers):
        root.addHandler(_run_handler())
        root.propagate = False
        if root.level == std.NOTSET:
            root.setLevel(1)  # the level of the run's settings decides, in the handler
    return std.getLogger(name)


def _run_handler(*, ours: bool = True) -> std.Handler:
    import logging as std  # noqa: PLC0415 - as above

    class RunHandler(std.Handler):
        """Writes records to the journal of the run that they belong to, and to the console."""

        def emit(self, record: std.LogRecord) -> None:
            context = getattr(record, "hpc_flows_context", None) or current()
            try:
                message = self.format(record)
                if context is None or context.root is None:
                    if ours and record.levelno >= WARNING:
                        print_line("never", record.levelname, message, record.created)
                elif record.levelno >= context.root.log_level:
                    _emit(context, record.levelname, record.name, message, record.created)
                if ours:
                    _show_to_tests(record)
            except Exception:  # noqa: BLE001 - as every handler of the standard library
                self.handleError(record)

    return RunHandler()


def _show_to_tests(record: std.LogRecord) -> None:
    """Hand a record to pytest's `caplog`, unless that has come to our loggers by itself."""
    import logging as std  # noqa: PLC0415 - as above

    ours = std.getLogger(_ROOT).handlers
    for handler in std.root.handlers:
        is_caplog = type(handler).__name__ == _CAPLOG and handler not in ours
        if is_caplog and record.levelno >= handler.level:
            handler.handle(record)


def attach_loggers(root: RootRun) -> None:
    """Have what the loggers of the setting `logging_extra_loggers` say in runs kept and shown, too.

    Those that have no level of their own get that of the run.
    """
    names = root.settings.logging_extra_loggers
    if names is None:
        return
    import logging as std  # noqa: PLC0415 - only where the setting is used

    for name in names.split(","):
        logger = std.getLogger(name.strip())
        if not any(type(handler).__name__ == "RunHandler" for handler in logger.handlers):
            logger.addHandler(_run_handler(ours=False))
        if logger.level == std.NOTSET:
            logger.setLevel(root.log_level)


def catch_prints() -> None:
    """Make `print` in runs with `log_prints` a log record, from now on.

    Prints to files other than the standard output, and prints outside of such runs, stay as they
    are. It is never undone, because a thread of the run may still print when the run has ended.
    """
    import builtins  # noqa: PLC0415 - loaded always; the name is needed here only

    if builtins.print is not _print:
        _originals.append(builtins.print)
        builtins.print = _print


def release_prints() -> None:
    """Make `print` Python's own again."""
    import builtins  # noqa: PLC0415 - as above

    if builtins.print is _print:
        builtins.print = _originals[-1]


_originals: list[Any] = []


def _print(*values: Any, **options: Any) -> None:
    context = current()
    file = options.get("file")
    if context is None or not context.log_prints or file not in (None, sys.stdout):
        _originals[-1](*values, **options)
        return
    separator = options.get("sep")
    text = (" " if separator is None else separator).join(map(str, values))
    run_log(context, INFO, text)


#: Names that live in other modules of this folder, which few programs need.
_HOMES = {
    "capture_output": "children",
    "disable_logger": "loggers",
    "disable_run_logger": "loggers",
    "flow_run_logger": "loggers",
    "get_run_logger": "loggers",
    "task_run_logger": "loggers",
    "LogEavesdropper": "loggers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module = __import__(f"hpc_flows.logging.{_HOMES[name]}", fromlist=[name])
        return getattr(module, name)
    from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

    hint = close_match(name, __all__)
    msg = f"hpc_flows.logging has no attribute {name!r}.{hint}"
    raise AttributeError(msg)


def without_our_frames(error: BaseException) -> BaseException:
    """Cut the engine's frames off the beginning of an exception's traceback."""
    frames = error.__traceback__
    while frames is not None and _is_ours(str(frames.tb_frame.f_globals.get("__name__"))):
        frames = frames.tb_next
    error.__traceback__ = frames
    return error


def _is_ours(module: str) -> bool:
    return module.startswith(("hpc_flows.engine.", "hpc_flows.task_runners."))


def trace_of(error: BaseException) -> str:
    """Return an exception's traceback as text on lines of its own, empty if it has none."""
    if error.__traceback__ is None and error.__cause__ is None:
        return ""
    import traceback  # noqa: PLC0415 - only for what failed

    return "\n" + "".join(traceback.format_exception(error)).rstrip()
