"""Filters of flow runs, task runs and log records, under Prefect's names.

A filter is made of criteria, one for each attribute, all of which have to hold (`operator="or_"`:
one of them). Each may be given as a dict too: `FlowRunFilter(name={"any_": ["merry-fox"]})`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from hpc_flows.exceptions import OptionValueError, close_match

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FlowFilter",
    "FlowFilterName",
    "FlowRunFilter",
    "FlowRunFilterEndTime",
    "FlowRunFilterExpectedStartTime",
    "FlowRunFilterId",
    "FlowRunFilterName",
    "FlowRunFilterParentFlowRunId",
    "FlowRunFilterStartTime",
    "FlowRunFilterState",
    "FlowRunFilterStateName",
    "FlowRunFilterStateType",
    "FlowRunFilterTags",
    "LogFilter",
    "LogFilterFlowRunId",
    "LogFilterLevel",
    "LogFilterTaskRunId",
    "LogFilterTextSearch",
    "LogFilterTimestamp",
    "TaskRunFilter",
    "TaskRunFilterEndTime",
    "TaskRunFilterExpectedStartTime",
    "TaskRunFilterFlowRunId",
    "TaskRunFilterId",
    "TaskRunFilterName",
    "TaskRunFilterStartTime",
    "TaskRunFilterState",
    "TaskRunFilterStateName",
    "TaskRunFilterStateType",
    "TaskRunFilterTags",
]


def _texts(wanted: Any, what: str) -> list[str]:
    if isinstance(wanted, str) or not hasattr(wanted, "__iter__"):
        raise OptionValueError(f"{what} is a list, not {wanted!r}.")
    return [str(getattr(each, "value", each)) for each in wanted]


def _text(wanted: Any, what: str) -> str:
    if not isinstance(wanted, str):
        raise OptionValueError(f"{what} is a text, not {wanted!r}.")
    return wanted


def _truth(wanted: Any, what: str) -> bool:
    if not isinstance(wanted, bool):
        raise OptionValueError(f"{what} is True or False, not {wanted!r}.")
    return wanted


def _number(wanted: Any, what: str) -> float:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise OptionValueError(f"{what} is a number, not {wanted!r}.")
    return wanted


def _time(wanted: Any, what: str) -> datetime:
    if isinstance(wanted, str):
        try:
            wanted = datetime.fromisoformat(wanted)
        except ValueError:
            wanted = None
    if not isinstance(wanted, datetime):
        raise OptionValueError(f"{what} is a datetime, or its text in ISO's form.")
    return wanted.replace(tzinfo=UTC) if wanted.tzinfo is None else wanted


def _among(value: Any, wanted: list[str]) -> bool:
    """Tell whether a value, or one of several, is among those that are wanted."""
    if isinstance(value, list):
        return not set(value).isdisjoint(wanted)
    return value in wanted


#: What reads the operand of each operator, and whether a value meets it.
_OPERATORS: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any, Any], bool]]] = {
    "any_": (_texts, _among),
    "not_any_": (_texts, lambda value, wanted: not _among(value, wanted)),
    "all_": (_texts, lambda value, wanted: set(wanted) <= set(value)),
    "like_": (_text, lambda value, wanted: wanted.lower() in (value or "").lower()),
    "query": (_text, lambda value, wanted: wanted.lower() in (value or "").lower()),
    "is_null_": (_truth, lambda value, wanted: (not value) is wanted),
    "before_": (_time, lambda value, wanted: value is not None and value <= wanted),
    "after_": (_time, lambda value, wanted: value is not None and value >= wanted),
    "ge_": (_number, lambda value, wanted: value >= wanted),
    "le_": (_number, lambda value, wanted: value <= wanted),
}


class _Criterion:
    """What one attribute has to be like."""

    OPERATORS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **wanted: Any) -> None:
        self._wanted: dict[str, Any] = {}
        for name, operand in wanted.items():
            _check_known(type(self), name, self.OPERATORS)
            if operand is not None:
                read = _OPERATORS[name][0]
                self._wanted[name] = read(operand, f"{type(self).__name__}.{name}")

    def __repr__(self) -> str:
        return _shown(self, self._wanted)

    def get(self, name: str) -> Any:
        """Return an operand, or None."""
        return self._wanted.get(name)

    def fits(self, value: Any) -> bool:
        """Tell whether a value is what is wanted."""
        return all(_OPERATORS[name][1](value, each) for name, each in self._wanted.items())


class _Filter:
    """Criteria for the attributes of something."""

    FIELDS: ClassVar[Mapping[str, type[_Criterion | _Filter]]] = {}
    #: Where an attribute has another name than its criterion.
    ATTRIBUTES: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *, operator: str = "and_", **criteria: Any) -> None:
        self.operator = str(getattr(operator, "value", operator))
        if self.operator not in ("and_", "or_"):
            raise OptionValueError(f"operator is 'and_' or 'or_', not {operator!r}.")
        self._criteria: dict[str, _Criterion | _Filter] = {}
        for name, criterion in criteria.items():
            _check_known(type(self), name, self.FIELDS)
            if criterion is not None:
                self._criteria[name] = _read(self.FIELDS[name], criterion)

    def __repr__(self) -> str:
        return _shown(self, self._criteria)

    def get(self, *path: str) -> Any:
        """Return what has to hold for sure: an operand by its path, such as `state.type.any_`."""
        if self.operator != "and_":
            return None
        found: Any = self._criteria.get(path[0])
        return found if found is None or len(path) == 1 else found.get(*path[1:])

    def fits(self, thing: Any) -> bool:
        """Tell whether something has the attributes that are wanted."""
        fits = (
            criterion.fits(getattr(thing, self.ATTRIBUTES.get(name, name)))
            for name, criterion in self._criteria.items()
        )
        return any(fits) if self.operator == "or_" and self._criteria else all(fits)


def _read(kind: type[_Criterion | _Filter], given: Any) -> _Criterion | _Filter:
    if isinstance(given, dict):
        return kind(**given)
    if not isinstance(given, kind):
        raise OptionValueError(f"Give a {kind.__name__} or a dict, not {given!r:.200}.")
    return given


def _check_known(kind: type, name: str, known: Any) -> None:
    if name not in known:
        hint = close_match(name, known) or f" It has: {', '.join(known)}."
        raise OptionValueError(f"{kind.__name__} has no {name!r} here.{hint}")


def _shown(thing: object, wanted: Mapping[str, Any]) -> str:
    inner = ", ".join(f"{name}={each!r}" for name, each in wanted.items())
    return f"{type(thing).__name__}({inner})"


# What runs are filtered by ------------------------------------------------------------------------


class FlowRunFilterId(_Criterion):
    """By `FlowRun.id`."""

    OPERATORS = ("any_", "not_any_")


class FlowRunFilterName(_Criterion):
    """By `FlowRun.name`: one of several, or a part of it in letters of any case."""

    OPERATORS = ("any_", "like_")


class FlowRunFilterTags(_Criterion):
    """By `FlowRun.tags`."""

    OPERATORS = ("all_", "any_", "is_null_")


class FlowRunFilterStateType(_Criterion):
    """By the state's type."""

    OPERATORS = ("any_", "not_any_")


