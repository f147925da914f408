"""Cache policies: what the key of a task's result is made of. Two calls of one key share a result.

Policies are added (`INPUTS + TASK_SOURCE`), and inputs are taken out (`INPUTS - "debug"`).
"""

from __future__ import annotations

from hpc_flows.cache_policies.hashing import code_digest, hash_objects, told_apart
from hpc_flows.exceptions import HashError, ParameterError, close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

#: Changes values of these types before INPUTS hashes them: `{type: function}`, as in Prefect.
STABLE_TRANSFORMS: dict[type, Callable[[Any], Any]] = {}

_LEVELS = ("READ_COMMITTED", "SERIALIZABLE")


class CachePolicy:
    """What a key is made of; the base of all policies.

    Attributes:
        key_storage: where records lie, or None for beside the data.
        isolation_level: `SERIALIZABLE` has calls of one key wait for each other, also those of
            other runs and machines; `READ_COMMITTED` lets each compute; None takes SERIALIZABLE
            where locks can be had.
        lock_manager: takes the locks; None takes files beside the records.
    """

    def __init__(
        self, key_storage: Any = None, isolation_level: Any = None, lock_manager: Any = None
    ) -> None:
        self.key_storage = key_storage
        self.isolation_level = isolation_level
        self.lock_manager = lock_manager

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *sorted(self.__dict__)))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items() if value)
        return f"{type(self).__name__}({said})"

    @classmethod
    def from_cache_key_fn(
        cls, cache_key_fn: Callable[[Any, dict[str, Any]], str | None]
    ) -> CacheKeyFnPolicy:
        """Return the policy whose keys are what `cache_key_fn(context, parameters)` returns."""
        return CacheKeyFnPolicy(cache_key_fn=cache_key_fn)

    def configure(
        self, key_storage: Any = None, lock_manager: Any = None, isolation_level: Any = None
    ) -> Self:
        """Return the same policy with other places or rules; None leaves them.

        Args:
            key_storage: where records lie: a folder, or a storage.
            lock_manager: takes the locks.
            isolation_level: `SERIALIZABLE` or `READ_COMMITTED`, or `transactions.IsolationLevel`.

        Raises:
            ParameterError: there is no such isolation level.
        """
        if isolation_level is not None:
            level = str(getattr(isolation_level, "value", isolation_level))
            if level not in _LEVELS:
                hint = close_match(level.upper(), _LEVELS)
                msg = f"isolation_level must be one of {', '.join(_LEVELS)}, not {level!r}.{hint}"
                raise ParameterError(msg)
        new = self._copy()
        changes = {
            "key_storage": key_storage,
            "lock_manager": lock_manager,
            "isolation_level": isolation_level,
        }
        new.__dict__.update({name: value for name, value in changes.items() if value is not None})
        return new

    def _copy(self) -> Self:
        new = self.__class__.__new__(self.__class__)
        new.__dict__.update(self.__dict__)
        return new

    def compute_key(
        self,
        task_ctx: Any,
        inputs: dict[str, Any] | None,
        flow_parameters: dict[str, Any] | None,
        **kwargs: Any,
    ) -> str | None:
        """Return the key of a call, or None for no key.

        Args:
            task_ctx: a `TaskRunContext`: `task`, `task_run`, `parameters`.
            inputs: what the task is called with, by parameter name.
            flow_parameters: what its flow was called with, by parameter name.
            **kwargs: for policies of other people.

        Raises:
            HashError: an input holds something that no key can be made of.
        """
        given = ", ".join(kwargs) or f"{task_ctx!r}, {inputs!r}, {flow_parameters!r}"
        msg = f"{type(self).__name__} has no compute_key of its own to make a key of {given:.200}."
        raise TypeError(msg)

    def __sub__(self, other: str) -> CachePolicy:
        """Return a policy that does not look at the input of that name."""
        _check_name(other)
        return self

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """Return a policy of both: keys differ where one of the two does.

        Raises:
            ValueError: they are configured differently.
        """
        if isinstance(other, _None):
            return self
        _check_fit(self, other)
        return CompoundCachePolicy([self, other], **_common(self, other))


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        msg = f"Only names of inputs can be taken out of a policy, not {name!r}."
        raise ParameterError(msg)


