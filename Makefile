# make venv   an environment in .venv, for work on hpc_flows
# make demo   a pretend cluster, and a flow on it
# make test   the whole suite; as root on Debian against a real Slurm that it installs and starts
#             (make test ARGS="-k array tests/unit" passes arguments to pytest)
# make lint   style and types
# make bench  hpc_flows beside Prefect and submitit, on the same Slurm (ARGS as for `test`)
# make page   the server's page, built with Node into hpc_flows/server/page/dist
# make docs   the pages of docs/reference that are written from the code
# make picture  docs/images/demo.svg, from a run of the demo
# make clean  all that the others made

.PHONY: venv setup demo test lint bench page docs picture clean
.DEFAULT_GOAL := venv

# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { command -v "$$python"; break; }; done)
ifeq ($(strip $(PYTHON)),)
$(error There is no Python 3.11 or newer on PATH. Install one, or name it: make PYTHON=/path/to/python3)
endif

PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet
SITE = PYTHONPATH=tests $(PYTHON) -B -m slurm_site

venv setup: .make/venv

# Debian has the parts of `venv` in a package of their own; root may install it.
.make/venv: pyproject.toml
	@mkdir -p .make
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		test "$$(id -u)" = 0 && apt-get -q -y update && apt-get -q -y install python3-venv; } || { \
		echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	@touch $@

demo: .make/venv
	.venv/bin/hpc-flows demo

test: .make/venv
	@$(SITE) test $(ARGS)

lint: .make/venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .make/venv
	@$(SITE) bench $(ARGS)

page: .make/venv
	.venv/bin/python hpc_flows/server/page/building.py

docs: .make/venv
	.venv/bin/python docs/reference/generate.py

picture: .make/venv
	.venv/bin/python docs/images/picture.py

clean:
	rm -rf .venv .make .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	rm -rf hpc_flows/server/page/dist hpc_flows/server/page/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
