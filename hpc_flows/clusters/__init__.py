"""Machine descriptions: what `profiles/*.toml` say of a cluster, and where a request fits on it.

`Cluster.load("afton").place(Resources(cpus=8))` is the whole interface; `partition` says what one
partition holds, `placement` chooses between them, `schema` and `files` read the TOML.
"""

from hpc_flows.clusters.cluster import Cluster
from hpc_flows.clusters.partition import Partition
from hpc_flows.clusters.parts import Fact, Grace, Limits, Login, Policies, Poll, Storage
from hpc_flows.clusters.placement import Placement
from hpc_flows.clusters.provenance import lint

__all__ = [
    "Cluster",
    "Fact",
    "Grace",
    "Limits",
    "Login",
    "Partition",
    "Placement",
    "Policies",
    "Poll",
    "Storage",
    "lint",
]
