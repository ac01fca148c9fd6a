# `make demo` and `make test` need nothing but Python 3.11 and make: both set up .venv first.
PYTHON  ?= python3.11
MODEL   ?= dctnet
WEIGHTS ?=
ENGINES ?=
GPU     ?=
PRECISION ?=
CALIBRATION ?=
PRUNE   ?=
FAST    ?=
RECOVER_STEPS ?=
PART    ?=
OUT     ?= build/$(MODEL)
PHOTOS  ?=
MAX_PHOTOS ?=
MAX_SIDE ?=
AGAIN   ?=
PORT    ?= 8000

# Where Python is told to keep no bytecode, every process compiles what it imports: 3.5 s of TensorFlow, 1.5 of PyTorch.
unexport PYTHONDONTWRITEBYTECODE

BIN  := .venv/bin
VENV := .venv/.ready
# A file to each process at a time: its tests share builds. How many: tests/conftest.py.
TESTS := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-heavy test-quick engines validate report serve bench bench-serve bench-gpu style quality clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Python compiles what is imported; all of it would take half a minute more.
$(VENV): pyproject.toml constraints.txt
	@test -e .venv || ! test -L .venv || { echo "error: .venv is a link to $$(readlink .venv), which is not there: remove it (rm .venv), and run make again"; exit 1; }
	@echo "setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --no-compile -c constraints.txt \
		-e '.[openvino,tensorrt-rtx,workshop,tf1,torch,fetch,serve,provenance,dev]' || \
		{ echo "error: .venv could not be set up, see pip's message above"; exit 1; }
	@touch $@

demo: $(VENV) ## build the demo bundle, validate it, write report and pictures
	@$(BIN)/python -m demo

test: $(VENV) ## run the tests but for the heavy ones, on all cores
	@$(TESTS)

test-heavy: $(VENV) ## run those of networks of published size against their originals, and of exports in any process
	@$(TESTS) -m 'heavy and not gpu and not weights'

# What needs no build, no child process and no TensorFlow.
QUICK := tests/cameo tests/metrics tests/engines tests/test_arrows.py tests/test_decisions.py

test-quick: $(VENV) ## run the quick ones of them, while writing
	@$(TESTS) -m 'not slow and not heavy and not gpu and not weights' $(QUICK)

# For errors to name what was asked for as it was: by these variables and not by flags (pipeline/make_variables.py).
engines validate report: export CAMEO_VARIABLES := WEIGHTS= OUT= ENGINES= GPU= PRECISION= CALIBRATION= PRUNE= FAST=1 \
	RECOVER_STEPS= PART= PHOTOS= MAX_PHOTOS= MAX_SIDE= AGAIN=1

engines: $(VENV) ## build a bundle: MODEL=dctnet WEIGHTS=folder [ENGINES=openvino,tensorrt-rtx] [GPU=rtx3060] [PRECISION=fp32,bf16,fp16,int8] [CALIBRATION=photos] [PRUNE=0.3] [FAST=1] [RECOVER_STEPS=600] [PART=gpen-bfr-512=g_ema] [OUT=build/dctnet]
	@test -n "$(WEIGHTS)" || { echo "error: which checkpoint? name its folder, WEIGHTS=folder (the demo's is WEIGHTS=demo)"; exit 2; }
	@$(BIN)/python -m pipeline build $(MODEL) --weights $(WEIGHTS) --out $(OUT) --engines '$(ENGINES)' --gpu '$(GPU)' \
		--precision '$(PRECISION)' $(if $(CALIBRATION),--calibration $(CALIBRATION)) \
		$(if $(PRUNE),--prune $(PRUNE)) $(if $(FAST),--fast) $(if $(RECOVER_STEPS),--recover-steps $(RECOVER_STEPS)) \
		$(PART:%=--part %)

validate: $(VENV) ## compare a bundle with its original: MODEL=dctnet [PHOTOS=folder] [MAX_PHOTOS=20] [MAX_SIDE=1024] [AGAIN=1] [WEIGHTS=folder] [OUT=build/dctnet]
	@$(BIN)/python -m pipeline validate $(OUT) $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(WEIGHTS),--weights $(WEIGHTS)) \
		$(if $(MAX_PHOTOS),--max-photos $(MAX_PHOTOS)) $(if $(MAX_SIDE),--max-side $(MAX_SIDE)) $(if $(AGAIN),--again)

report: validate ## the same, and say where the report is
	@echo "open $(OUT)/report.html"

serve: $(VENV) ## serve a bundle over HTTP, on this machine alone: MODEL=dctnet [PORT=8000] [OUT=build/dctnet]
	@$(BIN)/cameo serve $(OUT) --port $(PORT)

bench: $(VENV) ## measure every figure of docs/measurements, interleaved with the originals (minutes)
	@$(BIN)/python -m bench

bench-serve: $(VENV) ## measure the server: overload, memory, kill -9 (10 minutes)
	@$(BIN)/python -m bench serving

bench-gpu: $(if $(GPU_PYTHON),,$(VENV)) ## measure GPEN on this machine's NVIDIA GPU: [WEIGHTS=folder] [GPU_PYTHON=python with PyTorch for CUDA]
	@$(or $(GPU_PYTHON),$(BIN)/python) -m bench.gpu $(if $(WEIGHTS),--weights $(WEIGHTS))

style: $(VENV) ## format and fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

quality: $(VENV) ## check style and types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

clean: ## remove what was built
	rm -rf build
