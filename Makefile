# Set-up is done by the first target that needs it: the environment .venv, from the pinned lock.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint wheel clean

demo: .venv/ready  ## a real search on rendered scenes, about four minutes on two cores
	$(BIN)/compress search --recipe demo --study demo

test: .venv/ready lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: .venv/ready
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
