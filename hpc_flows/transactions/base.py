"""What transactions in sync and in async code have in common: written once, as steps.

A step is a callable; `run_steps` and `arun_steps` call one after the other and send back what each
returned, or throw what it raised.
"""

from __future__ import annotations

import copy
import threading
from enum import Enum

from hpc_flows.context import RunContext, _current, current
from hpc_flows.exceptions import HpcFlowsError, ResultError, TransactionError, repr_of
from hpc_flows.logging import DEBUG, ERROR, INFO, WARNING, run_log
from hpc_flows.runs import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any

    from hpc_flows.results.store import ResultStore

    Steps = Generator[Callable[[], Any], Any, Any]


class _Words(str, Enum):  # noqa: UP042 - as in Prefect, whose users compare and print them
    def __str__(self) -> str:
        return str(self.value)


class IsolationLevel(_Words):
    """Whether a transaction waits for others of its key."""

    READ_COMMITTED = "READ_COMMITTED"
    SERIALIZABLE = "SERIALIZABLE"


class CommitMode(_Words):
    """When a transaction commits: at its own end, with the outermost one, or when it is told to."""

    EAGER = "EAGER"
    LAZY = "LAZY"
    OFF = "OFF"


class TransactionState(_Words):
    """How far a transaction is."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


_ENDED = (TransactionState.COMMITTED, TransactionState.ROLLED_BACK)
_NONE: Any = object()


class BaseTransaction:
    """What transactions in sync and in async code have in common.

    Attributes:
        store: keeps what is staged, or None.
        key: names what is staged, or None for nothing to keep.
        children: transactions that this one commits or rolls back.
        commit_mode: see `CommitMode`.
        isolation_level: see `IsolationLevel`.
        state: see `TransactionState`.
        on_commit_hooks, on_rollback_hooks: functions of the transaction.
        overwrite: whether what the store has of that key is passed over.
        write_on_commit: whether what is staged goes to the store.
        logger: a standard logger, or None for the run's log.
        of_task: whether it was made for one task run.
        plan: what the engine wants to do about the task run's result, or None.
        holder: who takes the lock.
        is_loose: whether it never ends: what is inside of it looks after itself.
    """

    _form = ""

    def __init__(
        self,
        key: str | None = None,
        store: ResultStore | None = None,
        commit_mode: CommitMode | str | None = None,
        isolation_level: IsolationLevel | str | None = None,
        *,
        overwrite: bool = False,
        write_on_commit: bool = True,
        logger: Any = None,
    ) -> None:
        self.key = key
        self.store = store
        self.commit_mode = None if commit_mode is None else CommitMode(commit_mode)
        self.isolation_level = None if isolation_level is None else IsolationLevel(isolation_level)
        self.overwrite = overwrite
        self.write_on_commit = write_on_commit
        self.logger = logger
        self.state = TransactionState.PENDING
        self.children: list[BaseTransaction] = []
        self.on_commit_hooks: list[Callable[..., Any]] = []
        self.on_rollback_hooks: list[Callable[..., Any]] = []
        self.of_task = False
        self.is_loose = False
        self.parent: BaseTransaction | None = None
        self.context: RunContext | None = None
        self.staged: Any = None
        self.plan: Any = None
        self.holder = new_id()
        self._values: dict[str, Any] = {}
        self._token: Any = None
        self._locked = False
        self._arrivals = threading.Condition()
        self._expected = 0

    def __repr__(self) -> str:
        key = "" if self.key is None else f" {self.key!r}"
        return f"<{type(self).__name__}{key} {self.state}>"

    # Values -------------------------------------------------------------------------------------

    def set(self, name: str, value: Any) -> None:
        """Remember a value for the hooks, and for transactions inside of this one."""
        self._values[name] = value

    def get(self, name: str, default: Any = _NONE) -> Any:
        """Return a copy of a value that was set here, or in a transaction around this one.

        Raises:
            ValueError: there is none of that name, and no default.
        """
        if name in self._values:
            return copy.deepcopy(self._values[name])
        if self.parent is not None:
            return self.parent.get(name, default)
        if default is _NONE:
            msg = f"Could not retrieve value for unknown key: {name}"
            raise ValueError(msg)
        return default

    # State --------------------------------------------------------------------------------------

    def is_pending(self) -> bool:
        """Tell whether it has not begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Tell whether it has begun and nothing is staged."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """Tell whether something waits to be committed."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """Tell whether it is committed, or was by somebody else before it began."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """Tell whether it was undone."""
        return self.state is TransactionState.ROLLED_BACK

    @classmethod
    def get_active(cls) -> BaseTransaction | None:
        """Return the innermost transaction here, or None."""
        return around()

    def get_parent(self) -> BaseTransaction | None:
        """Return the transaction around this one, or None."""
        return self.parent

    def add_child(self, transaction: BaseTransaction) -> None:
        """Take over a transaction: it is committed or rolled back with this one."""
        self.children.append(transaction)

    def stage(
        self,
        value: Any,
        on_rollback_hooks: Sequence[Callable[..., Any]] | None = None,
        on_commit_hooks: Sequence[Callable[..., Any]] | None = None,
    ) -> None:
        """Hold a value ready, and hooks, until it is committed or rolled back."""
        if self.state is TransactionState.COMMITTED:
            return
        self.staged = value
        self.on_rollback_hooks += on_rollback_hooks or ()
        self.on_commit_hooks += on_commit_hooks or ()
        self.state = TransactionState.STAGED

    def is_user_made(self) -> bool:
        """Tell whether this or one around it was made by a `with` block, not for a task."""
        return not self.of_task or (self.parent is not None and self.parent.is_user_made())

    def find_staged(self, key: str) -> BaseTransaction | None:
        """Return the transaction of that key among all that will be committed with this one."""
        top = self
        while top.parent is not None:
            top = top.parent
        return _find_staged(top, key)

    # Runs elsewhere -----------------------------------------------------------------------------

    def expect(self) -> None:
        """Have the end of the block wait for a run that will take part from another process."""
        with self._arrivals:
            self._expected += 1

    def arrived(self) -> None:
        """Note that such a run has taken part."""
        with self._arrivals:
            self._expected -= 1
            self._arrivals.notify_all()

    def _wait_for_runs(self) -> None:
        """Wait for what was submitted in the block."""
        context = self.context
        while context is not None and (calls := self._calls(context)):
            for call in calls:
                call.future.wait()
        with self._arrivals:
            self._arrivals.wait_for(lambda: self._expected == 0)

    def _calls(self, context: RunContext) -> list[Any]:
        calls = list(context.submitted.calls.values())
        return [call for call in calls if _is_around(self, call.context.transaction)]

    def _cancel_waiting(self) -> None:
        """Cancel what was submitted in the block and has not begun."""
        by_runner: dict[int, list[Any]] = {}
        for call in [] if self.context is None else self._calls(self.context):
            if call.runner is not None and call.run.run_count == 0:
                by_runner.setdefault(id(call.runner), []).append(call)
        reason = "The transaction that it is part of was rolled back."
        for calls in by_runner.values():
            # Together: a cluster's scheduler is asked, and told, once for all of them.
            calls[0].runner.cancel(calls, reason)

    # Begin and end, as steps that either kind of code carries out --------------------------------

    def prepare(self, parent: BaseTransaction | None) -> None:
        """Take over what was not given from the transaction around it.

        Raises:
            TransactionError: it was begun before, or its isolation level needs locks that the
                store has not.
        """
        if self._token is not None or self.state is not TransactionState.PENDING:
            msg = "Context already entered. Context enter calls cannot be nested."
            raise TransactionError(msg)
        self.parent = parent
        if self.commit_mode is None:
            said = None if parent is None else parent.commit_mode
            self.commit_mode = said or CommitMode.LAZY
        if self.isolation_level is None:
            level = None if parent is None else parent.isolation_level
            self.isolation_level = level or IsolationLevel.READ_COMMITTED
        store = self.store
        if store and self.key and not store.supports_isolation_level(self.isolation_level):
            msg = (
                f"Isolation level {self.isolation_level.name} is not supported by provided "
                "configuration. Please ensure you've provided a lock file directory or lock "
                "manager when using the SERIALIZABLE isolation level: "
                "ResultStore(lock_manager=FileSystemLockManager(folder))."
            )
            raise TransactionError(msg)
        self.state = TransactionState.ACTIVE

    def _begin_steps(self) -> Steps:
        if not (self.store and self.key):
            return
        if self.isolation_level is IsolationLevel.SERIALIZABLE:
            self.log(DEBUG, f"Acquiring lock for transaction {self.key!r}")
            yield self._asked("acquire_lock", self.key, holder=self.holder)
            self._locked = True
        try:
            if not self.overwrite and (yield self._asked("exists", key=self.key)):
                self.state = TransactionState.COMMITTED
        except BaseException:  # the block is not entered, so nothing else would unlock
            self._unlock()
            raise

    def _asked(self, method: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
        """Return what asks the store, in the form that this kind of transaction uses."""
        form = getattr(self.store, self._form + method)
        return lambda: form(*args, **kwargs)

    def _exit_steps(self, error: BaseException | None) -> Steps:
        if error is not None:
            self._cancel_waiting()
        try:
            yield self._wait_for_runs
        except GeneratorExit:
            raise
        except BaseException:  # Ctrl-C while it waits, say
            self._cancel_waiting()
            yield from self.end_steps(self.parent, failed=True)
            raise
        yield from self.end_steps(self.parent, failed=error is not None)

    def end_steps(self, parent: BaseTransaction | None, *, failed: bool) -> Steps:
        """Commit or roll back, or leave that to the transaction around it."""
        if failed:
            yield from self._rollback_steps()
        elif self.commit_mode is CommitMode.EAGER:
            yield from self._commit_steps()
        if parent is not None and not parent.is_loose:
            parent.add_child(self)
            if self.is_rolled_back():
                yield from parent._rollback_steps()  # noqa: SLF001 - of the same family
            elif parent.is_rolled_back():
                yield from self._rollback_steps()
        elif self.commit_mode is CommitMode.OFF:
            yield from self._rollback_steps()
        elif self.commit_mode is CommitMode.LAZY:
            yield from self._commit_steps()

    def take_lock(self) -> None:
        """Take over the lock on its key, which its holder has."""
        self._locked = True

    def _commit_steps(self) -> Steps:
        if self.state in _ENDED:
            self._unlock()
            return False
        try:
            for child in self.children:
                yield from child._commit_steps()  # noqa: SLF001 - of the same family
            for hook in self.on_commit_hooks:
                yield from self._hook_steps(hook, "commit")
            yield from self._write_steps()
        except ResultError as error:
            message = (
                f"The result of transaction {self.key!r} cannot be kept: {error} Code execution "
                f"will continue, but the transaction will not be committed."
            )
            self.log(WARNING, message)
            yield from self._rollback_steps()
            return False
        except Exception as error:  # noqa: BLE001 - the user's hooks may raise anything
            what = f"An error was encountered while committing transaction {self.key!r}"
            self.log(ERROR, f"{what}: {repr_of(error)}")
            yield from self._rollback_steps()
            return False
        except GeneratorExit:
            self._unlock()
            raise
        except BaseException:  # Ctrl-C in a hook: nothing may stay half done, or locked
            yield from self._rollback_steps()
            raise
        self.state = TransactionState.COMMITTED
        self._unlock()
        return True

    def _write_steps(self) -> Steps:
        if not (self.store and self.key and self.write_on_commit):
            return
        if not hasattr(self.staged, "metadata"):
            yield self._asked("write", key=self.key, obj=self.staged, holder=self.holder)
        elif not self.staged.is_persisted:
            yield self._asked("persist_result_record", self.staged, holder=self.holder)

    def _rollback_steps(self) -> Steps:
        if self.state in _ENDED:
            return False
        undone = True
        try:
            for hook in reversed(self.on_rollback_hooks):
                try:
                    yield from self._hook_steps(hook, "rollback")
                except Exception as error:  # noqa: BLE001 - the user's hooks may raise anything
                    undone = False  # what the others undo must be undone all the same
                    what = f"An error was encountered while rolling back transaction {self.key!r}"
                    self.log(ERROR, f"{what}: {repr_of(error)}")
            self.state = TransactionState.ROLLED_BACK
            for child in reversed(self.children):
                yield from child._rollback_steps()  # noqa: SLF001 - of the same family
        finally:
            self.state = TransactionState.ROLLED_BACK  # what failed is never committed
            self._unlock()
        return undone

    def _hook_steps(self, hook: Callable[..., Any], kind: str) -> Steps:
        name = getattr(hook, "__name__", None) or repr(hook)
        tells = getattr(hook, "log_on_run", True)
        if tells:
            self.log(INFO, f"Running {kind} hook {name!r}")
        try:
            yield lambda: hook(self)
        except Exception:
            if tells:
                self.log(ERROR, f"An error was encountered while running {kind} hook {name!r}")
            raise
        if tells:
            self.log(INFO, f"{kind.capitalize()} hook {name!r} finished running successfully")

    def _unlock(self) -> None:
        if not self._locked or self.store is None or self.key is None:
            return
        self._locked = False
        self.log(DEBUG, f"Releasing lock for transaction {self.key!r}")
        try:
            self.store.release_lock(self.key, holder=self.holder)
        except (ValueError, HpcFlowsError):  # it was lost: this process was stopped for too long
            self.log(WARNING, f"The lock of transaction {self.key!r} was lost before its end.")

    def log(self, level: int, message: str) -> None:
        """Write to the logger that was given, to the run's log, or else to the standard one."""
        context = self.context or current()
        if self.logger is not None:
            self.logger.log(level, message)
        elif context is not None and is_open(context):
            run_log(context, level, message)
        else:
            import logging  # noqa: PLC0415 - outside of runs

            logging.getLogger("hpc_flows.transactions").log(level, message)

    def _enter(self) -> None:
        outer = self.context or current()
        inner = RunContext() if outer is None else outer.copy()
        inner.transaction = self
        self.context = inner
        self._token = _current.set(inner)

    def _leave(self) -> None:
        if self._token is None:
            msg = "Asymmetric use of context. Context exit called without an enter."
            raise TransactionError(msg)
        _current.reset(self._token)
        self._token = None


