"""Run no-op functions on Slurm with submitit.

Usage: python slurm_submitit.py FOLDER array|jobs COUNT

Prints seconds: `submitted` until all are handed over, `wall` until all results are there.
"""

import json
import sys
import time

import submitit

folder, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


def noop(number: int) -> int:
    """Return the number."""
    return number


executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
executor.update_parameters(
    timeout_min=10,
    cpus_per_task=1,
    mem_gb=0.1,
    slurm_array_parallelism=count,
    **({"slurm_partition": sys.argv[4]} if len(sys.argv) > 4 else {}),
)
begin = time.perf_counter()
if how == "array":
    jobs = executor.map_array(noop, range(count))
else:
    jobs = [executor.submit(noop, number) for number in range(count)]
submitted = time.perf_counter() - begin
total = sum(job.result() for job in jobs)
wall = time.perf_counter() - begin
if total != sum(range(count)):
    sys.exit("the results are wrong")
print(json.dumps({"submitted": submitted, "wall": wall}))
