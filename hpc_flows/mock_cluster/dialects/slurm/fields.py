"""What squeue can print of a job: every field once, for `-o` letters and `-O` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster import dependencies
from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.environment import output_paths
from hpc_flows.mock_cluster.hostlist import compress_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.cluster import Cluster
    from hpc_flows.mock_cluster.job import Job

CODES = {
    "PENDING": "PD",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "PREEMPTED": "PR",
    "BOOT_FAIL": "BF",
    "DEADLINE": "DL",
    "OUT_OF_MEMORY": "OOM",
    "COMPLETING": "CG",
    "CONFIGURING": "CF",
    "RESIZING": "RS",
    "RESV_DEL_HOLD": "RD",
    "REQUEUED": "RQ",
    "REQUEUE_FED": "RF",
    "REQUEUE_HOLD": "RH",
    "REVOKED": "RV",
    "SIGNALING": "SI",
    "SPECIAL_EXIT": "SE",
    "STAGE_OUT": "SO",
    "STOPPED": "ST",
}


class View:
    """A job as one caller sees it: with the cluster's words and the caller's clock."""

    def __init__(self, cluster: Cluster, job: Job, env: dict[str, str]) -> None:
        self.cluster = cluster
        self.job = job
        self.env = env

    @property
    def state(self) -> str:
        """The state in words; a job that is ending is COMPLETING."""
        return "COMPLETING" if self.job.completing else self.job.state

    @property
    def code(self) -> str:
        """The state's short code."""
        return CODES[self.state]

    @property
    def nodes(self) -> str:
        """The nodes that it holds or held."""
        return compress_hosts(self.job.nodes)

    @property
    def nodes_or_reason(self) -> str:
        """The nodes, or the reason in brackets while it waits or where it failed."""
        return f"({self.job.reason})" if self.job.state == "PENDING" else self.nodes

    @property
    def node_count(self) -> int:
        """How many nodes it holds, or asks for."""
        return len(self.job.nodes) or max(self.job.request.min_nodes, 1)

    @property
    def cpus(self) -> int:
        """How many CPUs it holds, or asks for."""
        return sum(held.cpus for held in self.job.nodes.values()) or self.job.request.cpus

    @property
    def used(self) -> float:
        """Seconds that it has run."""
        job = self.job
        if job.start is None or job.state == "PENDING":
            return 0.0
        return max(0.0, (job.end or self.cluster.clock.now()) - job.start)

    @property
    def end(self) -> float | None:
        """When it ended, or when its time limit ends it."""
        job = self.job
        if job.end is not None or job.start is None or job.limit_seconds is None:
            return job.end
        return job.start + job.limit_seconds * self.cluster.site.timings.minute / 60

    @property
    def memory(self) -> str:
        """The least memory asked for, per node or per CPU."""
        request = self.job.request
        if request.mem_per_node is not None:
            return words.show_memory(request.mem_per_node) if request.mem_per_node else "0"
        default = self.cluster.partition_of(self.job).def_mem_per_cpu
        return words.show_memory(request.mem_per_cpu or default or 0)

    @property
    def dependency(self) -> str:
        """What it still waits for, or (null)."""
        text = dependencies.describe(self.job, lambda number: number in self.cluster.arrays)
        return text or "(null)"

    @property
    def gres(self) -> str:
        """The generic resources asked for per node, as `gres:gpu:1`, or N/A."""
        request = self.job.request
        if request.gres_text:
            return request.gres_text
        wanted = request.gpus_per_node
        texts = [f"gres:gpu:{kind}:{n}" if kind else f"gres:gpu:{n}" for kind, n in wanted.items()]
        return ",".join(texts) or "N/A"

    def time(self, epoch: float | None, missing: str = "N/A") -> str:
        """Return a time in the caller's form."""
        return words.show_time(epoch, self.env, missing)

    @property
    def tres(self) -> str:
        """The trackable resources, such as `cpu=1,mem=9000M,node=1,billing=1,gres/gpu=1`."""
        job = self.job
        mib = sum(held.memory for held in job.nodes.values()) or self._asked_memory()
        gpus = sum(len(held.gpus) for held in job.nodes.values()) or self._asked_gpus()
        parts = [f"cpu={self.cpus}"]
        parts += [f"mem={words.show_memory(mib)}"] if mib else []
        parts += [f"node={self.node_count}", f"billing={self.cpus}"]
        parts += [f"gres/gpu={gpus}"] if gpus else []
        return ",".join(parts)

    def _asked_memory(self) -> int:
        request = self.job.request
        if request.mem_per_node is not None:
            return request.mem_per_node * self.node_count
        default = self.cluster.partition_of(self.job).def_mem_per_cpu
        return (request.mem_per_cpu or default or 0) * self.cpus

    def _asked_gpus(self) -> int:
        request = self.job.request
        total = sum(request.gpus_total.values())
        return total or sum(request.gpus_per_node.values()) * self.node_count


