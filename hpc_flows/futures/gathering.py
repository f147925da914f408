"""What futures do with some time on their hands: gather values, wait in asyncio."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hpc_flows.futures import TaskFuture


def values_of(
    futures: Sequence[TaskFuture],
    timeout: float | None,
    wait_until: Callable[..., None],
    *,
    raise_on_failure: bool,
) -> list[Any]:
    """Return the values of futures in order, waiting for all, as `TaskFutureList.result` does."""
    pending = [future for future in futures if not future.done()]
    failed = raise_on_failure and any(map(_has_failed, futures))
    if pending and not failed:
        wait_until(pending, len(pending), timeout, until_failure=raise_on_failure)
    if raise_on_failure:
        for future in filter(_has_failed, futures):
            future.result()
    left = sum(not future.done() for future in futures)
    if left:
        msg = (
            f"Timed out waiting for all futures to complete within {timeout} seconds: {left} of "
            f"{len(futures)} are unfinished."
        )
        raise TimeoutError(msg)
    return [future.result(raise_on_failure=raise_on_failure) for future in futures]


def _has_failed(future: TaskFuture) -> bool:
    return future.done() and not future.state.is_completed()


async def wait_in_asyncio(future: TaskFuture, timeout: float | None) -> None:  # noqa: ASYNC109 - of `wait_async`
    """Wait until a task run has ended, or for `timeout` seconds, and let others run."""
    import asyncio  # noqa: PLC0415 - loaded already: it is running

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def tell(_: object) -> None:
        loop.call_soon_threadsafe(ended.set)

    for_ever = (future,) if timeout is None else ()
    resume = None if future.on_wait is None else future.on_wait(for_ever)
    try:
        future.add_done_callback(tell)
        await asyncio.wait_for(ended.wait(), timeout)
    except TimeoutError:
        return
    finally:
        future.remove_done_callback(tell)
        if resume is not None:
            resume()
