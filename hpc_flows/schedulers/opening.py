"""From a cluster's profile to its scheduler: the one place that knows the adapters by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hpc_flows.exceptions import ClusterError, close_match
from hpc_flows.schedulers.base import Scheduler
from hpc_flows.schedulers.slurm import Slurm
from hpc_flows.transports.local import LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpc_flows.clusters import Cluster
    from hpc_flows.transports.base import Transport


def _slurm(cluster: Cluster, transport: Transport) -> Scheduler:
    return Slurm(transport, path=cluster.path, memory=cluster.memory, export=cluster.export)


_SCHEDULERS: dict[str, Callable[[Cluster, Transport], Scheduler]] = {"slurm": _slurm}
_TRANSPORTS: dict[str, Callable[[], Transport]] = {"local": LocalTransport}


def open_scheduler(cluster: Cluster) -> Scheduler:
    """Return the scheduler of a cluster, reached as its profile says.

    `scheduler` in a profile is `slurm`, or someone's own class as `package.module:Class`, which is
    called with the transport and must be a `Scheduler`.

    Raises:
        ClusterError: there is no such scheduler or transport.
    """
    transport = open_transport(cluster)
    if cluster.scheduler in _SCHEDULERS:
        return _SCHEDULERS[cluster.scheduler](cluster, transport)
    if ":" in cluster.scheduler:
        return _own(cluster, transport)
    raise _unknown(cluster, "scheduler", cluster.scheduler, _SCHEDULERS)


def open_transport(cluster: Cluster) -> Transport:
    """Return the way to a cluster's login node that its profile names.

    Raises:
        ClusterError: there is no such transport.
    """
    if cluster.transport not in _TRANSPORTS:
        raise _unknown(cluster, "transport", cluster.transport, _TRANSPORTS)
    return _TRANSPORTS[cluster.transport]()


def _own(cluster: Cluster, transport: Transport) -> Scheduler:
    module, _, name = cluster.scheduler.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        msg = (
            f"Cluster {cluster.name!r}: its scheduler {cluster.scheduler!r} cannot be imported "
            f"({error}). Install it here, or mend `scheduler` in the profile."
        )
        raise ClusterError(msg) from error
    scheduler = kind(transport)
    if not isinstance(scheduler, Scheduler):
        msg = (
            f"Cluster {cluster.name!r}: {cluster.scheduler!r} is not a Scheduler. Derive it from "
            "hpc_flows.schedulers.base.Scheduler."
        )
        raise ClusterError(msg)
    return scheduler


def _unknown(cluster: Cluster, field: str, name: str, known: Mapping[str, object]) -> ClusterError:
    own = ", or your own as 'package.module:Class'" if field == "scheduler" else ""
    return ClusterError(
        f"Cluster {cluster.name!r}: there is no {field} {name!r}; it is one of "
        f"{', '.join(known)}{own}.{close_match(name, known)}"
    )
