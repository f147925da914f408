"""The options of `@task` as a type, for editors and type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from hpc_flows.engine.retries import Delay
    from hpc_flows.resources import Resources

    Hooks = Iterable[Callable[..., Any]] | None


class TaskOptions(TypedDict, total=False):
    """The options of `@task`; their meaning is told by `Task`."""

    name: str | None
    description: str | None
    tags: Iterable[str] | None
    version: str | None
    resources: Resources | Mapping[str, Any] | None
    task_run_name: str | Callable[..., str] | None
    retries: int | None
    retry_delay_seconds: Delay | None
    retry_jitter_factor: float | None
    retry_condition_fn: Callable[..., Any] | None
    timeout_seconds: float | None
    log_prints: bool | None
    persist_result: bool | None
    result_storage: Any
    result_storage_key: str | None
    result_serializer: Any
    cache_result_in_memory: bool
    cache_policy: Any
    cache_key_fn: Callable[..., str | None] | None
    cache_expiration: timedelta | float | None
    cache_expiration_seconds: float | None
    refresh_cache: bool | None
    on_running: Hooks
    on_completion: Hooks
    on_failure: Hooks
    on_commit: Hooks
    on_rollback: Hooks
    viz_return_value: Any
