# Every target works on a fresh clone and without an activated environment.
#   make check PYTHON=python3.12     the interpreter that .venv is made of

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per worker: two workers that each start a thread per core only wait for each other.
TEST_WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
HOOK := --jaxtyping-packages=mask2former,beartype.beartype

.PHONY: setup quickstart check lint types test test-runs test-parity test-cityscapes test-compile clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11; run: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[train,dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/mask2former quickstart

check: lint types test test-runs test-parity test-compile

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyrefly check

# The hook checks every jaxtyping annotation at run time; torch.compile cannot trace through it,
# so what compiles is tested apart.
test: $(STAMP)
	$(PYTEST) -n $(TEST_WORKERS) -m "not slow and not gpu and not compile and not parity and not runs" $(HOOK)

# Whole trainings and evaluations, kills, several processes.
test-runs: $(STAMP)
	$(PYTEST) -n $(TEST_WORKERS) -m "runs and not slow and not gpu and not compile" $(HOOK)

# Against other implementations and real data.
test-parity: $(STAMP)
	$(PYTEST) -n $(TEST_WORKERS) -m "parity and not slow and not gpu and not compile" $(HOOK)

# cityscapesScripts wants packages that nothing here needs: it is installed apart, without them.
test-cityscapes: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target build/cityscapesscripts cityscapesscripts pyquaternion
	PYTHONPATH=build/cityscapesscripts $(PYTEST) -m parity $(HOOK) tests/parity/test_cityscapes.py

test-compile: $(STAMP)
	$(PYTEST) -m "compile and not slow and not gpu"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