def run_steps(steps: Steps) -> Any:
    """Carry out the steps of a transaction in sync code; coroutines too."""
    from hpc_flows.results.places import finished  # noqa: PLC0415 - loaded where it is needed

    try:
        ask = steps.send(None)
        while True:
            try:
                answer = ask()
                answer = finished(answer) if hasattr(answer, "__await__") else answer
            except BaseException as error:  # noqa: BLE001 - the steps decide about each
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        return end.value


async def arun_steps(steps: Steps) -> Any:
    """Carry out the steps of a transaction in async code; what may block, in a thread."""
    import asyncio  # noqa: PLC0415 - it is running

    try:
        ask = steps.send(None)
        while True:
            try:
                answer = await asyncio.to_thread(ask)
                answer = await answer if hasattr(answer, "__await__") else answer
            except BaseException as error:  # noqa: BLE001 - the steps decide about each
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        return end.value


def _is_around(outer: BaseTransaction, inner: BaseTransaction | None) -> bool:
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is outer


def _find_staged(inside: BaseTransaction, key: str) -> BaseTransaction | None:
    for child in reversed(inside.children):
        if child.key == key and child.is_staged():
            return child
        found = _find_staged(child, key)
        if found is not None:
            return found
    return None


def is_open(context: RunContext) -> bool:
    """Tell whether the context's run still writes its journal; that of a lone task ends with it."""
    return context.root is not None and not context.root.is_closed


def around() -> BaseTransaction | None:
    """Return the innermost transaction here, or None."""
    context = current()
    return None if context is None else context.transaction
