"""The files of a site: slurm.conf and its fellows. Invented hardware, loopback only.

Each setting's cause is beside it, where Slurm's own manual does not tell it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from pathlib import Path  # noqa: TC003 - a field of a NamedTuple is looked up when it is made
from typing import NamedTuple

#: Offsets from the port base.
_PORTS = {"mariadb": 6, "slurmctld": 17, "slurmdbd": 19}
_FIRST_NODE = 31
#: Distance of the port bases of sites that stand beside each other.
_PORTS_OF_A_SITE = 40

#: `sacctmgr` is slow to call (each call to 22.05's slurmdbd costs 80 ms), so all goes in at once.
ACCOUNTS = """\
add cluster {cluster}
add qos short set Priority=100 MaxWall=01:00:00
add qos tiny set MaxSubmitJobsPerUser=2 MaxJobsPerUser=1
add account mylab,other Description=lab Organization=university
add account spent Description=nohoursleft Organization=university GrpTRESMins=cpu=1
add user {user} Account=mylab,spent DefaultAccount=mylab QOS=normal,short,tiny
add user {other} Account=other DefaultAccount=other QOS=normal,short,tiny
add user root Account=root AdminLevel=Administrator
quit
"""


class Variant(NamedTuple):
    """How a site differs from the usual one.

    Attributes:
        settings: lines of slurm.conf, which stand for those of the same name.
        cgroup: the whole of cgroup.conf.
    """

    settings: dict[str, str]
    cgroup: str = "# no cgroups: they are not everywhere\n"


#: Sites that tests open beside the usual one, whose munge and database they share.
VARIANTS = {
    # Ids run over within a test: an ended job is forgotten within half a minute.
    "few-ids": Variant({"FirstJobId": "11", "MaxJobId": "24", "MinJobAge": "2"}),
    # The kernel kills for memory.
    "cgroup": Variant(
        {"ProctrackType": "proctrack/cgroup", "TaskPlugin": "task/cgroup"},
        "CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\n"
        "ConstrainCores=no\nConstrainDevices=no\nAllowedRAMSpace=100\n",
    ),
    # slurmd looks how much each job uses, and kills for it.
    "memory-watch": Variant(
        {"JobAcctGatherParams": "OverMemoryKill", "JobAcctGatherFrequency": "task=1"}
    ),
}
_USUAL = Variant({})


class Layout(NamedTuple):
    """Where a site stands.

    Attributes:
        folder: the site's folder; everything that it writes is below.
        port_base: its ports are a few above this number.
        user: the plain user who submits jobs.
        other: another one, whose jobs are not ours.
        beside: folder and port base of the site whose munge and database it shares, if any.
        variant: one of `VARIANTS`, or an empty text.
    """

    folder: Path
    port_base: int = 17200
    user: str = "alice"
    other: str = "bob"
    beside: tuple[Path, int] | None = None
    variant: str = ""

    def opened(self, variant: str) -> Layout:
        """Return the layout of a site beside this one."""
        number = 1 + list(VARIANTS).index(variant)
        return self._replace(
            folder=self.folder / "beside" / variant,
            port_base=self.port_base + _PORTS_OF_A_SITE * number,
            beside=(self.folder, self.port_base),
            variant=variant,
        )

    @property
    def cluster(self) -> str:
        """What Slurm calls it."""
        return f"test{self.variant.replace('-', '') or 'cluster'}"

    @property
    def conf(self) -> Path:
        """Where slurm.conf is."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def socket(self) -> Path:
        """Where munge listens."""
        folder = self.beside[0] if self.beside else self.folder
        return folder / "run" / "munge.socket"

    @property
    def database_socket(self) -> Path:
        """Where MariaDB listens."""
        return self.folder / "mysql" / "s.sock"

    def port(self, name: str) -> int:
        """Return the port of a daemon or node."""
        if name in _PORTS:
            shared = self.beside and name != "slurmctld"
            return (self.beside[1] if self.beside and shared else self.port_base) + _PORTS[name]
        return self.port_base + _FIRST_NODE - 1 + int(name.removeprefix("c"))


NODES = ("c1", "c2", "c3", "c4")

_KINDS = {
    "c1": "CPUs=40 Sockets=2 CoresPerSocket=20 ThreadsPerCore=1 RealMemory=384000 "
    "Feature=afton,skylake Weight=10",
    "c2": "CPUs=40 Sockets=2 CoresPerSocket=20 ThreadsPerCore=1 RealMemory=384000 "
    "Feature=afton,skylake Weight=10",
    "c3": "CPUs=96 Sockets=2 CoresPerSocket=48 ThreadsPerCore=1 RealMemory=1000000 "
    "Feature=afton,genoa,largemem Weight=50",
    "c4": "CPUs=64 Sockets=2 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=512000 "
    "Gres=gpu:a100:4 Feature=afton,a100_80gb Weight=100",
}

