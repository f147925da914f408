"""What the controller refuses at once, in the words and the order of Slurm.

A refusal carries the texts that stand before the last line (`notes`) and the last line's end; the
commands put their own beginnings before both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.hostlist import parse_elements
from hpc_flows.mock_cluster.placement import Node, candidates, memory_for, pick_gpus, place

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.job import Request
    from hpc_flows.mock_cluster.sites import PartitionSpec, Site

BAD_PARTITION = "Invalid partition name specified"
NO_PARTITION = "No partition specified or system default partition"
BAD_ACCOUNT = "Invalid account or account/partition combination specified"
BAD_QOS = "Invalid qos specification"
BAD_ARRAY = "Invalid job array specification"
BAD_TIME = "Requested time limit is invalid (missing or exceeds some limit)"
BAD_NODES = "Node count specification invalid"
BAD_NODE_NAME = "Invalid node name specified"
NOT_IN_PARTITION = "Requested nodes not in this partition"
BAD_FEATURE = "Invalid feature specification"
NO_SUCH_CONFIGURATION = "Requested node configuration is not available"
TOO_MANY_CPUS = "More processors requested than permitted"
CLOSED_PARTITION = "Required partition not available (inactive or drain)"
BAD_LICENSE = "Invalid license specification"
BAD_RESERVATION = "Requested reservation is invalid"
BAD_DEPENDENCY = "Job dependency problem"
BAD_NICE = "Invalid --nice value"
TOO_LONG = "Pathname of a file, directory or other parameter too long"
OVER_LIMIT = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
DENIED = "Access/permission denied"
MAX_SCRIPT_BYTES = 4 * 1024 * 1024


class RefusedError(Exception):
    """The controller says no; `notes` are lines before the text."""

    def __init__(self, text: str, *notes: str, uses_id: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.notes = notes
        self.uses_id = uses_id


def check(site: Site, request: Request, *, inside_job: bool) -> None:
    """Check a submission against the site, and fill in what the partition decides.

    Raises:
        RefusedError: it is refused for good.
    """
    if inside_job and request.batch and not site.submit_from_jobs:
        raise RefusedError(DENIED, "sbatch is not allowed from inside a job at this site")
    partition = _partition(site, request)
    _check_account(site, request)
    _check_words(site, request)
    _check_time(partition, request)
    _check_array(site, request)
    _check_nodes(site, partition, request)
    _check_rules(partition, request)
    _check_size(site, partition, request)


def _partition(site: Site, request: Request) -> PartitionSpec:
    if not request.partition:
        if site.default_partition is None:
            raise RefusedError(NO_PARTITION)
        request.partition = site.default_partition.name
    name = request.partition.split(",")[0]
    partition = site.partitions.get(name)
    if partition is None:
        raise RefusedError(BAD_PARTITION, f"invalid partition specified: {request.partition}")
    request.partition = name
    if partition.state in {"INACTIVE", "DRAIN"}:
        raise RefusedError(CLOSED_PARTITION)
    return partition


def _check_account(site: Site, request: Request) -> None:
    if not site.accounting:
        request.account = request.qos = None
        return
    request.account = request.account or site.default_account
    if request.account is None and site.account_required:
        raise RefusedError(BAD_ACCOUNT)
    if site.accounts and request.account not in site.accounts:
        raise RefusedError(BAD_ACCOUNT)
    request.qos = request.qos or "normal"
    if request.qos not in site.qos:
        raise RefusedError(BAD_QOS)


def _check_words(site: Site, request: Request) -> None:
    if request.nice < 0:
        raise RefusedError(BAD_NICE)
    if request.reservation:
        raise RefusedError(BAD_RESERVATION)
    for wanted in filter(None, request.licenses.split(",")):
        if wanted.split(":")[0] not in site.licenses:
            raise RefusedError(BAD_LICENSE)
    if len(request.script) > MAX_SCRIPT_BYTES:
        raise RefusedError(TOO_LONG)


def _check_time(partition: PartitionSpec, request: Request) -> None:
    if request.time_limit is None:
        request.time_limit = partition.default_time or partition.max_time
    if partition.max_time is None or request.time_limit is None:
        return
    if request.time_limit > partition.max_time:
        raise RefusedError(BAD_TIME)


def _check_array(site: Site, request: Request) -> None:
    if request.array is None:
        return
    text, percent, throttle = request.array.partition("%")
    try:
        elements = parse_elements(text)
        request.throttle = int(throttle) if percent else 0
    except ValueError:
        raise RefusedError(BAD_ARRAY) from None
    if not elements or elements[-1] >= site.max_array_size:
        raise RefusedError(BAD_ARRAY)


def _check_nodes(site: Site, partition: PartitionSpec, request: Request) -> None:
    if any(name not in site.nodes for name in (*request.nodelist, *request.exclude)):
        raise RefusedError(BAD_NODE_NAME)
    if any(name not in partition.nodes for name in request.nodelist):
        raise RefusedError(NOT_IN_PARTITION)
    known = {name for spec in site.nodes.values() for name in spec.features}
    for name in _feature_names(request.features):
        if name not in known:
            raise RefusedError(BAD_FEATURE, uses_id=True)
    most = min(x for x in (partition.max_nodes, len(partition.nodes)) if x is not None)
    least = max(request.min_nodes, len(request.nodelist))
    asked = request.asked_nodes and request.max_nodes is not None
    if least > most or (asked and (request.max_nodes or 0) < partition.min_nodes):
        raise RefusedError(BAD_NODES)
    request.min_nodes = max(least, partition.min_nodes)


def _check_rules(partition: PartitionSpec, request: Request) -> None:
    """Keep a profile's limits on one job, which sites have in their QOS."""
    gpus = sum(request.gpus_total.values())
    gpus = gpus or sum(request.gpus_per_node.values()) * request.min_nodes
    if partition.gpus_required and not gpus:
        raise RefusedError(OVER_LIMIT, "QOSMinGRES")
    if partition.max_gpus is not None and gpus > partition.max_gpus:
        raise RefusedError(OVER_LIMIT, "QOSMaxGRESPerJob")
    if partition.max_cpus is not None and request.cpus > partition.max_cpus:
        raise RefusedError(OVER_LIMIT, "QOSMaxCpuPerJobLimit")
    if partition.min_cpus is not None and request.cpus < partition.min_cpus:
        raise RefusedError(OVER_LIMIT, "QOSMinCpuNotSatisfied")


