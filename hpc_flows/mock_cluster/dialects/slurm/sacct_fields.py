"""What sacct can print of a job's run and of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.hostlist import compress_hosts
from hpc_flows.mock_cluster.job import clean_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.accounting import Row, Step
    from hpc_flows.mock_cluster.sites import Site

ALL_FIELDS = tuple(
    """
Account AdminComment AllocCPUS AllocNodes AllocTRES AssocID AveCPU AveCPUFreq AveDiskRead
AveDiskWrite AvePages AveRSS AveVMSize BlockID Cluster Comment Constraints ConsumedEnergy
ConsumedEnergyRaw Container CPUTime CPUTimeRAW DBIndex DerivedExitCode Elapsed ElapsedRaw Eligible
End ExitCode Flags GID Group JobID JobIDRaw JobName Layout MaxDiskRead MaxDiskReadNode
MaxDiskReadTask MaxDiskWrite MaxDiskWriteNode MaxDiskWriteTask MaxPages MaxPagesNode MaxPagesTask
MaxRSS MaxRSSNode MaxRSSTask MaxVMSize MaxVMSizeNode MaxVMSizeTask McsLabel MinCPU MinCPUNode
MinCPUTask NCPUS NNodes NodeList NTasks Partition Priority QOS QOSRAW Reason ReqCPUFreq
ReqCPUFreqGov ReqCPUFreqMax ReqCPUFreqMin ReqCPUS ReqMem ReqNodes ReqTRES Reservation ReservationId
Reserved ResvCPU ResvCPURAW Start State Submit SubmitLine Suspended SystemComment SystemCPU
Timelimit TimelimitRaw TotalCPU TRESUsageInAve TRESUsageInMax TRESUsageInMaxNode TRESUsageInMaxTask
TRESUsageInMin TRESUsageInMinNode TRESUsageInMinTask TRESUsageInTot TRESUsageOutAve TRESUsageOutMax
TRESUsageOutMaxNode TRESUsageOutMaxTask TRESUsageOutMin TRESUsageOutMinNode TRESUsageOutMinTask
TRESUsageOutTot UID User UserCPU WCKey WCKeyID WorkDir
""".split()
)
DEFAULT_FIELDS = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of sacct: a run, or a step of it."""

    site: Site
    row: Row
    now: float
    env: dict[str, str]
    step: Step | None = None

    def time(self, epoch: float | None, missing: str = "Unknown") -> str:
        """Return a time in the caller's form."""
        return words.show_time(epoch, self.env, missing)

    @property
    def start(self) -> float | None:
        """When it started."""
        return self.step.start if self.step else self.row.start

    @property
    def end(self) -> float | None:
        """When it ended."""
        return self.step.end if self.step else self.row.end

    @property
    def elapsed(self) -> float:
        """Seconds that it ran until now."""
        if self.start is None:
            return 0.0
        return max(0.0, (self.end or self.now) - self.start)

    @property
    def state(self) -> str:
        """The state, with who cancelled it."""
        if self.step:
            return self.step.state
        if self.row.state == "CANCELLED" and self.row.cancelled_by is not None:
            return f"CANCELLED by {self.row.cancelled_by}"
        return self.row.state

    @property
    def is_batch(self) -> bool:
        """Whether it is the batch script's step, which runs on the first node only."""
        return self.step is not None and self.step.name == "batch"

    @property
    def names(self) -> list[str]:
        """The nodes."""
        return self.row.nodes[:1] if self.is_batch else self.row.nodes

    @property
    def nodes(self) -> str:
        """The nodes as Slurm prints them, or None assigned."""
        return compress_hosts(self.names) or "None assigned"

    @property
    def cpus(self) -> int:
        """How many CPUs it holds or held."""
        if not self.row.nodes:
            return 0
        return self.row.head_cpus if self.is_batch else self.row.cpus

    @property
    def allocated(self) -> str:
        """The allocated trackable resources; a step's are without billing."""
        if not self.step:
            return self.requested if self.row.nodes else ""
        memory = self.row.head_memory if self.is_batch else self.row.memory
        parts = [f"cpu={self.cpus}"]
        parts += [f"gres/gpu={self.row.gpus}"] if self.row.gpus else []
        return ",".join([*parts, f"mem={words.show_memory(memory)}", f"node={len(self.names)}"])

    @property
    def max_rss(self) -> int:
        """Most KiB seen in use; a job's own line has none."""
        return self.step.max_rss if self.step else 0

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds used."""
        return self.step.cpu_seconds if self.step else self.row.cpu_seconds

    @property
    def requested(self) -> str:
        """The requested trackable resources."""
        row = self.row
        parts = [f"billing={row.cpus}", f"cpu={row.cpus}"]
        parts += [f"gres/gpu={row.gpus}"] if row.gpus else []
        parts += [f"mem={words.show_memory(row.memory)}"] if row.memory else []
        return ",".join([*parts, f"node={len(row.nodes) or row.request.min_nodes}"])


def lines_of(site: Site, row: Row, now: float, env: dict[str, str]) -> list[Line]:
    """Return a run's line and those of its steps."""
    line = Line(site, row, now, env)
    return [line, *(Line(site, row, now, env, step) for step in row.steps)]


def show_exit(status: int) -> str:
    """Return a raw wait status as `7:0`, `0:11`, and the memory limit's as `0:125`."""
    code, number = clean_status(status)
    return f"{code}:{number}"


def _job_id(line: Line) -> str:
    shown = line.row.display_id
    return f"{shown}.{line.step.name}" if line.step else shown


def _raw_id(line: Line) -> str:
    return f"{line.row.job}.{line.step.name}" if line.step else str(line.row.job)


