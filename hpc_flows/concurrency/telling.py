"""What `concurrency` says to people: through the run's log where there is a run."""

from __future__ import annotations

from hpc_flows.context import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def tell(level: str, message: str) -> None:
    """Log a message for the run that surrounds the caller, else for the whole program."""
    from hpc_flows import logging  # noqa: PLC0415 - rare

    context = current()
    if context is not None and context.root is not None:
        logging.run_log(context, logging.level_number(level), message)
    else:
        logging.get_logger("concurrency").log(logging.level_number(level), message)


def who(holder: Any = None) -> str:
    """Return what others read about the holder of a slot."""
    if isinstance(holder, dict):
        return f"{holder.get('type') or 'holder'} {holder.get('id') or ''}".strip()
    if holder is not None:
        return f"{getattr(holder, 'type', 'holder')} {getattr(holder, 'id', '')}".strip()
    context = current()
    if context is None:
        return ""
    run = context.task_run or context.flow_run
    return "" if run is None else run.name
