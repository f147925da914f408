"""The records that `scontrol show` prints: jobs, partitions, nodes, configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.environment import output_paths
from hpc_flows.mock_cluster.dialects.slurm.sacct_fields import show_exit
from hpc_flows.mock_cluster.hostlist import compress_hosts

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.dialects.slurm.fields import View
    from hpc_flows.mock_cluster.placement import Node
    from hpc_flows.mock_cluster.service import Service
    from hpc_flows.mock_cluster.sites import PartitionSpec

#: `scontrol show` without `-o` breaks a record into these lines.
_Lines = list[str]


def join(lines: _Lines, *, one_line: bool) -> str:
    """Return a record as one line, or as indented lines with an empty one behind."""
    if one_line:
        return " ".join(lines) + "\n"
    return "\n   ".join(lines) + "\n\n"


def job_lines(view: View) -> _Lines:
    """Return a job's record."""
    return [*_job_head(view), *_job_times(view), *_job_place(view), *_job_files(view)]


def _job_head(view: View) -> _Lines:
    job, request = view.job, view.job.request
    array = ""
    if job.array_id is not None:
        array = f" ArrayJobId={job.array_id} ArrayTaskId={job.element_text}"
        if request.throttle and job.is_common:
            array += f" ArrayTaskThrottle={request.throttle}"
    return [
        f"JobId={job.id}{array} JobName={request.name}",
        f"UserId={request.user}({request.uid}) GroupId={request.user}({request.gid}) MCS_label=N/A",
        (
            f"Priority={job.priority} Nice={request.nice} "
            f"Account={request.account or '(null)'} QOS={request.qos or '(null)'}"
        ),
        f"JobState={view.state} Reason={job.reason.replace(' ', '_')} Dependency={view.dependency}",
        (
            f"Requeue={int(request.requeue)} Restarts={job.restarts} "
            f"BatchFlag={int(request.batch)} Reboot=0 ExitCode={show_exit(job.status)}"
        ),
    ]


def _job_times(view: View) -> _Lines:
    job = view.job
    accrue = None if job.task is not None or view.job.held else job.eligible
    scheduler = "Main" if job.last_eval else "Main:*"
    limit = words.show_limit(job.time_limit)
    deadline = view.time(job.request.deadline, "N/A")
    looked = view.time(job.last_eval, "Unknown")
    return [
        f"RunTime={words.show_long(view.used)} TimeLimit={limit} TimeMin=N/A",
        f"SubmitTime={view.time(job.submit)} EligibleTime={view.time(job.eligible, 'Unknown')}",
        f"AccrueTime={view.time(accrue, 'Unknown')}",
        (
            f"StartTime={view.time(job.start or job.begin, 'Unknown')} "
            f"EndTime={view.time(view.end, 'Unknown')} Deadline={deadline}"
        ),
        (f"SuspendTime=None SecsPreSuspend=0 LastSchedEval={looked} Scheduler={scheduler}"),
    ]


def _job_place(view: View) -> _Lines:
    job, request = view.job, view.job.request
    batch = f" BatchHost={next(iter(job.nodes))}" if job.nodes else ""
    tasks_per_node = request.tasks_per_node or 0
    return [
        f"Partition={request.partition} AllocNode:Sid={request.submit_host}:{request.sid}",
        (
            f"ReqNodeList={compress_hosts(request.nodelist) or '(null)'} "
            f"ExcNodeList={compress_hosts(request.exclude) or '(null)'}"
        ),
        f"NodeList={view.nodes}" + (batch and f"\n   {batch.strip()}"),
        (
            f"NumNodes={view.node_count} NumCPUs={view.cpus} NumTasks={request.ntasks} "
            f"CPUs/Task={request.cpus_per_task} ReqB:S:C:T=0:0:*:*"
        ),
        f"TRES={view.tres}",
        f"Socks/Node=* NtasksPerN:B:S:C={tasks_per_node}:0:*:* CoreSpec=*",
        f"MinCPUsNode={request.cpus_per_task} {_memory_word(view)}={view.memory} MinTmpDiskNode=0",
        f"Features={request.features or '(null)'} DelayBoot=00:00:00",
        (
            f"OverSubscribe={'NO' if request.exclusive else 'OK'} Contiguous=0 "
            f"Licenses={request.licenses or '(null)'} Network=(null)"
        ),
    ]


