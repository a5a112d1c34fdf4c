# Two commands are enough: `make run` for the map, `make test` for the tests.
# Both install into `.venv` first. They need Python 3.11 or newer and make.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: install run test test-all bench lint format lock headline clean
.DEFAULT_GOAL := install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("plateaumap needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; use make PYTHON=/path/to/python")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,lint]"
	@touch $@

run: install
	$(PY) sweeps/plateau_atlas.py
	$(PY) -m plateaumap report results/plateau_atlas

# Two processes: most of the time is spent on compilation, which uses one core.
test: install
	$(PY) -m pytest -n 2

test-all: install
	$(PY) -m pytest -n 2 -m ""

bench: install
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(PY) -m benchmarks.engine

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: install
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile pyproject.toml --universal --python-version 3.11 \
	  --extra test --extra lint --extra report --extra dask --extra bench \
	  --no-emit-index-url --no-header --no-annotate --quiet -o constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
