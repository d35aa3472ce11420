# make train   create the environment, install, train the notes' CNN on Fashion-MNIST
# make test    create the environment, install, run every test
# make bench   the same with PyTorch, then every benchmark; tables go to benchmarks/results
# make gpu     on a machine with a GPU and nothing to install: probe, tests, kernels, training
#              make gpu STAGES="probe kernels" ARGS="--sets cupy_cuda"
# make docs    the documentation as static pages in site/, from docstrings, README and notebooks
#              make docs ARGS="--notebooks full"       (without: toy size, seconds each)
# make lint    ruff and mypy;   make clean   remove the environment and all build products
#
# ARGS goes to the command:  make train ARGS="--epochs 3"   make test ARGS="-k conv2d"
#                            make bench ARGS="--python chainer=/path/to/venv/bin/python"
# EXTRAS adds to the tests:  make test EXTRAS=parity        (PyTorch as a second oracle)

PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?=
# A second process keeps a second core busy where a test has one thread, such as the compiler's.
TESTERS ?= 2
ARGS   ?=

comma  := ,
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
RESULTS ?= benchmarks/results
STAGES  ?= probe tests kernels training

.PHONY: train test bench gpu docs lint clean
.DELETE_ON_ERROR:

train: $(VENV)/.installed
	$(BIN)/minicnn train $(ARGS)

test: $(VENV)/.installed-test$(if $(EXTRAS),-$(EXTRAS))
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile $(ARGS)

bench: $(VENV)/.installed-test-parity
	$(BIN)/python benchmarks/kernels.py --results $(RESULTS)
	$(BIN)/python benchmarks/convolution_layers.py --json $(RESULTS)/convolution-$(shell date +%F).json
	$(BIN)/python benchmarks/versus.py --results $(RESULTS) $(ARGS)

gpu:
	PYTHONPATH=.:kernels$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) benchmarks/gpu $(STAGES) --results $(RESULTS) $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/website $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist site *.egg-info kernels/*.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python setup.cfg pyproject.toml
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-test%: $(VENV)/.installed
	$(PIP) install --editable ".[test$(subst -,$(comma),$*)]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install --editable ".[docs]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --editable ".[test]"
	touch $@