class FlowRunFilterStateName(_Criterion):
    """By the state's name."""

    OPERATORS = ("any_", "not_any_")


class FlowRunFilterState(_Filter):
    """By the newest state."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "type": FlowRunFilterStateType,
        "name": FlowRunFilterStateName,
    }


class FlowRunFilterStartTime(_Criterion):
    """By `FlowRun.start_time`."""

    OPERATORS = ("before_", "after_", "is_null_")


class FlowRunFilterEndTime(FlowRunFilterStartTime):
    """By `FlowRun.end_time`."""


class FlowRunFilterExpectedStartTime(_Criterion):
    """By `FlowRun.expected_start_time`, which is when it was made."""

    OPERATORS = ("before_", "after_")


class FlowRunFilterParentFlowRunId(_Criterion):
    """By the flow run that called it."""

    OPERATORS = ("any_",)


class FlowRunFilter(_Filter):
    """Which flow runs are wanted."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "id": FlowRunFilterId,
        "name": FlowRunFilterName,
        "tags": FlowRunFilterTags,
        "state": FlowRunFilterState,
        "start_time": FlowRunFilterStartTime,
        "end_time": FlowRunFilterEndTime,
        "expected_start_time": FlowRunFilterExpectedStartTime,
        "parent_flow_run_id": FlowRunFilterParentFlowRunId,
    }