def _check_fit(one: CachePolicy, two: CachePolicy) -> None:
    for name, words in (
        ("key_storage", "storage locations"),
        ("isolation_level", "isolation levels"),
        ("lock_manager", "lock implementations"),
    ):
        given = [getattr(each, name) for each in (one, two)]
        if None not in given and given[0] != given[1]:
            msg = f"Cannot add CachePolicies with different {words}."
            raise ValueError(msg)


def _common(one: CachePolicy, two: CachePolicy) -> dict[str, Any]:
    names = ("key_storage", "isolation_level", "lock_manager")
    return {name: getattr(one, name) or getattr(two, name) for name in names}


class CacheKeyFnPolicy(CachePolicy):
    """Keys are what a function of the user's returns."""

    def __init__(
        self,
        cache_key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None,
        **configuration: Any,
    ) -> None:
        super().__init__(**configuration)
        self.cache_key_fn = cache_key_fn

    def compute_key(
        self,
        task_ctx: Any,
        inputs: dict[str, Any] | None,
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - the policies' interface
        **_: Any,
    ) -> str | None:
        """Return what the function says."""
        return None if self.cache_key_fn is None else self.cache_key_fn(task_ctx, inputs or {})


class CompoundCachePolicy(CachePolicy):
    """Several policies: the key is made of all their keys."""

    def __init__(self, policies: Sequence[CachePolicy] = (), **configuration: Any) -> None:
        super().__init__(**configuration)
        self.policies = _flat(policies)

    def compute_key(
        self,
        task_ctx: Any,
        inputs: dict[str, Any] | None,
        flow_parameters: dict[str, Any] | None,
        **kwargs: Any,
    ) -> str | None:
        """Return the hash of all keys; None if there are none."""
        keys = [
            policy.compute_key(
                task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs
            )
            for policy in self.policies
        ]
        found = [key for key in keys if key is not None]
        return hash_objects(*found, raise_on_failure=True) if found else None

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if isinstance(other, _None):
            return self
        _check_fit(self, other)
        return CompoundCachePolicy([*self.policies, other], **_common(self, other))

    def __sub__(self, other: str) -> CachePolicy:
        _check_name(other)
        if not any(isinstance(policy, Inputs) for policy in self.policies):
            return self
        return CompoundCachePolicy([*self.policies, Inputs([other])], **_common(self, self))


def _flat(policies: Sequence[CachePolicy]) -> list[CachePolicy]:
    """Return policies without compounds, and with one INPUTS that leaves out what any does."""
    flat: list[CachePolicy] = []
    for policy in policies:
        flat += policy.policies if isinstance(policy, CompoundCachePolicy) else [policy]
    inputs = [policy for policy in flat if isinstance(policy, Inputs)]
    rest = [policy for policy in flat if not isinstance(policy, Inputs)]
    if inputs:
        rest.append(Inputs(sorted({name for policy in inputs for name in policy.exclude})))
    return rest


class _None(CachePolicy):
    """No key: the result is not looked for."""

    def compute_key(
        self,
        task_ctx: Any,  # noqa: ARG002 - the policies' interface
        inputs: dict[str, Any] | None,  # noqa: ARG002 - as above
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - as above
        **_: Any,
    ) -> None:
        """Return None."""
        return

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return other


class TaskSource(CachePolicy):
    """Keys change with the source code of the task's function, not of what it calls.

    Functions that one source makes, as `def make(n)` around a task does, are told apart by the
    numbers, texts and functions that they close over.
    """

    def compute_key(
        self,
        task_ctx: Any,
        inputs: dict[str, Any] | None,  # noqa: ARG002 - the policies' interface
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - as above
        **_: Any,
    ) -> str | None:
        """Return the hash of the source code."""
        if not task_ctx:
            return None
        task = task_ctx.task
        return hash_objects(source_of(task), *told_apart(getattr(task, "fn", task)))


