"""Run `python -c pass` on Slurm by hand.

Usage: python slurm_by_hand.py FOLDER array|jobs COUNT

Submits with sbatch and looks with squeue twice a second until nothing is left.
Prints seconds: `submitted` until all are handed over, `wall` until the last has ended.
"""

import json
import os
import subprocess
import sys
import time

folder, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
name = f"by-hand-{os.getpid()}"
os.makedirs(folder, exist_ok=True)
submit = [
    *("sbatch", "--parsable", f"--job-name={name}", "--cpus-per-task=1", "--mem=100M"),
    *("--time=10", f"--wrap={sys.executable} -c pass"),
    *([f"--partition={sys.argv[4]}"] if len(sys.argv) > 4 else []),
]


def left() -> bool:
    """Tell whether any of the jobs is still in the queue."""
    command = ["squeue", "--noheader", f"--name={name}", "--format=%i"]
    return bool(subprocess.run(command, capture_output=True, check=True).stdout.strip())


begin = time.perf_counter()
if how == "array":
    array = [f"--array=0-{count - 1}", f"--output={folder}/%A_%a.out"]
    subprocess.run([*submit, *array], check=True, stdout=subprocess.DEVNULL)
else:
    for _ in range(count):
        subprocess.run(
            [*submit, f"--output={folder}/%j.out"], check=True, stdout=subprocess.DEVNULL
        )
submitted = time.perf_counter() - begin
while left():
    time.sleep(0.5)
print(json.dumps({"submitted": submitted, "wall": time.perf_counter() - begin}))
