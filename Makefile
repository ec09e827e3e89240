# Every target includes its set-up, and may be called again.
# `make` lists them; the variables are PYTHON (default python3), PYTHONS (of `make image-test`) and RUNWIDE_REQUIRE_DOCKER (1: no engine is a failure).

PYTHON ?= python3
unexport PYTHON   # docker/build has a variable of that name: the version in the image
PYTHONS ?= 3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
# Locks are refreshed with this version of uv.
UV := uv==0.13.9
UPGRADE ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format lock image image-test cloudbuild-local wheel-test clean

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## the same job on one core, on all cores, on parallel components, on 336,776 flights
	@.ci/image-where-possible --silently
	@$(BIN)/python components/examples/flights.py

test: $(READY) ## lint, types, arrows, all tests but the slow ones, and the wheel's own install
	@.ci/image-where-possible
	@.ci/browser
	@.ci/check all

test-slow: $(READY) ## soak and fuzz
	@.ci/image-where-possible
	@$(BIN)/python -m pytest -m slow

lint: $(READY) ## ruff, mypy, import-linter, shellcheck, hadolint, plain English, figures of the house
	@.ci/check lint

format: $(READY) ## format the code, and repair what ruff can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: .venv-lock/bin/uv ## bring the locks in line with pyproject.toml (UPGRADE=--upgrade: to the newest versions)
	@UV=$< .ci/lock $(UPGRADE)

image: ## build the image runwide:dev
	@docker/build

image-test: $(READY) ## build the image and test it (PYTHONS="3.10 3.13": on these versions of Python)
	@docker/image-test $(PYTHONS)

cloudbuild-local: $(READY) ## the steps of cloudbuild.yaml on this machine, with a temporary registry; then a pipeline in the pushed image
	@docker/ensure-engine
	@tools/run-cloudbuild --advisories tools/advisories-example.json

wheel-test: $(READY) ## build the wheel, and use it in a new environment
	@.ci/check wheel

clean: ## remove the files that make made here; images and the engine stay
	@rm -rf .venv .venv-lock dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache local_outputs
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(DEMO): requirements-build.lock requirements.lock requirements-dev.lock pyproject.toml .ci/venv
	@PYTHON=$(PYTHON) .ci/venv $(VENV) demo
	@touch $@

$(READY): $(DEMO)
	@PYTHON=$(PYTHON) .ci/venv $(VENV) tools
	@touch $@

.venv-lock/bin/uv: Makefile
	@$(PYTHON) -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip install -qq $(UV)
	@touch $@
