"""Cache policies, under the names that Prefect's users know, and FILES.

Two calls of a task that get the same key share one result, within a run or between runs, in one
process or on many machines. docs/concepts/caching.md tells how.
"""

from __future__ import annotations

from hpc_flows.cache_policies.files import FILES, Files
from hpc_flows.cache_policies.hashing import hash_objects, stable_hash
from hpc_flows.cache_policies.policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    STABLE_TRANSFORMS,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    FlowParameters,
    Inputs,
    RunId,
    TaskSource,
    _None,  # noqa: F401 - Prefect's users test for it
    policy_of,
    source_of,
    task_input_hash,
)

__all__ = [
    "DEFAULT",
    "FILES",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NONE",
    "NO_CACHE",
    "RUN_ID",
    "STABLE_TRANSFORMS",
    "TASK_SOURCE",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CompoundCachePolicy",
    "Files",
    "FlowParameters",
    "Inputs",
    "RunId",
    "TaskSource",
    "hash_objects",
    "policy_of",
    "source_of",
    "stable_hash",
    "task_input_hash",
]