def _memory_word(view: View) -> str:
    return "MinMemoryNode" if view.job.request.mem_per_node is not None else "MinMemoryCPU"


def _job_files(view: View) -> _Lines:
    job, request = view.job, view.job.request
    stdin, out, err = output_paths(job)
    lines = [f"Command={request.command or '(null)'}", f"WorkDir={request.workdir}"]
    if job.comment is not None:
        lines.append(f"Comment={job.comment} ")
    if request.batch:
        lines += [f"StdErr={err}", f"StdIn={stdin}", f"StdOut={out}"]
    lines.append("Power=")
    if view.gres != "N/A":
        lines.append(f"TresPerNode={view.gres}")
    return lines


def job_text(view: View, *, one_line: bool) -> str:
    """Return `scontrol show job` of one job."""
    lines = job_lines(view)
    if one_line:
        return " ".join(line.replace("\n  ", "") for line in lines) + " \n"
    return "\n   ".join(lines) + "\n   \n\n"


def partition_lines(service: Service, spec: PartitionSpec) -> _Lines:
    """Return a partition's record."""
    nodes = [service.site.nodes[name] for name in spec.nodes]
    cpus = sum(node.cpus for node in nodes)
    memory = words.show_memory(sum(node.memory for node in nodes))
    gpus = sum(node.gpu_count for node in nodes)
    tres = f"cpu={cpus},mem={memory},node={len(nodes)},billing={cpus}"
    default = words.show_limit(spec.default_time) if spec.default_time else "NONE"
    most_nodes = spec.max_nodes if spec.max_nodes is not None else "UNLIMITED"
    most_cpus = spec.max_cpus_per_node or "UNLIMITED"
    memory_default = (
        f"DefMemPerCPU={spec.def_mem_per_cpu}"
        if spec.def_mem_per_cpu is not None
        else "DefMemPerNode=UNLIMITED"
    )
    memory_most = (
        f"MaxMemPerCPU={spec.max_mem_per_cpu}"
        if spec.max_mem_per_cpu is not None
        else f"MaxMemPerNode={spec.max_mem_per_node or 'UNLIMITED'}"
    )
    return [
        f"PartitionName={spec.name}",
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL",
        f"AllocNodes=ALL Default={'YES' if spec.default else 'NO'} QoS=N/A",
        f"DefaultTime={default} DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO",
        (
            f"MaxNodes={most_nodes} MaxTime={words.show_limit(spec.max_time)} "
            f"MinNodes={spec.min_nodes} LLN=NO MaxCPUsPerNode={most_cpus}"
        ),
        f"Nodes={compress_hosts(spec.nodes)}",
        f"PriorityJobFactor=1 PriorityTier={spec.tier} RootOnly=NO ReqResv=NO OverSubscribe=NO",
        f"OverTimeLimit=NONE PreemptMode={'REQUEUE' if spec.preempt else 'OFF'}",
        f"State={spec.state} TotalCPUs={cpus} TotalNodes={len(nodes)} SelectTypeParameters=NONE",
        "JobDefaults=(null)",
        f"{memory_default} {memory_most}",
        f"TRES={tres}" + (f",gres/gpu={gpus}" if gpus else ""),
    ]


