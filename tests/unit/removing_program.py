"""Removes what is marked in a database, and stays where it is after some portions: to be killed."""

from __future__ import annotations

import sys
import time

from hpc_flows.server import removing
from hpc_flows.server.db import open_database


def main(url: str, portions: int) -> None:
    left = portions

    def rest(_seconds: float) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            sys.stdout.write("half\n")
            sys.stdout.flush()
            time.sleep(3600)
        return True

    removing.remove_marked(open_database(url), rest)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
