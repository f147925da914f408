"""The entry point of jobs: `python .../hpc_flows/jobs/run.py RUN_DIR TOKEN [INDEX] [--retake]`.

Python compiles a script anew each time that it starts it, so this one is short, and hands over to
`inside`, which is compiled once. It is not started with `-m`, which costs 3 ms more.
"""

import sys

if __name__ == "__main__":
    # Python puts this folder first, where `run` or `script` would hide the user's own modules.
    sys.path[0] = __file__.rpartition("/hpc_flows/")[0] or "."
    from hpc_flows.jobs.inside import main

    main(sys.argv[1:])
