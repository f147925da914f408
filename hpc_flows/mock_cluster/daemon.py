"""The controller's process: `python -m hpc_flows.mock_cluster.daemon FOLDER READY_FD`."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

from hpc_flows.mock_cluster.launcher import MockPaths, remove_socket
from hpc_flows.mock_cluster.service import make_service
from hpc_flows.mock_cluster.sites import SiteError


def main(argv: list[str]) -> int:
    """Run a controller until it is stopped; say "ready" or why not into the descriptor."""
    where, word = MockPaths(Path(argv[0])), int(argv[1])
    lock = (where.folder / "controller.lock").open("w")
    try:
        # A POSIX lock is not inherited by forks: it is free once this process is gone.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        service = make_service(where.folder, json.loads(where.settings.read_text()))
    except (OSError, SiteError) as error:
        os.write(word, str(error).encode())
        return 1

    def ready() -> None:
        os.write(word, f"ready\n{service.warning}".encode())
        os.close(word)

    path = where.socket
    try:
        service.serve(str(path), ready)
    finally:
        remove_socket(path, where)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
