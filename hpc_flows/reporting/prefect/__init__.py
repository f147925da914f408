"""A sink for a Prefect 3 server: runs show on a site's existing dashboard.

Plain HTTP with the standard library; nothing of Prefect is installed. `payloads` makes of our
facts what Prefect's API takes, as pure functions; `memory` knows a run as far as it was heard of;
`server` talks HTTP; `sink` puts them together (docs/how-to/prefect-server.md).
"""

from __future__ import annotations

from hpc_flows.reporting.prefect.sink import PrefectSink, open_prefect_sink

__all__ = ["PrefectSink", "open_prefect_sink"]
