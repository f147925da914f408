"""What tasks and flows have in common: a function with a name, options and hooks.

A definition is made by a decorator, checked there, can be copied with other options, bound to an
object as methods are, and sent to another process by its name or by its value.
"""

from __future__ import annotations

import sys
from types import MethodType

from hpc_flows.engine.hooks import check_hooks
from hpc_flows.engine.options import (
    check_flag,
    check_function,
    check_serializer,
    check_storage,
    check_timeout,
    check_words,
    function_flags,
    take_after,
    unwrapped,
)
from hpc_flows.engine.parameters import refuse_unknown
from hpc_flows.engine.retries import check_delays, check_retries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Generic, ParamSpec, Self, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")
else:

    class Generic:
        """Stands for typing.Generic, which costs 8 ms to import in every job."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    P, R = "P", "R"

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200

#: Options that tasks and flows have both, hooks aside.
COMMON_OPTIONS = (
    "name",
    "description",
    "version",
    "retries",
    "retry_delay_seconds",
    "timeout_seconds",
    "log_prints",
    "persist_result",
    "result_storage",
    "result_serializer",
    "cache_result_in_memory",
)


class Definition(Generic[P, R]):
    """A function with options: what `Task` and `Flow` are made from.

    A subclass names its own options in `own_options`, reads them in its `__init__` after calling
    this one, and returns a `Bound` form of itself from `_bound_to`.

    Attributes:
        fn: the function itself, without any of it.
        name: the function's, as `_name_of` has it, unless given.
        description: text for people; the function's docstring, unless given.
        version: text for people, or None.
        retries: how often a run that failed is tried again; None takes the setting.
        retry_delay_seconds: pause before each retry: one number, or one for each; None takes the
            setting.
        timeout_seconds: time limit of each attempt, or None.
        log_prints: whether `print` makes log records; None does as what is around it does.
        persist_result: whether results are kept for other runs; None leaves it to the setting, and
            to what else is said about results.
        result_storage: where they are kept: a storage, its name, a folder; or None.
        result_serializer: how they are written: a serializer, its name; or None.
        cache_result_in_memory: whether a result that was written is kept in memory as well.
        isasync: whether the function is a coroutine function or an async generator function.
        isgenerator: whether it is a generator function of either kind.
        on_<name>_hooks: a list for each name in `hook_names`.
    """

    #: `task` or `flow`: what it is called in messages.
    kind: ClassVar[str] = "definition"
    #: Options besides the common ones and hooks.
    own_options: ClassVar[tuple[str, ...]] = ()
    #: Options that are lists of functions, each of which `on_...` also takes as a decorator.
    hook_names: ClassVar[tuple[str, ...]] = ()
    #: What is looked for among the options and is not there, with the reason.
    refused: ClassVar[Mapping[str, str]] = {}

    #: The function's text; False while nobody has asked for it.
    _source: str | bool | None = False

    def __init__(self, fn: Callable[P, R], options: dict[str, Any]) -> None:
        """Make a definition of `fn`; `options` holds those that were given.

        Raises:
            ParameterError: an option is wrong, or not known.
        """
        fn, method = unwrapped(fn)
        check_function(self.kind, fn)
        is_definition = isinstance(fn, Definition)  # a task made of a flow, say
        take_after(self, fn, attributes=not is_definition)
        self.fn = fn
        self._method = method
        self.name: str = options.get("name") or self._name_of(fn)
        owner = self._owner
        known = (*COMMON_OPTIONS, *self.own_options, *self.hook_names)
        refuse_unknown(owner, options.keys() - set(known), known, self.refused)
        check_words(owner, options)
        self._options = options
        self.description: str | None = options.get("description") or _description(fn)
        self.version: str | None = options.get("version")
        self.retries = check_retries(owner, options.get("retries"))
        self.retry_delay_seconds = check_delays(
            owner, options.get("retry_delay_seconds"), self.retries
        )
        self.timeout_seconds = check_timeout(owner, options.get("timeout_seconds"))
        self.log_prints = check_flag(owner, "log_prints", options.get("log_prints"))
        self._take_result_options(owner, options)
        for name in self.hook_names:
            setattr(self, f"{name}_hooks", check_hooks(owner, name, options.get(name)))
        inner: Any = fn
        flags = function_flags(inner.fn if is_definition else fn)
        self.isasync = bool(flags & (_COROUTINE | _ASYNC_GENERATOR))
        self.isgenerator = bool(flags & (_GENERATOR | _ASYNC_GENERATOR))

    def _take_result_options(self, owner: str, options: Mapping[str, Any]) -> None:
        self.persist_result = check_flag(owner, "persist_result", options.get("persist_result"))
        self.result_storage = check_storage(owner, options.get("result_storage"))
        self.result_serializer = check_serializer(owner, options.get("result_serializer"))
        in_memory = options.get("cache_result_in_memory")
        self.cache_result_in_memory = (
            check_flag(owner, "cache_result_in_memory", in_memory) is not False
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @staticmethod
    def _name_of(fn: Any) -> str:
        """Return the name of what is made of a function."""
        return str(getattr(fn, "__name__", None) or type(fn).__name__)

    @property
    def _owner(self) -> str:
        """What messages about an option begin with."""
        return f"{self.kind.capitalize()} {self.name!r}"

    @property
    def body(self) -> Callable[..., Any]:
        """What a run calls: the function, or what gives the list of all that a generator yields."""
        if not self.isgenerator:
            return self.fn
        from hpc_flows.engine.generators import gathering  # noqa: PLC0415 - few are

        return gathering(self.fn, is_async=self.isasync)

    @property
    def source_code(self) -> str | None:
        """The function's text, as keys of kept results need it; None where it cannot be had.

        It is read when it is first asked for, and goes along where the task is sent by value to a
        process that may not find it.
        """
        if self._source is False:
            from hpc_flows.engine.source import source_of  # noqa: PLC0415 - few need it

            self._source = source_of(self.fn)
        return self._source  # type: ignore[return-value]

    def _source_to_send(self) -> str | bool | None:
        """Return the text for a process that may not find it, False to let it look for itself."""
        code = getattr(self.fn, "__code__", None)
        file = "" if code is None else code.co_filename
        has_file = not file.startswith("<") and "ipykernel" not in file
        return self._source if has_file and not getattr(self, "recall", False) else self.source_code

    # Options ------------------------------------------------------------------------------------

    def _changed(self, options: dict[str, Any]) -> Self:
        """Return a copy with some options changed; None takes an option back to its default."""
        return self._remade({**self._options, **options})

    def _remade(self, options: dict[str, Any]) -> Self:
        fn: Any = self.fn if self._method is None else self._method(self.fn)
        made: Self = type(self)(fn, **options)
        return made

    def on_running(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(definition, run, state)` whenever a run starts; a decorator."""
        return self._add_hook("on_running", fn)

    def on_completion(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(definition, run, state)` when a run completes; a decorator."""
        return self._add_hook("on_completion", fn)

    def on_failure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(definition, run, state)` when a run fails for good; a decorator."""
        return self._add_hook("on_failure", fn)

    def _add_hook(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Add a hook that was given by a decorator, also for copies and pickles."""
        hooks: list[Any] = getattr(self, f"{name}_hooks")
        hooks += check_hooks(self._owner, name, [fn])
        self._options[name] = list(hooks)
        return fn

    # Methods ------------------------------------------------------------------------------------

    @property
    def isclassmethod(self) -> bool:
        """Whether it was made of a class method."""
        return self._method is classmethod

    @property
    def isstaticmethod(self) -> bool:
        """Whether it was made of a static method."""
        return self._method is staticmethod

    @property
    def ismethod(self) -> bool:
        """Whether it is bound to an object or a class."""
        return isinstance(self, Bound)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return it with an object, or its class, as the first argument, as methods have."""
        if self._method is staticmethod or (instance is None and self._method is None):
            return self
        return self._bound_to(instance if self._method is None else owner)

    def _bound_to(self, first: object) -> Any:
        """Return this with `first` as the first argument of each call."""
        return MethodType(self, first)  # type: ignore[arg-type]

    # Pickling -----------------------------------------------------------------------------------

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name where importing the name gives this again, else by value."""
        found = _importable(self.fn)
        if found is self:
            return str(self.__qualname__)
        if isinstance(found, Definition) and found.fn is self.fn:
            return _with_these, (found, dict(self._options))
        parts = (type(self), self.fn, dict(self._options), self._method)
        return _made_of, (*parts, self._source_to_send())


class Bound:
    """A definition that is a method, with the object that it was looked up on.

    It stands before the class of the definition among the bases, as in
    `class BoundTask(Bound, Task)`.
    """

    def __init__(self, whole: Any, first: object) -> None:
        """Bind `whole`, with `first` as the first argument of each call."""
        self.__dict__.update(whole.__dict__)
        self.__dict__["fn"] = MethodType(whole.fn, first)
        self._whole = whole
        self._first = first

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle both parts."""
        return type(self), (self._whole, self._first)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return it as it is: it has its object."""
        return self

    def with_options(self, **options: Any) -> Any:
        """Return it with some options changed, for the same object."""
        return type(self)(self._whole.with_options(**options), self._first)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it with the object before the other arguments."""
        return self._whole(self._first, *args, **kwargs)


def _description(fn: Any) -> str | None:
    """Return a function's docstring without its indentation."""
    text: str | None = getattr(fn, "__doc__", None)
    if text is None or "\n" not in text:
        return text and text.strip()
    first, *lines = text.expandtabs().splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    margin = min(indents, default=0)
    return "\n".join([first.lstrip(), *(line[margin:].rstrip() for line in lines)]).strip("\n")


def _importable(fn: Any) -> Any:
    """Return what importing a function's module and name gives, or None; `__main__` is nothing."""
    module = getattr(fn, "__module__", None)
    if module is None or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in str(getattr(fn, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found


def _made_of(kind: Any, fn: Any, options: Any, method: Any, source: Any) -> Any:
    made = kind(fn if method is None else method(fn), **options)
    if source is not False:
        made._source = source  # noqa: SLF001 - this function is the definition's own
    return made


def _with_these(found: Any, options: Any) -> Any:
    return found._remade(options)  # noqa: SLF001 - this function is the definition's own
