# make train   create the environment, install, train the notes' CNN on Fashion-MNIST
# make test    create the environment, install, run every test
# make lint    ruff and mypy;   make clean   remove the environment and all build products
#
# ARGS goes to the command:  make train ARGS="--epochs 3"   make test ARGS="-k conv2d"
# EXTRAS adds to the tests:  make test EXTRAS=parity        (PyTorch as a second oracle)

PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?=
ARGS   ?=

comma  := ,
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: train test lint clean
.DELETE_ON_ERROR:

train: $(VENV)/.installed
	$(BIN)/minicnn train $(ARGS)

test: $(VENV)/.installed-test$(if $(EXTRAS),-$(EXTRAS))
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info kernels/*.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python setup.cfg pyproject.toml
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-test%: $(VENV)/.installed
	$(PIP) install --editable ".[test$(subst -,$(comma),$*)]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --editable ".[test]"
	touch $@
