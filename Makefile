PYTHON ?= python3
BIN := .venv/bin
# processes that run tests
WORKERS ?= 2
SETUP := .venv/.complete

.PHONY: setup demo test test-fast check docs

setup: $(SETUP)

# The stamp is written last: an installation that was cut off is taken up again.
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vattn needs Python 3.11 or later; name one by: make PYTHON=python3.11")'
	@echo "installing into .venv what constraints.txt names: about 6 GB, minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs,export,flow]' --constraint constraints.txt
	touch $@

demo: setup
	$(BIN)/vattn run spaces/library/quickstart.yaml --resume

# One thread per process. Ray's processes have the priority of the others: at Ray's niceness of 15 they would starve.
test: setup
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Without the tests marked slow, medium or ray (pyproject.toml).
test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not medium and not ray'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MAKE) docs

# The documentation, in build/docs; nothing is loaded from the network.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
