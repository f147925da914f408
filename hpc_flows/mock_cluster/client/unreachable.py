"""What each command prints and returns when the controller is not there or does not answer.

Used by the commands themselves, and by the controller when a fault plays its absence.
"""

CONNECT_FAILURE = "Unable to contact slurm controller (connect failure)"
TIMED_OUT = "Socket timed out on send/recv operation"
NO_ANSWER = "Zero Bytes were transmitted or received"

#: scancel's exit statuses are the low byte of Slurm's error numbers.
_SCANCEL_STATUS = {CONNECT_FAILURE: 8, TIMED_OUT: 140, NO_ANSWER: 137}

_BEGINNINGS = {
    "sbatch": "sbatch: error: Batch job submission failed: ",
    "srun": "srun: error: Unable to allocate resources: ",
    "salloc": "salloc: error: Job submit/allocate failed: ",
    "squeue": "slurm_load_jobs error: ",
    "sinfo": "slurm_load_partitions: ",
}

_SHOW_BEGINNINGS = {
    "job": "slurm_load_jobs error: ",
    "jobs": "slurm_load_jobs error: ",
    "partition": "slurm_load_partitions error: ",
    "node": "slurm_load_node error: ",
    "config": "slurm_load_ctl_conf error: ",
}

DATABASE_DOWN = (
    "{0}: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
    "host:127.0.0.1:16819: Connection refused\n"
    "{0}: error: Sending PersistInit msg: Connection refused\n"
)
SACCT_DOWN = (
    DATABASE_DOWN.format("sacct")
    + "sacct: error: Problem talking to the database: Connection refused\n"
)

_EMPTY_22_05 = """{
  "meta": {
    "plugin": {
      "type": "openapi\\/v0.0.38",
      "name": "Slurm OpenAPI v0.0.38"
    },
    "Slurm": {
      "version": {
        "major": 22,
        "micro": 8,
        "minor": 5
      },
      "release": "22.05.8"
    }
  },
  "errors": [
    {
      "description": "Failed while looking for jobs",
      "error_number": -1,
      "error": "Unspecified error",
      "source": "slurm_load_jobs"
    }
  ],
  "jobs": [
  ]
}"""


def answer_without_controller(
    command: str, argv: list[str], why: str, version: str
) -> tuple[str, str, int]:
    """Return (stdout, stderr, exit status) of a command that gets no answer.

    Args:
        command: its name.
        argv: its arguments.
        why: CONNECT_FAILURE, TIMED_OUT or NO_ANSWER.
        version: the played version of Slurm.
    """
    if command == "sacct":
        return "", SACCT_DOWN, 1
    if command == "scancel":
        job = next((text for text in argv if text[:1].isdigit()), "0")
        text = f"scancel: error: Kill job error on job id {job}: {why}\n"
        return "", text, _SCANCEL_STATUS[why]
    if command == "scontrol":
        return _scontrol(argv, why)
    if command == "squeue" and "--json" in argv and version.startswith("22.05"):
        return _EMPTY_22_05, "", 0
    return "", f"{_BEGINNINGS[command]}{why}\n", 1


def _scontrol(argv: list[str], why: str) -> tuple[str, str, int]:
    words = [text for text in argv if not text.startswith("-")]
    if words[:1] == ["ping"]:
        return "Slurmctld(primary) at login is DOWN\n", "", 1
    if words[:1] == ["show"] and len(words) > 1:
        return "", f"{_SHOW_BEGINNINGS.get(words[1], 'slurm error: ')}{why}\n", 1
    what = words[1] if len(words) > 1 else "0"
    return "", f"{why} for job {what}\n", 1
