"""Transactions: results and side effects of several tasks that are kept together, or undone.

::

    with transaction():
        write_table(rows)       # its on_rollback hook removes the table
        check_table()           # fails: the table is removed

Results of tasks in a transaction are kept when it commits, at the end of the outermost block.
Their hooks run in the process of the flow, wherever the tasks ran.
"""

from __future__ import annotations

from hpc_flows.context import current
from hpc_flows.transactions.base import (
    BaseTransaction,
    CommitMode,
    IsolationLevel,
    TransactionState,
    around,
    arun_steps,
    run_steps,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from hpc_flows.results.store import ResultStore

__all__ = [
    "AsyncTransaction",
    "BaseTransaction",
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "atransaction",
    "get_transaction",
    "transaction",
]


class Transaction(BaseTransaction):
    """A transaction, for `with` blocks; `transaction(...)` makes one with the store of the run."""

    def begin(self) -> None:
        """Take the lock, if need be, and see whether somebody else has committed already."""
        run_steps(self._begin_steps())

    def read(self) -> Any:
        """Return the record that the store has of the key, or None without a key."""
        if self.store and self.key:
            return self.store.read(key=self.key, holder=self.holder)
        return None

    def commit(self) -> bool:
        """Commit what is staged, children first; return whether anything was."""
        return bool(run_steps(self._commit_steps()))

    def rollback(self) -> bool:
        """Run the rollback hooks, the newest first, then those of children; tell if it worked."""
        return bool(run_steps(self._rollback_steps()))

    def end(self, parent: BaseTransaction | None, *, failed: bool = False) -> None:
        """Commit or roll back, or leave that to the transaction around it."""
        run_steps(self.end_steps(parent, failed=failed))

    def __enter__(self) -> Self:
        self.prepare(around())
        self.begin()
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._leave()
        run_steps(self._exit_steps(error))


class AsyncTransaction(BaseTransaction):
    """A transaction, for `async with` blocks."""

    _form = "a"

    async def begin(self) -> None:
        """Take the lock, if need be, and see whether somebody else has committed already."""
        await arun_steps(self._begin_steps())

    async def read(self) -> Any:
        """Return the record that the store has of the key, or None without a key."""
        if self.store and self.key:
            return await self.store.aread(key=self.key, holder=self.holder)
        return None

    async def commit(self) -> bool:
        """Commit what is staged, children first; return whether anything was."""
        return bool(await arun_steps(self._commit_steps()))

    async def rollback(self) -> bool:
        """Run the rollback hooks, the newest first, then those of children; tell if it worked."""
        return bool(await arun_steps(self._rollback_steps()))

    async def __aenter__(self) -> Self:
        self.prepare(around())
        await self.begin()
        self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._leave()
        await arun_steps(self._exit_steps(error))


def get_transaction() -> BaseTransaction | None:
    """Return the innermost transaction here, or None outside of transactions and tasks.

    A task that has none of its own is given one, for values that its nested tasks share.
    """
    context = current()
    if context is None or context.transaction is not None or context.task_run is None:
        return None if context is None else context.transaction
    made = Transaction(commit_mode=CommitMode.EAGER)
    made.prepare(None)
    made.of_task = made.is_loose = True
    context.transaction = made
    return made


def _with_store(key: str | None, store: ResultStore | None) -> ResultStore | None:
    if key is None or store is not None:
        return store
    from hpc_flows.context.views import get_result_store  # noqa: PLC0415 - only with a key

    return get_result_store()


def transaction(
    key: str | None = None,
    store: ResultStore | None = None,
    commit_mode: CommitMode | str | None = None,
    isolation_level: IsolationLevel | str | None = None,
    overwrite: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    write_on_commit: bool = True,  # noqa: FBT001, FBT002 - as above
    logger: Any = None,
) -> Transaction:
    """Return a transaction for a `with` block.

    Args:
        key: names what `txn.stage(value)` holds ready, for other runs; None keeps nothing.
        store: keeps it; None takes the run's.
        commit_mode: when it commits; None does as the transaction around it, or LAZY.
        isolation_level: SERIALIZABLE waits while another transaction of that key is open.
        overwrite: whether it begins anew although the store has something of that key.
        write_on_commit: whether what is staged goes to the store.
        logger: a standard logger; None takes the run's log.

    Raises:
        TransactionError: the isolation level needs locks that the store has not.
    """
    return Transaction(
        key,
        _with_store(key, store),
        commit_mode,
        isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
        logger=logger,
    )


def atransaction(
    key: str | None = None,
    store: ResultStore | None = None,
    commit_mode: CommitMode | str | None = None,
    isolation_level: IsolationLevel | str | None = None,
    overwrite: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
    write_on_commit: bool = True,  # noqa: FBT001, FBT002 - as above
    logger: Any = None,
) -> AsyncTransaction:
    """Return a transaction for an `async with` block; the arguments are those of `transaction`."""
    return AsyncTransaction(
        key,
        _with_store(key, store),
        commit_mode,
        isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
        logger=logger,
    )