class FlowParameters(CachePolicy):
    """Keys change with the parameters of the flow run."""

    def compute_key(
        self,
        task_ctx: Any,  # noqa: ARG002 - the policies' interface
        inputs: dict[str, Any] | None,  # noqa: ARG002 - as above
        flow_parameters: dict[str, Any] | None,
        **_: Any,
    ) -> str | None:
        """Return the hash of the flow's parameters."""
        return hash_objects(flow_parameters, raise_on_failure=True) if flow_parameters else None


class RunId(CachePolicy):
    """Keys are good within one flow run, or, outside of flows, one task run."""

    def compute_key(
        self,
        task_ctx: Any,
        inputs: dict[str, Any] | None,  # noqa: ARG002 - the policies' interface
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - as above
        **_: Any,
    ) -> str | None:
        """Return the run's id."""
        if not task_ctx:
            return None
        return str(task_ctx.task_run.flow_run_id or task_ctx.task_run.id)


class Inputs(CachePolicy):
    """Keys change with what the task is called with.

    Attributes:
        exclude: names of inputs that do not matter.
    """

    def __init__(self, exclude: Sequence[str] | None = None, **configuration: Any) -> None:
        super().__init__(**configuration)
        self.exclude = list(exclude or ())

    def compute_key(
        self,
        task_ctx: Any,  # noqa: ARG002 - the policies' interface
        inputs: dict[str, Any] | None,
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - as above
        **_: Any,
    ) -> str | None:
        """Return the hash of the inputs."""
        if not inputs:
            return None
        counted = {
            name: _plain(value) for name, value in inputs.items() if name not in self.exclude
        }
        return hash_objects(counted, raise_on_failure=True)

    def __sub__(self, other: str) -> CachePolicy:
        _check_name(other)
        new = self._copy()
        new.exclude = [*self.exclude, other]
        return new


def _plain(value: Any) -> Any:
    transform = STABLE_TRANSFORMS.get(type(value))
    return value if transform is None else transform(value)


INPUTS = Inputs()
NONE = _None()
NO_CACHE = _None()
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def source_of(task: Any) -> str:
    """Return a task's source code, or where that is not to be had what its bytecode does."""
    known = getattr(task, "source_code", None)
    if isinstance(known, str):
        return known
    fn = getattr(task, "fn", task)
    import inspect  # noqa: PLC0415 - for those who cache

    for each in (fn, type(fn)):
        try:
            return inspect.getsource(each)
        except (TypeError, OSError):
            continue
    code = getattr(fn, "__code__", None)
    if code is None:
        raise HashError(f"The source code of {task!r} is not to be had; use another policy.")
    return code_digest(code).hex()


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """Return a key of the task, its code and its inputs: for `@task(cache_key_fn=...)`."""
    task = context.task
    code = getattr(task.fn, "__code__", None)
    does = source_of(task) if code is None else code_digest(code)
    more = told_apart(task.fn)
    return hash_objects(task.task_key, does, arguments, *more, raise_on_failure=True)


def policy_of(task: Any, options: Mapping[str, Any]) -> CachePolicy | None:
    """Return what `Task.cache_policy` shows: the policy that a task's options amount to.

    Args:
        task: the `Task`.
        options: those that it was given.
    """
    given = options.get("cache_policy")
    if options.get("persist_result") is False:
        return None if given is None and "cache_policy" in options else NO_CACHE
    if task.cache_key_fn is not None:
        return CachePolicy.from_cache_key_fn(task.cache_key_fn)
    if given is not None:
        policy: CachePolicy = given
        return policy
    if task.result_storage_key is not None or "cache_policy" in options:
        return None
    from hpc_flows.settings import get_settings  # noqa: PLC0415 - for those who ask

    return NO_CACHE if get_settings().tasks_default_no_cache else DEFAULT