def node_lines(service: Service, node: Node) -> _Lines:
    """Return a node's record."""
    spec = node.spec
    sockets = 2 if spec.cpus % 2 == 0 else 1
    features = ",".join(spec.features) or "(null)"
    partitions = ",".join(p.name for p in service.site.partitions.values() if spec.name in p.nodes)
    return [
        f"NodeName={spec.name} Arch=x86_64 CoresPerSocket={spec.cpus // sockets} ",
        f"CPUAlloc={node.used_cpus} CPUEfctv={spec.cpus} CPUTot={spec.cpus} CPULoad=0.00",
        f"AvailableFeatures={features}",
        f"ActiveFeatures={features}",
        f"Gres={spec.gres or '(null)'}",
        f"NodeAddr=127.0.0.1 NodeHostName={spec.name} Version={service.site.version}",
        "OS=Linux 6.1.0-amd64 #1 SMP PREEMPT_DYNAMIC ",
        (
            f"RealMemory={spec.memory} AllocMem={spec.memory - node.free_memory} "
            f"FreeMem={node.free_memory} Sockets={sockets} Boards=1"
        ),
        (
            f"State={node.state} ThreadsPerCore=1 TmpDisk=0 Weight={spec.weight} Owner=N/A "
            "MCS_label=N/A"
        ),
        f"Partitions={partitions} ",
        "BootTime=None SlurmdStartTime=None",
        "LastBusyTime=None",
        f"CfgTRES={_node_tres(node, everything=True)}",
        f"AllocTRES={_node_tres(node, everything=False)}",
        "CapWatts=n/a",
        "CurrentWatts=0 AveWatts=0",
        "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s",
        *([f"Reason={node.reason} [{node.reason_user}]"] if node.reason else []),
    ]


def _node_tres(node: Node, *, everything: bool) -> str:
    cpus = node.spec.cpus if everything else node.used_cpus
    memory = node.spec.memory if everything else node.spec.memory - node.free_memory
    gpus = node.spec.gpu_count if everything else node.spec.gpu_count - len(node.free_gpus)
    if not cpus:
        return ""
    parts = [f"cpu={cpus}", f"mem={words.show_memory(memory)}"]
    parts += [f"billing={cpus}"] if everything else []
    parts += [f"gres/gpu={gpus}"] if gpus else []
    return ",".join(parts)


def config_text(service: Service) -> str:
    """Return `scontrol show config`: the settings that a site of the mock has."""
    site, timings = service.site, service.site.timings
    absent = not site.accounting or service.faults.active("accounting_absent")
    storage = "accounting_storage/none" if absent else "accounting_storage/slurmdbd"
    table = {
        "AccountingStorageType": storage,
        "AccountingStoreFlags": "job_comment" if site.store_comment else "(null)",
        "AuthType": "auth/munge",
        "ClusterName": site.name,
        "CompleteWait": "0 sec",
        "EnforcePartLimits": "ALL",
        "JobAcctGatherFrequency": f"task={max(round(timings.memory_grain), 1)}",
        "JobRequeue": str(int(site.requeue)),
        "KillWait": f"{round(timings.kill_wait)} sec",
        "MaxArraySize": str(site.max_array_size),
        "MaxJobCount": str(site.max_jobs),
        "MaxStepCount": "40000",
        "MessageTimeout": f"{round(timings.message_timeout)} sec",
        "MinJobAge": f"{round(timings.min_job_age)} sec",
        "OverTimeLimit": "0 min",
        "PreemptMode": "REQUEUE",
        "PreemptType": "preempt/partition_prio",
        "SchedulerType": "sched/backfill",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CORE_MEMORY",
        "SLURM_CONF": str(service.folder / "slurm.conf"),
        "SLURM_VERSION": site.version,
        "SlurmctldHost[0]": "login(127.0.0.1)",
        "SlurmdTimeout": f"{round(timings.slurmd_timeout)} sec",
        "StateSaveLocation": str(service.folder / "state"),
    }
    now = words.show_time(service.now(), {})
    body = "".join(f"{name:<23} = {value}\n" for name, value in table.items())
    return f"Configuration data as of {now}\n{body}\nSlurmctld(primary) at login is UP\n"