def _feature_names(text: str) -> list[str]:
    for sign in "&|,":
        text = text.replace(sign, " ")
    return text.split()


def _check_size(site: Site, partition: PartitionSpec, request: Request) -> None:
    """Refuse what no set of the partition's nodes could ever hold, with the cause in words."""
    empty = {name: Node.empty(site.nodes[name]) for name in partition.nodes}
    _raise_cpus_for_memory(partition, request)
    if request.cpus > sum(node.spec.cpus for node in empty.values()):
        raise RefusedError(TOO_MANY_CPUS)
    if all(request.cpus_per_task > node.spec.cpus for node in empty.values()):
        raise RefusedError(NO_SUCH_CONFIGURATION, "CPU count per node can not be satisfied")
    if not any(_memory_fits(request, partition, node) for node in empty.values()):
        raise RefusedError(NO_SUCH_CONFIGURATION, "Memory specification can not be satisfied")
    wanted = request.gpus_per_node or request.gpus_total
    if wanted and all(pick_gpus(node, wanted) is None for node in empty.values()):
        raise RefusedError(NO_SUCH_CONFIGURATION, uses_id=True)
    usable = candidates(request, partition, empty)
    if place(request, partition, usable) is None:
        raise RefusedError(NO_SUCH_CONFIGURATION)


def _memory_fits(request: Request, partition: PartitionSpec, node: Node) -> bool:
    need = memory_for(request, partition, node.spec, request.cpus_per_task)
    most = partition.max_mem_per_node or node.spec.memory
    return need <= min(most, node.spec.memory)


def _raise_cpus_for_memory(partition: PartitionSpec, request: Request) -> None:
    """Give a task more CPUs where it asks for more memory per CPU than the partition allows."""
    most = partition.max_mem_per_cpu
    if not most:
        return
    if request.mem_per_cpu is not None and request.mem_per_cpu > most:
        memory = request.mem_per_cpu * request.cpus_per_task
        request.cpus_per_task = -(-memory // most)
        request.mem_per_cpu = most
    if request.mem_per_node:
        tasks = request.tasks_per_node or request.ntasks
        cpus = -(-request.mem_per_node // most)
        request.cpus_per_task = max(request.cpus_per_task, -(-cpus // tasks))
