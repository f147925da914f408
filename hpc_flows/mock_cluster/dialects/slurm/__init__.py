"""The commands of Slurm, as 22.05 and 24.11 speak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm.sacct import sacct
from hpc_flows.mock_cluster.dialects.slurm.sbatch import sbatch
from hpc_flows.mock_cluster.dialects.slurm.scancel import scancel
from hpc_flows.mock_cluster.dialects.slurm.scontrol import scontrol
from hpc_flows.mock_cluster.dialects.slurm.sinfo import sinfo
from hpc_flows.mock_cluster.dialects.slurm.squeue import squeue
from hpc_flows.mock_cluster.dialects.slurm.srun import salloc, srun

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.service import Service

#: Every command by name.
HANDLERS: dict[str, Callable[[Service, Call], None]] = {
    "sacct": sacct,
    "salloc": salloc,
    "sbatch": sbatch,
    "scancel": scancel,
    "scontrol": scontrol,
    "sinfo": sinfo,
    "squeue": squeue,
    "srun": srun,
}
