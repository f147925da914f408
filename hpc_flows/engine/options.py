"""Whether `@task` and `@flow` are given what they must be; what is wrong is told at once."""

from __future__ import annotations

from hpc_flows.engine.parameters import parameter_names
from hpc_flows.exceptions import ParameterError, ReservedArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x200
_RESERVED = ("return_state", "wait_for")
_TAKEN = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__")


def check_function(kind: str, fn: Any) -> None:
    """Refuse what no task or flow can be made of; `kind` says which of the two is wanted.

    Raises:
        ParameterError: it cannot be called, or is a generator function.
        ReservedArgumentError: it has a parameter whose name calls of tasks and flows need.
    """
    if not callable(fn):
        hint = f" Write @{kind}(name=...) to give the {kind} a name." if isinstance(fn, str) else ""
        msg = f"@{kind} decorates functions, not {fn!r}.{hint}"
        raise ParameterError(msg)
    code = getattr(fn, "__code__", None)
    if code is None:
        return
    owner = f"{kind.capitalize()} {fn.__name__!r}"
    if code.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
        msg = (
            f"{owner} is a generator function, which is not available in this version of "
            f"hpc_flows. Return a list instead of yielding."
        )
        raise ParameterError(msg)
    for name in parameter_names(fn):
        if name in _RESERVED:
            msg = (
                f"{owner} has a parameter {name!r}, which {kind} calls use themselves. Give the "
                f"parameter another name."
            )
            raise ReservedArgumentError(msg)


def unwrapped(fn: Any) -> tuple[Any, type | None]:
    """Return the function inside of a static or class method, and which of the two it was in."""
    for kind in (staticmethod, classmethod):
        if isinstance(fn, kind):
            return fn.__func__, kind
    return fn, None


def check_words(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse a name or description that is no text, and a `log_prints` that is no bool.

    Raises:
        ParameterError: one of them is.
    """
    for option in ("name", "description"):
        value = options.get(option)
        if value is not None and not isinstance(value, str):
            msg = f"{owner}: {option} must be text, not {value!r}."
            raise ParameterError(msg)
    prints = options.get("log_prints")
    if prints is not None and not isinstance(prints, bool):
        msg = f"{owner}: log_prints must be True or False, not {prints!r}."
        raise ParameterError(msg)


def check_tags(owner: str, tags: Any) -> frozenset[str]:
    """Return the tags as a set.

    Raises:
        ParameterError: they are one text, whose letters would be the tags, or not all texts.
    """
    if tags is None:
        return frozenset()
    if isinstance(tags, str) or not hasattr(tags, "__iter__"):
        msg = f"{owner}: tags must be a list of texts, such as [{tags!r}]."
        raise ParameterError(msg)
    found = tuple(tags)
    for tag in found:
        if not isinstance(tag, str):
            msg = f"{owner}: tags must be texts, and {tag!r} is none."
            raise ParameterError(msg)
    return frozenset(found)


def check_template(owner: str, option: str, template: Any) -> Any:
    """Return what names runs: a text, a function, or None.

    Raises:
        ParameterError: it is something else.
    """
    if template is None or isinstance(template, str) or callable(template):
        return template
    msg = f"{owner}: {option} must be text such as '{{x}}-{{y}}', or a function, not {template!r}."
    raise ParameterError(msg)


def check_timeout(owner: str, seconds: Any) -> float | None:
    """Return a time limit in seconds, or None for none.

    Raises:
        ParameterError: it is not a positive number that a clock can count to.
    """
    if seconds is None:
        return None
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 < seconds <= LONGEST_TIMEOUT:
        return float(seconds)
    if is_number and seconds > LONGEST_TIMEOUT:
        msg = f"{owner}: timeout_seconds={seconds!r} is beyond all clocks; leave it out for none."
    else:
        msg = f"{owner}: timeout_seconds must be a positive number of seconds, not {seconds!r}."
    raise ParameterError(msg)


#: Seconds; locks of the operating system cannot wait for much longer than a hundred years.
LONGEST_TIMEOUT = 3.0e9


def take_after(wrapper: Any, fn: Any) -> None:
    """Give a flow or task the name, text and attributes of its function.

    As `functools.update_wrapper` does; the functools module brings six others, which every job
    would pay for.
    """
    for name in _TAKEN:
        if hasattr(fn, name):
            setattr(wrapper, name, getattr(fn, name))
    wrapper.__dict__.update(getattr(fn, "__dict__", {}))
    wrapper.__wrapped__ = fn