def _or(text: str | None, missing: str) -> str:
    return text or missing


def _element(view: View) -> str:
    return view.job.element_text or "N/A"


def _limit(view: View) -> str:
    return words.show_short_limit(view.job.time_limit)


def _left(view: View) -> str:
    limit = view.job.limit_seconds
    if limit is None:
        return "UNLIMITED"
    return words.show_short(max(0.0, limit - view.used))


#: What a field prints, by the name that `-O` gives it.
FIELDS: dict[str, tuple[str, Callable[[View], str]]] = {
    "account": ("ACCOUNT", lambda v: _or(v.job.request.account, "(null)")),
    "arrayjobid": ("ARRAY_JOB_ID", lambda v: str(v.job.array_id or v.job.id)),
    "arraytaskid": ("ARRAY_TASK_ID", _element),
    "batchflag": ("BATCH_FLAG", lambda v: str(int(v.job.request.batch))),
    "batchhost": ("EXEC_HOST", lambda v: next(iter(v.job.nodes), "n/a")),
    "command": ("COMMAND", lambda v: _or(v.job.request.command, "(null)")),
    "comment": ("COMMENT", lambda v: _or(v.job.comment, "(null)")),
    "dependency": ("DEPENDENCY", lambda v: v.dependency),
    "deadline": ("DEADLINE", lambda v: v.time(v.job.request.deadline)),
    "eligibletime": ("ELIGIBLE_TIME", lambda v: v.time(v.job.eligible)),
    "endtime": ("END_TIME", lambda v: v.time(v.end)),
    "exit_code": ("EXIT_CODE", lambda v: str(v.job.status)),
    "feature": ("FEATURES", lambda v: _or(v.job.request.features, "(null)")),
    "gres": ("TRES_PER_NODE", lambda v: v.gres),
    "tres-per-node": ("TRES_PER_NODE", lambda v: v.gres),
    "groupid": ("GROUP", lambda v: str(v.job.request.gid)),
    "groupname": ("GROUP", lambda v: v.job.request.user),
    "hetjobid": ("HET_JOB_ID", lambda _v: "N/A"),
    "hetjoboffset": ("HET_JOB_OFFSET", lambda _v: "N/A"),
    "jobarrayid": ("JOBID", lambda v: v.job.display_id),
    "jobid": ("JOBID", lambda v: str(v.job.id)),
    "licenses": ("LICENSES", lambda v: _or(v.job.request.licenses, "(null)")),
    "maxcpus": ("MAX_CPUS", lambda v: str(v.cpus)),
    "minmemory": ("MIN_MEMORY", lambda v: v.memory),
    "mincpus": ("MIN_CPUS", lambda v: str(v.job.request.cpus_per_task)),
    "name": ("NAME", lambda v: v.job.request.name),
    "nice": ("NICE", lambda v: str(v.job.request.nice)),
    "nodelist": ("NODELIST", lambda v: v.nodes),
    "numcpus": ("CPUS", lambda v: str(v.cpus)),
    "numnodes": ("NODES", lambda v: str(v.node_count)),
    "numtasks": ("TASKS", lambda v: str(v.job.request.ntasks)),
    "partition": ("PARTITION", lambda v: v.job.request.partition),
    "prioritylong": ("PRIORITY", lambda v: str(v.job.priority)),
    "priority": ("PRIORITY", lambda v: f"{v.job.priority / 4294967295:.14f}"),
    "qos": ("QOS", lambda v: _or(v.job.request.qos, "(null)")),
    "reason": ("REASON", lambda v: v.job.reason),
    "reasonlist": ("NODELIST(REASON)", lambda v: v.nodes_or_reason),
    "reqnodes": ("REQ_NODES", lambda v: compress_hosts(v.job.request.nodelist)),
    "requeue": ("REQUEUE", lambda v: str(int(v.job.request.requeue))),
    "restartcnt": ("RESTART_COUNT", lambda v: str(v.job.restarts)),
    "schednodes": ("SCHEDNODES", lambda _v: "(null)"),
    "starttime": ("START_TIME", lambda v: v.time(v.job.start or v.job.begin)),
    "state": ("STATE", lambda v: v.state),
    "statecompact": ("ST", lambda v: v.code),
    "stdin": ("STDIN", lambda v: output_paths(v.job)[0]),
    "stdout": ("STDOUT", lambda v: output_paths(v.job)[1]),
    "stderr": ("STDERR", lambda v: output_paths(v.job)[2]),
    "submittime": ("SUBMIT_TIME", lambda v: v.time(v.job.submit)),
    "timeleft": ("TIME_LEFT", _left),
    "timelimit": ("TIME_LIMIT", _limit),
    "timeused": ("TIME", lambda v: words.show_short(v.used)),
    "tres": ("TRES_ALLOC", lambda v: v.tres),
    "tres-alloc": ("TRES_ALLOC", lambda v: v.tres),
    "userid": ("USER", lambda v: str(v.job.request.uid)),
    "username": ("USER", lambda v: v.job.request.user),
    "coresspec": ("CORE_SPEC", lambda _v: "N/A"),
    "contiguous": ("CONTIGUOUS", lambda _v: "0"),
    "excnodes": ("EXC_NODES", lambda v: compress_hosts(v.job.request.exclude)),
    "mintmpdisk": ("MIN_TMP_DISK", lambda _v: "0"),
    "oversubscribe": ("OVER_SUBSCRIBE", lambda v: "NO" if v.job.request.exclusive else "OK"),
    "reservation": ("RESERVATION", lambda _v: "(null)"),
    "sct": ("S:C:T", lambda _v: "*:*:*"),
    "wckey": ("WCKEY", lambda _v: "(null)"),
    "workdir": ("WORK_DIR", lambda v: v.job.request.workdir),
}

