"""Make what services need and what takes long: `python -m services`, with tests/ on the path.

`make test` starts this early and beside the first tests, so that Prefect's environment is there
when a test asks for it. A test that asks before waits for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

    from services.prefect_server import prefect_python

    print(prefect_python())  # noqa: T201 - whoever runs it by hand wants to know
