"""A real Slurm on one machine, for tests: how it is made, run, controlled and taken down.

`make test` runs `python -m slurm_site test` (with tests/ as PYTHONPATH). Only the standard library
is used here, because it runs as root before anything is installed. docs/how-to/
test-against-slurm.md tells how to use it by hand.
"""
