"""Whether `@task` and `@flow` are given what they must be; what is wrong is told at once."""

from __future__ import annotations

from hpc_flows.engine.parameters import parameter_names
from hpc_flows.exceptions import (
    OptionValueError,
    ParameterError,
    ReservedArgumentError,
    close_match,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any


#: Seconds; locks of the operating system cannot wait for much longer than a hundred years.
LONGEST_TIMEOUT = 3.0e9
_RESERVED = ("return_state", "wait_for")
_TAKEN = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__")


def check_function(kind: str, fn: Any) -> None:
    """Refuse what no task or flow can be made of; `kind` says which of the two is wanted.

    Raises:
        ParameterError: it cannot be called.
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
    for name in parameter_names(fn):
        if name in _RESERVED:
            msg = (
                f"{owner}: {name!r} is a reserved argument name and cannot be used in {kind} "
                f"functions, because calls of them take it. Give the parameter another name."
            )
            raise ReservedArgumentError(msg)


def function_flags(fn: Any) -> int:
    """Return the flags of a function's code, 0 where there is none: a coroutine function, say.

    Without the inspect module, for speed. Also of what stands around a function: a method, a
    `functools.partial`, an object that can be called.
    """
    fn = getattr(fn, "func", fn)  # of functools.partial
    fn = getattr(fn, "__func__", fn)  # of a method
    code = getattr(fn, "__code__", None)
    if code is None:
        call = getattr(type(fn), "__call__", None)  # noqa: B004 - its code is wanted
        code = getattr(call, "__code__", None)
    return 0 if code is None else int(code.co_flags)


def unwrapped(fn: Any) -> tuple[Any, type | None]:
    """Return the function inside of a static or class method, and which of the two it was in."""
    for kind in (staticmethod, classmethod):
        if isinstance(fn, kind):
            return fn.__func__, kind
    return fn, None


def check_words(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse a name, description or version that is no text.

    Raises:
        ParameterError: one of them is.
    """
    for option in ("name", "description", "version"):
        value = options.get(option)
        if value is not None and not isinstance(value, str):
            msg = f"{owner}: {option} must be text, not {value!r}."
            raise ParameterError(msg)


def check_flag(owner: str, option: str, value: Any) -> bool | None:
    """Return what is True, False or None.

    Raises:
        ParameterError: it is something else.
    """
    if value is None or isinstance(value, bool):
        return value
    msg = f"{owner}: {option} must be True or False, not {value!r}."
    raise ParameterError(msg)


def check_callable(owner: str, option: str, fn: Any) -> Any:
    """Return a function, or None.

    Raises:
        ParameterError: it cannot be called.
    """
    if fn is None or callable(fn):
        return fn
    msg = f"{owner}: Expected `{option}` to be callable, got {type(fn).__name__} instead: {fn!r}."
    raise ParameterError(msg)


def check_storage(owner: str, storage: Any) -> Any:
    """Return where results are kept: a storage, its name, a folder, or None.

    Raises:
        ParameterError: it is something else.
    """
    is_path = isinstance(storage, str) or hasattr(storage, "__fspath__")
    is_storage = hasattr(storage, "write_path") and hasattr(storage, "read_path")
    if storage is None or is_path or is_storage:
        return storage
    msg = (
        f"{owner}: result_storage must be a folder, or an object with write_path and read_path "
        f"such as LocalFileSystem(basepath=...), not {storage!r}."
    )
    raise ParameterError(msg)


def check_serializer(owner: str, serializer: Any) -> Any:
    """Return how results are written: a serializer, its name, or None.

    Raises:
        ParameterError: it is something else.
        OptionValueError: there is no serializer of that name.
    """
    if isinstance(serializer, str):
        _check_serializer_name(owner, serializer)
    is_serializer = hasattr(serializer, "dumps") and hasattr(serializer, "loads")
    if serializer is None or isinstance(serializer, str) or is_serializer:
        return serializer
    msg = (
        f"{owner}: result_serializer must be a name such as 'pickle' or 'json', or an object with "
        f"dumps and loads, not {serializer!r}."
    )
    raise ParameterError(msg)


def _check_serializer_name(owner: str, name: str) -> None:
    """Refuse a typo where it is written, not when the first result is kept."""
    from hpc_flows.serializers.naming import REGISTERED, TYPES  # noqa: PLC0415 - few give a name

    if name in TYPES or name in REGISTERED or ":" in name:
        return
    known = ", ".join([*TYPES, *REGISTERED])
    msg = (
        f"{owner}: there is no serializer {name!r}.{close_match(name, [*TYPES, *REGISTERED])} "
        f"There are {known}, and `package.module:Class`; a class of your own is known by its type "
        f"once it was imported."
    )
    raise OptionValueError(msg)


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
    msg = (
        f"{owner}: Expected string or callable for {option!r}; got {type(template).__name__} "
        f"instead. Give text such as '{{x}}-{{y}}', or a function."
    )
    raise ParameterError(msg)


def check_timeout(owner: str, seconds: Any) -> float | None:
    """Return a time limit in seconds, or None for none, which 0 stands for too.

    Raises:
        ParameterError: it is not a positive number that a clock can count to.
    """
    if seconds is None or (seconds == 0 and not isinstance(seconds, bool)):
        return None
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 < seconds <= LONGEST_TIMEOUT:
        return float(seconds)
    if is_number and seconds > LONGEST_TIMEOUT:
        msg = f"{owner}: timeout_seconds={seconds!r} is beyond all clocks; leave it out for none."
    else:
        msg = f"{owner}: timeout_seconds must be a positive number of seconds, not {seconds!r}."
    raise ParameterError(msg)


def take_after(wrapper: Any, fn: Any, *, attributes: bool = True) -> None:
    """Give a flow or task the name and text of its function, and the attributes that users set.

    As `functools.update_wrapper` does; the functools module brings six others, which every job
    would pay for.
    """
    for name in _TAKEN:
        if hasattr(fn, name):
            setattr(wrapper, name, getattr(fn, name))
    if attributes:
        wrapper.__dict__.update(getattr(fn, "__dict__", {}))
    wrapper.__wrapped__ = fn


#: Options each of which says that results are kept.
_KEEPING = (
    "cache_key_fn",
    "cache_expiration",
    "result_storage",
    "result_storage_key",
    "result_serializer",
)


def keeps_results(options: Mapping[str, Any]) -> bool:
    """Tell whether a task's options say that its results are kept for other runs."""
    return any(options.get(name) is not None for name in _KEEPING) or caches(
        options.get("cache_policy")
    )


def caches(policy: Any) -> bool:
    """Tell whether a cache policy was given that gives keys.

    Raises:
        ParameterError: it is no policy.
    """
    if policy is None:
        return False
    if not hasattr(policy, "compute_key"):
        msg = (
            "cache_policy must be a policy such as INPUTS or INPUTS + TASK_SOURCE, from "
            f"hpc_flows.cache_policies, not {policy!r}."
        )
        raise ParameterError(msg)
    from hpc_flows.cache_policies import NO_CACHE  # noqa: PLC0415 - loaded: a policy was given

    return bool(policy != NO_CACHE)


def check_expiration(owner: str, options: dict[str, Any]) -> timedelta | None:
    """Return the time after which a kept result is made anew; `options` keeps it in one form.

    Raises:
        ParameterError: it is no time, or given in both forms.
    """
    seconds = options.pop("cache_expiration_seconds", None)
    given = options.get("cache_expiration")
    if seconds is not None and given is not None:
        msg = f"{owner}: give cache_expiration or cache_expiration_seconds, not both."
        raise ParameterError(msg)
    given = seconds if given is None else given
    if given is None:
        return None
    from datetime import timedelta  # noqa: PLC0415 - few tasks have one

    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if is_number and 0 < given <= LONGEST_TIMEOUT:
        given = timedelta(seconds=given)
    if not isinstance(given, timedelta) or given <= timedelta():
        msg = f"{owner}: cache_expiration must be a positive time, such as 3600, not {given!r}."
        raise ParameterError(msg)
    options["cache_expiration"] = given
    return given
