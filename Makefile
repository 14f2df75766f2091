# Python 3.11+ and make are all that has to be there; each target sets itself up.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PROFILE ?= auto
SEEDS ?=
JOBS ?= auto
MINUTES ?=
TORCH_INDEX ?=
export PYTHONUNBUFFERED := 1

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the virtual environment and install the tested versions, once

$(STAMP): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
	  { echo "$(PYTHON) is older than 3.11.4: make PYTHON=python3.12 …"; exit 1; }
	@echo "installing PyTorch and the rest, about 6 GB: this takes some minutes"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip
	$(if $(TORCH_INDEX),$(PY) -m pip install -q torch torchvision --index-url $(TORCH_INDEX))
	$(PY) -m pip install -q -r requirements.txt $(if $(TORCH_INDEX),,-c constraints.txt)
	$(PY) -m pip install -q --no-deps -e .
	@touch $@

data: setup ## fetch and verify the real data sets
	$(PY) -m attnlib data get

smoke: setup ## everything, tiny: all seven notebooks in a few minutes
	$(PY) -m attnlib notebooks run --profile smoke

reproduce: setup ## the main job: PROFILE=small|pilot|real|full SEEDS=n JOBS=n
	$(PY) -m attnlib notebooks run --profile $(PROFILE) --jobs $(JOBS) \
	  $(if $(SEEDS),--seeds $(SEEDS))

# Without the extras their tests are skipped. What takes longest comes first, so that both processes
# end together.
test: setup ## nbval over the notebooks, the faults and all other tests, in two processes
	-$(PY) -m pip install -q $(if $(TORCH_INDEX),,-c constraints.txt) -e '.[cluster,onnx,tensorboard]'
	$(PY) -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder --durations=8 --nbval-lax \
	  --nbval-current-env --nbval-cell-timeout=300 notebooks tests/faults tests

lint: setup ## ruff, notebooks too, and which room may import which
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports --no-cache

report: setup ## render results/report/index.html from the published notebooks
	$(PY) -m attnlib notebooks report

publish: setup ## refresh notebooks, report, README, docs from records; trains nothing: run reproduce before
	$(PY) -m attnlib notebooks publish
	$(PY) -m attnlib readme

verify: setup ## check the committed records, train a sample of them again: MINUTES=12
	$(PY) -m attnlib verify --minutes $(or $(MINUTES),12)

bench: setup ## speed side by side with the plain loop: MINUTES=9
	$(PY) -m attnlib bench --minutes $(or $(MINUTES),9) --notebook 03_se
	$(PY) -m attnlib readme

clean: setup ## remove weights, unfinished trainings and executed notebooks; records stay
	$(PY) -m attnlib runs clean

.PHONY: help setup data smoke reproduce test lint report publish verify bench clean
