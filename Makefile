# make quickstart            train on the embedded images, minutes on two cores
# make quickstart-molecules  train on QM9, from a package; ten minutes and a little more
# make quickstart-crystals   train on crystals from two packages; the same
# make test                  lint, types, import layers, tests
# make lint                  only the first three
# make test-browser          the demo's page in a headless Chromium of this machine, if there is one
# make docs                  the site in site/, with its links checked; opens from the disk
# make test-lowest           a part of the tests with the lowest versions that pyproject.toml admits;
#                            TORCH=2.13.0 takes that torch instead of the lowest
#
# SEED=1 makes another run, in a folder of its own: runs/quickstart-seed1.
#
# Everything goes into .venv. To choose a torch build, pass pip options, for instance
#   make quickstart PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_OPTIONS ?=
SEED ?= 0
TORCH ?=
RUN = runs/$@$(if $(filter-out 0,$(SEED)),-seed$(SEED))
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-molecules quickstart-crystals test test-browser test-lowest docs lint format clean

quickstart: $(VENV)/.installed
	$(BIN)/openunite train fashion --output $(RUN) --seed $(SEED)

quickstart-molecules: $(VENV)/.installed-atoms
	$(BIN)/openunite train qm9 --output $(RUN) --seed $(SEED)

quickstart-crystals: $(VENV)/.installed-atoms
	$(BIN)/openunite train crystals --output $(RUN) --seed $(SEED)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --ignore tests/browser

test-browser: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/browser

test-lowest:
	OMP_NUM_THREADS=1 TORCH="$(TORCH)" PIP_OPTIONS="$(PIP_OPTIONS)" $(PYTHON) tools/test_lowest.py $(VENV)-lowest

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS) -e .
	touch $@

$(VENV)/.installed-atoms: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS) -e '.[molecules,crystals]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS) -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest dist site .pytest_cache .mypy_cache .ruff_cache