_PARTITIONS = """\
PartitionName=standard Nodes=c1,c2 Default=YES MaxNodes=1 DefaultTime=05:00:00 MaxTime=7-00:00:00 DefMemPerCPU=9000 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=parallel Nodes=c[1-3] MinNodes=2 DefaultTime=05:00:00 MaxTime=3-00:00:00 DefMemPerCPU=9000 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=largemem Nodes=c3 MaxNodes=1 DefaultTime=05:00:00 MaxTime=4-00:00:00 DefMemPerCPU=10000 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=interactive Nodes=c1,c2 MaxNodes=2 DefaultTime=01:00:00 MaxTime=12:00:00 DefMemPerCPU=6000 PriorityTier=20 PreemptMode=OFF State=UP
PartitionName=preempt Nodes=c1,c2 MaxNodes=1 DefaultTime=01:00:00 MaxTime=1-00:00:00 DefMemPerCPU=1000 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=gpu Nodes=c4 MaxNodes=4 DefaultTime=05:00:00 MaxTime=3-00:00:00 DefMemPerCPU=8000 PriorityTier=10 PreemptMode=OFF State=UP
"""  # noqa: E501 - slurm.conf has one line for each partition

#: Quick to schedule: by default a batch job waits three seconds, and the tests for it.
_SCHEDULING = (
    "batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_resolution=1,"
    "bf_continue,default_queue_depth=10000,partition_job_depth=10000,bf_max_job_test=10000,"
    "preempt_youngest_first,nohold_on_prolog_fail"
)


def write_all(layout: Layout) -> None:
    """Write every file of a site, with the folders, keys and owners that the daemons insist on."""
    _make_folders(layout)
    etc = layout.folder / "etc"
    variant = VARIANTS.get(layout.variant, _USUAL)
    layout.conf.write_text(_changed(_slurm_conf(layout), variant.settings))
    # Links to /dev/null will do for GPUs: Slurm wants character devices.
    for number in range(4):
        (layout.folder / "dev" / f"nvidia{number}").symlink_to("/dev/null")
    devices = f"{layout.folder}/dev/nvidia[0-3]"
    gres = f"AutoDetect=off\nNodeName=c4 Name=gpu Type=a100 File={devices}\n"
    (etc / "gres.conf").write_text(gres)
    (etc / "cgroup.conf").write_text(variant.cgroup)
    if layout.beside:
        return
    _write_secret(etc / "munge.key", secrets.token_bytes(1024), "root")
    password = secrets.token_urlsafe(18)
    _write_secret(etc / "db.password", password.encode(), "root")
    _write_secret(etc / "slurmdbd.conf", _slurmdbd_conf(layout, password).encode(), "slurm")


def _make_folders(layout: Layout) -> None:
    layout.folder.mkdir(parents=True, exist_ok=True)
    for name in ("run", "log", "etc", "dev", "state", "spool", "tmpfs"):
        folder = layout.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    layout.folder.chmod(0o755)
    for name in ("state", "log"):
        shutil.chown(layout.folder / name, "slurm")


def _write_secret(path: Path, content: bytes, owner: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    shutil.chown(path, owner)


def _changed(conf: str, settings: dict[str, str]) -> str:
    lines = [line for line in conf.splitlines() if line.partition("=")[0] not in settings]
    return "\n".join([*(f"{name}={value}" for name, value in settings.items()), *lines, ""])


def _slurm_conf(layout: Layout) -> str:
    folder, host = layout.folder, socket.gethostname().partition(".")[0]
    return f"""\
ClusterName={layout.cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={layout.port("slurmctld")}
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={layout.socket}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.own
SlurmdPidFile={folder}/run/slurmd-%n.own
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
MpiDefault=none
PropagateResourceLimits=NONE
# Invented CPU counts are taken as they stand.
SlurmdParameters=config_overrides
# A node that comes back is used again.
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
MailProg=/bin/true
SchedulerType=sched/backfill
SchedulerParameters={_SCHEDULING}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# A dead node is DOWN after about SlurmdTimeout; the default is five minutes.
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
InactiveLimit=0
KillWait=2
# An ended job is forgotten after this, and up to 30 s more.
MinJobAge=30
OverTimeLimit=0
UnkillableStepTimeout=30
CompleteWait=0
MaxArraySize=1001
MaxJobCount=20000
# What no node can hold is refused instead of waiting for ever.
EnforcePartLimits=ALL
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={layout.port("slurmdbd")}
AccountingStorageEnforce=associations,limits,qos,safe
# With munge, the "password" is the path of its socket.
AccountingStoragePass={layout.socket}
AccountingStorageTRES=gres/gpu
PriorityType=priority/multifactor
PriorityWeightAge=1000
PriorityWeightPartition=1000
PriorityWeightQOS=1000
PriorityCalcPeriod=1
{_node_lines(layout, host)}{_PARTITIONS}"""


def _node_lines(layout: Layout, host: str) -> str:
    return "".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={layout.port(name)} "
        f"{_KINDS[name]} State=UNKNOWN\n"
        for name in NODES
    )


def _slurmdbd_conf(layout: Layout, password: str) -> str:
    folder = layout.folder
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.socket}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={layout.port("slurmdbd")}
SlurmUser=slurm
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.own
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.port("mariadb")}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
CommitDelay=0
"""
