"""The entry point of jobs: `python .../hpc_flows/jobs/run.py RUN_DIR TOKEN [INDEX] [--retake]`.

Python compiles a script anew each time that it starts it, so this one is short, and hands over to
`inside`, which is compiled once. It is not started with `-m`, which costs 3 ms more.
"""

import sys

# Old enough to be read by the Python 3.6 that some nodes call python3, which cannot read the rest.
if sys.version_info < (3, 11):  # noqa: UP036 - the node's Python is not the one we were made for
    sys.stderr.write(
        "hpc_flows: this job was started with Python "
        + sys.version.split()[0]
        + " ("
        + str(sys.executable)
        + "), and needs 3.11 or newer. Set `python` in the cluster's profile to such a one.\n"
    )
    sys.exit(4)

if __name__ == "__main__":
    import gc

    # Nothing that is imported from here on is garbage; looking for some costs a millisecond.
    gc.disable()
    # Python puts this folder first, where `run` or `script` would hide the user's own modules.
    sys.path[0] = __file__.rpartition("/hpc_flows/")[0] or "."
    from hpc_flows.jobs.inside import main

    main(sys.argv[1:])
