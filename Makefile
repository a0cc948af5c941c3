# Two commands do everything on a fresh machine: `make repro` and `make test`. Both need Python 3.11+, make and git only.
PYTHON ?= python3
VENV := .venv
# DVC's stages call `python`: the one that everything is installed for.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Two processes of one thread each; a file's tests share what they render and train, so they stay in one process.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile

.PHONY: repro test test-fast bench install clean

repro: install
	dvc repro

test: install
	ruff check .
	ruff format --check .
	mypy
	$(PYTEST)

# Lint, types, and the tests that are not marked slow: under two minutes.
test-fast: install
	ruff check .
	ruff format --check .
	mypy
	$(PYTEST) -m "not slow"

# After `make repro`, and with nothing else running: the ratios in docs/benchmarks.md.
bench: install
	python -m bench
	python -m bench --table

# An environment names the folder that it was made in: one that came with a moved or copied checkout is made anew.
ifneq ($(shell cat $(VENV)/installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/installed
CLEAR := --clear
endif

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(VENV)/bin/python -m pipeline.plots_page
	echo '$(CURDIR)' > $@

# The results of the stages stay: DVC knows what can be made again.
clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
