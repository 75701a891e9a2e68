# Set-up is done by the first target that needs it: the environment .venv, from the pinned lock.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint browser wheel clean

demo: .venv/ready  ## a real search on rendered scenes, about four minutes on two cores
	$(BIN)/compress search --recipe demo --study demo

test: .venv/ready lint browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pages are tested in a browser; without one, and without the rights to install it, those tests
# are skipped and say so.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    { timeout 300 apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 || \
	      { timeout 120 apt-get update -qq >/dev/null 2>&1 && \
	        timeout 300 apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; }; }; } || \
	  echo "no chromium: the tests of pages in a browser are skipped"

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
