"""Limits of how much happens at once, and how often, over all processes and jobs of a user.

`hpc_flows.concurrency.sync` and `hpc_flows.concurrency.asyncio` hold `concurrency` and
`rate_limit`, `hpc_flows.concurrency.limits` the limits themselves.
"""