#: Letters of `-o` by the field that each prints.
LETTERS = {
    "a": "account",
    "A": "jobid",
    "B": "batchhost",
    "b": "tres-per-node",
    "c": "mincpus",
    "C": "numcpus",
    "D": "numnodes",
    "e": "endtime",
    "E": "dependency",
    "f": "feature",
    "F": "arrayjobid",
    "g": "groupname",
    "G": "groupid",
    "i": "jobarrayid",
    "j": "name",
    "k": "comment",
    "K": "arraytaskid",
    "l": "timelimit",
    "L": "timeleft",
    "m": "minmemory",
    "M": "timeused",
    "n": "reqnodes",
    "N": "nodelist",
    "o": "command",
    "p": "priority",
    "P": "partition",
    "q": "qos",
    "Q": "prioritylong",
    "r": "reason",
    "R": "reasonlist",
    "S": "starttime",
    "t": "statecompact",
    "T": "state",
    "u": "username",
    "U": "userid",
    "V": "submittime",
    "W": "licenses",
    "d": "mintmpdisk",
    "h": "oversubscribe",
    "O": "contiguous",
    "v": "reservation",
    "w": "wckey",
    "x": "excnodes",
    "X": "coresspec",
    "y": "nice",
    "z": "sct",
    "Y": "schednodes",
    "Z": "workdir",
}
