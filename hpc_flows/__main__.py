"""Let `python -m hpc_flows` do what `hpc-flows` does."""

from __future__ import annotations

from hpc_flows.cli.main import main

if __name__ == "__main__":
    main()
