"""A server's own process: `python -m hpc_flows.server.background FD`, with the plan on stdin."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from hpc_flows.server.launch import log_to_stderr, serve, told
from hpc_flows.server.plan import Plan

if TYPE_CHECKING:
    from hpc_flows.server.plan import Started


def main(argv: list[str]) -> int:
    """Serve until told to end; say into the descriptor that it is up, or why not."""
    word = int(argv[0])
    said = False
    log_to_stderr()

    def say(answer: dict[str, object]) -> None:
        nonlocal said
        if not said:
            said = True
            os.write(word, json.dumps(answer).encode() + b"\n")
            os.close(word)

    def ready(started: Started) -> None:
        say(asdict(started))

    try:
        fields = json.load(sys.stdin)
        fields["allow_hosts"] = tuple(fields["allow_hosts"])
        serve(Plan(**fields), ready)
    except Exception as error:
        if said:
            raise
        say({"error": told(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
