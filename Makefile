# Everything sets itself up: `make train` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV := .venv/bin
ARGS ?=
JOBS ?= 2
DOCKER ?= docker
BASE_IMAGE ?=
OUT ?=
N ?= 100
WHAT ?= kills
SEED ?= 1
# a login node has .venv-submit alone, which can submit and look after jobs
LAUNCH := $(if $(or $(wildcard $(VENV)),$(if $(wildcard .venv-submit),,none)),env,env-submit)
LAUNCHER := $(if $(filter env,$(LAUNCH)),.venv,.venv-submit)/bin/python
DAILY := $(LAUNCHER) -m pipeline.launch.slurm
TARGETS = $(if $(RUN),--run "$(RUN)") $(if $(SWEEP),--sweep "$(SWEEP)")
PORT ?= 16800
CLUSTER ?= $(or $(TMPDIR),/tmp)/euler-slurm-$(shell id -u)

.DEFAULT_GOAL := help
.PHONY: help env env-submit lock train test test-long chaos check lint types test-slurm test-slurm-all slurm-up slurm-down
.PHONY: image image-cpu sif sif-cpu test-containers test-containers-all
.PHONY: largest-batch pack convert reproduce submit status logs resume cancel sweep-table doctor

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## build .venv from the hash-pinned locks (nothing to do when it is up to date); LOCK=cpu or LOCK=cuda decides which torch
	@PYTHON="$(PYTHON)" LOCK="$(LOCK)" containers/make_env.sh

env-submit: ## build .venv-submit, which can submit and look after jobs, without torch: for login nodes
	@PYTHON="$(PYTHON)" containers/make_env.sh submit

lock: ## write the locks anew from containers/*.in, for what changed there; UPGRADE=1 takes the newest that these allow
	@containers/lock.sh $(if $(UPGRADE),--upgrade)

train: env ## train on the embedded default data; more with ARGS="model=SEANet_real_small trainer.seed=1"
	$(VENV)/python train.py $(ARGS)

largest-batch: env ## the largest batch that fits into memory: ARGS="model=SEANet_real"
	@$(VENV)/python -m pipeline.launch.largest_batch $(ARGS)

pack: env ## decode SRC=folder once into OUT=folder for data=packed; one part of a job array: SHARD=0/8
	$(VENV)/python -m pipeline.data.pack "$(SRC)" "$(OUT)" $(if $(SHARD),--shard $(SHARD)) $(ARGS)

convert: env ## m4a, aac and others below SRC=folder once to FLAC (needs ffmpeg)
	$(VENV)/python -m pipeline.data.convert "$(SRC)" $(if $(OUT),"$(OUT)") $(ARGS)

test: env ## run all tests
	$(VENV)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: env ## run the tests that take minutes each
	$(VENV)/python -m pytest -n $(JOBS) --dist load -m "long and not slurm and not containers" $(ARGS)

chaos: env ## kill N=100 runs and compare how they end; WHAT=strategies N=30, WHAT=signals N=20, WHAT=writes N=200, WHAT=break N=seed, SEED=1
	$(VENV)/python -m tests.integration.chaos --$(WHAT) $(N) --seed $(SEED) $(ARGS)

submit: $(LAUNCH) ## submit jobs to SLURM: ARGS="trainer.seed=1,2 hydra.launcher.timeout_min=60"
	$(LAUNCHER) train.py -m hydra/launcher=submitit_slurm $(ARGS)

status: $(LAUNCH) ## how runs stand: SWEEP=DIR, RUN=DIR, or all sweeps
	@$(DAILY).status $(TARGETS)

logs: $(LAUNCH) ## what the job of RUN=DIR wrote; N=100 lines of each log, FOLLOW=1 goes on with it
	@$(DAILY).show_logs $(TARGETS) --lines $(N) $(if $(FOLLOW),--follow)

resume: $(LAUNCH) ## submit the job of RUN=DIR again, which has failed or was cancelled
	@$(DAILY).resume_run $(TARGETS)

cancel: $(LAUNCH) ## end the jobs of RUN=DIR or SWEEP=DIR
	@$(DAILY).cancel $(TARGETS)

sweep-table: $(LAUNCH) ## the runs of SWEEP=DIR, best first, as a table and a CSV file; METRIC=val/mel
	@$(DAILY).sweep_table $(TARGETS) $(if $(METRIC),--metric "$(METRIC)")

doctor: $(LAUNCH) ## what training and submitting need here, what is missing, and what to do
	@$(DAILY).doctor

image: ## build the Docker image of training on BASE_IMAGE=NAME@sha256:DIGEST (containers/README.md)
	@BASE_IMAGE="$(BASE_IMAGE)" DOCKER="$(DOCKER)" containers/build.sh image cuda

image-cpu: ## the same without CUDA
	@BASE_IMAGE="$(BASE_IMAGE)" DOCKER="$(DOCKER)" containers/build.sh image cpu

sif: ## build the Apptainer image OUT=containers/euler-cuda.sif: of the Docker image if there is one, else on BASE_IMAGE
	@BASE_IMAGE="$(BASE_IMAGE)" DOCKER="$(DOCKER)" containers/build.sh sif cuda $(OUT)

sif-cpu: ## the same without CUDA: OUT=containers/euler-cpu.sif
	@BASE_IMAGE="$(BASE_IMAGE)" DOCKER="$(DOCKER)" containers/build.sh sif cpu $(OUT)

test-containers: env ## build both CPU images on this machine and run in them (as root; 10 minutes)
	$(VENV)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "containers and not long" tests/containers tests/slurm $(ARGS)

test-containers-all: env ## build and run the CUDA image too, and all that images may meet
	$(VENV)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m containers tests/containers tests/slurm $(ARGS)

reproduce: env ## is RUN=DIR the same here and now? STEPS=20; ARGS="--ignore commit" goes on although that differs
	@$(VENV)/python -m pipeline.launch.reproduce $(if $(RUN),"$(RUN)") $(if $(STEPS),--steps $(STEPS)) $(ARGS)

test-slurm: env ## run representative tests on a throw-away SLURM cluster for each of the JOBS (as root; 12 minutes)
	$(VENV)/python -m pytest -n $(JOBS) --dist load --maxschedchunk 1 -m "slurm and not long and not containers" tests/slurm $(ARGS)

test-slurm-all: env ## run all that a cluster may do to a job
	$(VENV)/python -m pytest -n $(JOBS) --dist load --maxschedchunk 1 -m "slurm and not containers" tests/slurm $(ARGS)

slurm-up: ## start a throw-away SLURM of two nodes on this machine (as root); CLUSTER=folder PORT=first of its ports
	@slurm/cluster/up.sh $(CLUSTER) $(PORT)

slurm-down: ## stop it
	@slurm/cluster/down.sh $(CLUSTER)

lint: env
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

types: env
	$(VENV)/mypy

check: lint types test ## lint, types and tests: what CI runs
