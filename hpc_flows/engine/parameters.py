"""How the arguments of a call are matched with the parameters of a function, and name its run.

Plain functions are matched through their code object; `inspect` costs 5 ms to import and is used
only for callables that are something else.
"""

from __future__ import annotations

from hpc_flows.exceptions import ParameterBindError, ParameterError, close_match, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

_VARARGS, _VARKEYWORDS = 0x04, 0x08
_FUNCTION = type(lambda: None)


def is_plain_function(fn: Any) -> bool:
    """Tell whether the code object says all about the function's signature."""
    return type(fn) is _FUNCTION and "__wrapped__" not in fn.__dict__


def parameter_names(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters, `*args` and `**kwargs` included."""
    if not is_plain_function(fn):
        import inspect  # noqa: PLC0415 - see the module's docstring

        return tuple(inspect.signature(fn).parameters)
    code = fn.__code__
    flags = code.co_flags
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(flags & _VARARGS) + bool(flags & _VARKEYWORDS)
    return code.co_varnames[:count]


def bind(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a call by parameter name, defaults included, in the signature's order.

    Raises:
        ParameterBindError: the arguments do not fit.
    """
    if not is_plain_function(fn) or fn.__code__.co_flags & (_VARARGS | _VARKEYWORDS):
        return _bind_any(fn, args, kwargs)
    code = fn.__code__
    if not kwargs and len(args) == code.co_argcount and not code.co_kwonlyargcount:
        return dict(zip(code.co_varnames, args))  # noqa: B905 - other local variables follow
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional = names[: code.co_argcount]
    if len(args) > len(positional):
        _refuse(fn, f"it takes {len(positional)} positional arguments but {len(args)} were given")
    values = dict(zip(positional, args))  # noqa: B905 - missing ones come from kwargs
    for name, value in kwargs.items():
        if name in names[: code.co_posonlyargcount]:
            _refuse(fn, f"{name!r} parameter is positional only, but was passed as a keyword")
        if name in values:
            _refuse(fn, f"multiple values for argument {name!r}")
        if name not in names:
            _refuse(fn, f"got an unexpected keyword argument {name!r}", close_match(name, names))
        values[name] = value
    if len(values) < len(names):
        _add_defaults(fn, positional, names, values)
    return {name: values[name] for name in names}


def _add_defaults(
    fn: Any, positional: tuple[str, ...], names: tuple[str, ...], values: dict[str, Any]
) -> None:
    known = _defaults(fn, positional)
    missing = [name for name in names if name not in values and name not in known]
    if missing:
        several = "missing required arguments" if missing[1:] else "missing a required argument"
        _refuse(fn, f"{several}: {', '.join(map(repr, missing))}")
    for name, value in known.items():
        values.setdefault(name, value)


def _defaults(fn: Any, positional: tuple[str, ...]) -> dict[str, Any]:
    defaults = fn.__defaults__ or ()
    known = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    known.update(fn.__kwdefaults__ or {})
    return known


def defaults_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function's parameters by name."""
    if is_plain_function(fn):
        return _defaults(fn, fn.__code__.co_varnames[: fn.__code__.co_argcount])
    import inspect  # noqa: PLC0415 - see the module's docstring

    parameters = inspect.signature(fn).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def variadic_names(fn: Callable[..., Any]) -> tuple[str | None, str | None]:
    """Return the names of a function's `*args` and `**kwargs`, None for what it does not have."""
    if not is_plain_function(fn):
        import inspect  # noqa: PLC0415 - see the module's docstring

        kinds = {p.kind: p.name for p in inspect.signature(fn).parameters.values()}
        return kinds.get(inspect.Parameter.VAR_POSITIONAL), kinds.get(inspect.Parameter.VAR_KEYWORD)
    code = fn.__code__
    names = iter(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
    rest = next(names) if code.co_flags & _VARARGS else None
    return rest, next(names) if code.co_flags & _VARKEYWORDS else None


def _bind_any(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    import inspect  # noqa: PLC0415 - see the module's docstring

    try:
        bound = inspect.signature(fn).bind(*args, **kwargs)
    except TypeError as error:
        _refuse(fn, str(error))
    bound.apply_defaults()
    return dict(bound.arguments)


def _refuse(fn: Any, why: str, hint: str = "") -> None:
    name = getattr(fn, "__name__", None) or repr(fn)
    msg = f"{name}() cannot be called with these arguments: {why}.{hint}"
    raise ParameterBindError(msg)


def unbind(
    fn: Callable[..., Any], parameters: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the `(args, kwargs)` that give a function these parameters."""
    if is_plain_function(fn):
        code = fn.__code__
        if not code.co_posonlyargcount and not code.co_flags & (_VARARGS | _VARKEYWORDS):
            return (), dict(parameters)
    import inspect  # noqa: PLC0415 - see the module's docstring
    from collections import OrderedDict  # noqa: PLC0415 - as above

    bound = inspect.BoundArguments(inspect.signature(fn), OrderedDict(parameters))
    return bound.args, bound.kwargs


def run_name(
    owner: str,
    template: str | Callable[..., str],
    parameters: Mapping[str, Any],
) -> str:
    """Return the name of a run from a template such as `"{x}-{y}"`, or from a callable.

    A callable that has a parameter called `parameters` is given the parameters. The name is made
    one line, for tables and logs, and cut where it is very long.

    Raises:
        ParameterError: the template cannot be filled in, or the callable returns no text.
    """
    if callable(template):
        return _one_line(_called_name(owner, template, parameters))
    try:
        return _one_line(template.format(**parameters))
    except (KeyError, IndexError) as error:
        missing = str(error.args[0]) if error.args else ""
        hint = close_match(missing, parameters)
        msg = (
            f"The run name {template!r} of {owner} asks for {missing!r}, which is no parameter of "
            f"it; those are {', '.join(parameters) or 'none'}.{hint}"
        )
        raise ParameterError(msg) from None
    except Exception as error:
        msg = (
            f"The run name {template!r} of {owner} cannot be made: {type(error).__name__}: "
            f"{text_of(error)}. It is filled in by str.format with the parameters."
        )
        raise ParameterError(msg) from error


#: Characters of a run's name.
_LONGEST_NAME = 200


def _one_line(name: str) -> str:
    """Return a name without line ends and control characters, which would garble every table."""
    if not name.isprintable():
        name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def _called_name(owner: str, template: Callable[..., str], parameters: Mapping[str, Any]) -> str:
    takes = parameter_names(template)
    name: Any = template(parameters=dict(parameters)) if "parameters" in takes else template()
    if isinstance(name, str):
        return name
    msg = (
        f"The function {getattr(template, '__name__', template)!r} that names the runs of {owner} "
        f"must return text, and returned {name!r}."
    )
    raise ParameterError(msg)


def refuse_unknown(
    owner: str,
    given: Iterable[str],
    known: Iterable[str],
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Refuse options by name that a decorator does not have; `elsewhere` has hints for some.

    Raises:
        ParameterError: always, when `given` is not empty.
    """
    known = tuple(known)
    for name in given:
        hint = (elsewhere or {}).get(name) or close_match(name, known)
        msg = f"{owner} has no option {name!r}.{hint}"
        raise ParameterError(msg)