def _name(line: Line) -> str:
    return line.step.label if line.step else line.row.request.name or "allocation"


def _whole(value: Callable[[Line], str]) -> Callable[[Line], str]:
    """Return a field that only a job's own line has."""
    return lambda line: "" if line.step else value(line)


def _of_step(value: Callable[[Line], str]) -> Callable[[Line], str]:
    """Return a field that only a step's line has."""
    return lambda line: value(line) if line.step else ""


def _exit_code(line: Line) -> str:
    return show_exit(line.step.status if line.step else line.row.status)


def _cpu_time(seconds: float) -> str:
    whole, part = divmod(seconds, 60)
    if whole < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{int(whole):02}:{part:06.3f}"
    return words.show_long(seconds)


def _memory(line: Line) -> str:
    request = line.row.request
    if request.mem_per_node is not None:
        return words.show_memory(request.mem_per_node)
    return words.show_memory(line.row.memory) if line.row.memory else ""


def _nodes_asked(line: Line) -> str:
    return str(len(line.names) or line.row.request.min_nodes)


def _wait(line: Line) -> str:
    row = line.row
    return words.show_long(max(0.0, (row.start or line.now) - (row.eligible or row.submit)))


_SET: dict[str, Callable[[Line], str]] = {
    "Account": lambda v: v.row.request.account or "",
    "AllocCPUS": lambda v: str(v.cpus),
    "AllocNodes": lambda v: str(len(v.names)),
    "AllocTRES": lambda v: v.allocated,
    "AveRSS": _of_step(lambda v: f"{v.max_rss}K" if v.max_rss else ""),
    "Cluster": lambda v: v.site.name,
    "Comment": _whole(lambda v: (v.row.comment or "") if v.site.store_comment else ""),
    "Constraints": _whole(lambda v: v.row.request.features),
    "CPUTime": lambda v: words.show_long(v.elapsed * v.row.cpus),
    "CPUTimeRAW": lambda v: str(int(v.elapsed) * v.row.cpus),
    "DBIndex": lambda v: str(v.row.job),
    "DerivedExitCode": _whole(lambda v: show_exit(v.row.derived)),
    "Elapsed": lambda v: words.show_long(v.elapsed),
    "ElapsedRaw": lambda v: str(int(v.elapsed)),
    "Eligible": _whole(lambda v: v.time(v.row.eligible)),
    "End": lambda v: v.time(v.end),
    "ExitCode": _exit_code,
    "Flags": _whole(lambda v: "SchedBackfill,StartRecieved" if v.row.start else ""),
    "GID": _whole(lambda v: str(v.row.request.gid)),
    "Group": _whole(lambda v: v.row.request.user),
    "JobID": _job_id,
    "JobIDRaw": _raw_id,
    "JobName": _name,
    "Layout": _of_step(lambda _v: "Unknown"),
    "MaxRSS": _of_step(lambda v: f"{v.max_rss}K" if v.max_rss else ""),
    "MaxRSSNode": _of_step(lambda v: v.nodes if v.max_rss else ""),
    "MaxRSSTask": _of_step(lambda v: "0" if v.max_rss else ""),
    "NCPUS": lambda v: str(v.cpus),
    "NNodes": lambda v: str(len(v.names) or v.row.request.min_nodes),
    "NodeList": lambda v: v.nodes,
    "NTasks": _of_step(lambda v: str(v.step.ntasks if v.step else 1)),
    "Partition": _whole(lambda v: v.row.request.partition),
    "Priority": _whole(lambda v: str(v.row.priority)),
    "QOS": _whole(lambda v: v.row.request.qos or ""),
    "QOSRAW": _whole(lambda v: "1" if v.row.request.qos else ""),
    "Reason": _whole(lambda v: v.row.reason),
    "ReqCPUFreq": _whole(lambda _v: "Unknown"),
    "ReqCPUFreqGov": _whole(lambda _v: "Unknown"),
    "ReqCPUFreqMax": _whole(lambda _v: "Unknown"),
    "ReqCPUFreqMin": _whole(lambda _v: "Unknown"),
    "ReqCPUS": lambda v: str(v.cpus if v.step else v.row.request.cpus),
    "ReqMem": _whole(_memory),
    "ReqNodes": _nodes_asked,
    "ReqTRES": _whole(lambda v: v.requested),
    "Reserved": _whole(_wait),
    "Start": lambda v: v.time(v.start, "None" if v.end is not None else "Unknown"),
    "State": lambda v: v.state,
    "Submit": lambda v: v.time(v.start if v.step else v.row.submit),
    "SubmitLine": _whole(lambda v: v.row.request.submit_line),
    "Suspended": lambda _v: "00:00:00",
    "SystemCPU": lambda _v: "00:00:00",
    "Timelimit": _whole(lambda v: words.show_limit(v.row.time_limit)),
    "TimelimitRaw": _whole(lambda v: str(v.row.time_limit or "")),
    "TotalCPU": lambda v: _cpu_time(v.cpu_seconds),
    "UID": _whole(lambda v: str(v.row.request.uid)),
    "User": _whole(lambda v: v.row.request.user),
    "UserCPU": lambda v: _cpu_time(v.cpu_seconds),
    "WCKeyID": _whole(lambda _v: "0"),
    "WorkDir": _whole(lambda v: v.row.request.workdir),
}

#: All fields; those of hardware that no mock has are empty, as they are where nothing is measured.
FIELDS: dict[str, Callable[[Line], str]] = {
    name: _SET.get(name, lambda _line: "") for name in ALL_FIELDS
}
