"""Another person on the same machine, who tries a socket that is not hers; needs root."""

from __future__ import annotations

import subprocess
import sys

from slurm_site.processes import SiteError

#: Connects as nobody, asks as a browser would, and prints what came of it.
_TRY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
link = socket.socket(socket.AF_UNIX)
link.settimeout(20)
try:
    link.connect(sys.argv[1])
    link.sendall(b"GET /api/v1/health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    print("answered" if link.recv(100) else "dropped")
except PermissionError:
    print("refused")
except (ConnectionResetError, BrokenPipeError):
    print("dropped")
"""


def reach(path: str) -> str:
    """Try a Unix socket as the user nobody.

    Returns:
        `answered`, `dropped` (connected, and nothing came back) or `refused` (by permissions).

    Raises:
        SiteError: it could not be tried.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRY, path], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise SiteError(f"{path} could not be tried as nobody: {done.stderr.strip()}")
    return done.stdout.strip()