class FlowFilterName(_Criterion):
    """By the flow's name."""

    OPERATORS = ("any_", "like_")


class FlowFilter(_Filter):
    """Whose flow's runs are wanted."""

    FIELDS: ClassVar[dict[str, Any]] = {"name": FlowFilterName}
    ATTRIBUTES: ClassVar[dict[str, str]] = {"name": "flow_name"}


class TaskRunFilterId(_Criterion):
    """By `TaskRun.id`."""

    OPERATORS = ("any_",)


class TaskRunFilterName(FlowRunFilterName):
    """By `TaskRun.name`."""


class TaskRunFilterTags(FlowRunFilterTags):
    """By `TaskRun.tags`."""


class TaskRunFilterFlowRunId(_Criterion):
    """By the flow run that it belongs to."""

    OPERATORS = ("any_", "is_null_")


class TaskRunFilterStateType(FlowRunFilterStateType):
    """By the state's type."""


class TaskRunFilterStateName(FlowRunFilterStateName):
    """By the state's name."""


class TaskRunFilterState(_Filter):
    """By the newest state."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "type": TaskRunFilterStateType,
        "name": TaskRunFilterStateName,
    }


class TaskRunFilterStartTime(FlowRunFilterStartTime):
    """By `TaskRun.start_time`."""


class TaskRunFilterEndTime(FlowRunFilterStartTime):
    """By `TaskRun.end_time`."""


class TaskRunFilterExpectedStartTime(FlowRunFilterExpectedStartTime):
    """By `TaskRun.expected_start_time`, which is when it was made."""


class TaskRunFilter(_Filter):
    """Which task runs are wanted."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "id": TaskRunFilterId,
        "name": TaskRunFilterName,
        "tags": TaskRunFilterTags,
        "state": TaskRunFilterState,
        "start_time": TaskRunFilterStartTime,
        "end_time": TaskRunFilterEndTime,
        "expected_start_time": TaskRunFilterExpectedStartTime,
        "flow_run_id": TaskRunFilterFlowRunId,
    }


# What log records are filtered by -----------------------------------------------------------------


class LogFilterLevel(_Criterion):
    """By the number of the level."""

    OPERATORS = ("ge_", "le_")


class LogFilterTimestamp(_Criterion):
    """By when it was logged."""

    OPERATORS = ("before_", "after_")


class LogFilterFlowRunId(_Criterion):
    """By the flow run in which it was logged, its task runs among it."""

    OPERATORS = ("any_",)


class LogFilterTaskRunId(_Criterion):
    """By the task run in which it was logged."""

    OPERATORS = ("any_", "is_null_")


class LogFilterTextSearch(_Criterion):
    """By a part of the message, in letters of any case."""

    OPERATORS = ("query",)


class LogFilter(_Filter):
    """Which log records are wanted; those of one flow run or task run at least."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "level": LogFilterLevel,
        "timestamp": LogFilterTimestamp,
        "flow_run_id": LogFilterFlowRunId,
        "task_run_id": LogFilterTaskRunId,
        "text": LogFilterTextSearch,
    }
    ATTRIBUTES: ClassVar[dict[str, str]] = {"text": "message"}
