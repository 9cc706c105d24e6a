# Targets a newcomer would guess. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(HOME)/.cache/pdfjob
UV := $(CACHE)/uv/bin/uv
UV_VERSION := 0.13.9
VENV := .venv
PY := $(VENV)/bin/python
MEMBERS := api operator chunk_runner kubectl_pdfjob devcluster
export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE = copy

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(UV):
	@echo "==> installing uv $(UV_VERSION) into $(CACHE)/uv"
	@python3 -m venv $(CACHE)/uv
	@$(CACHE)/uv/bin/pip -q install uv==$(UV_VERSION)

# The lock holds names, versions and hashes but no index address: it works with any index or mirror.
lock: $(UV) ## resolve dependencies again into requirements.lock
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
		--no-header $(foreach m,$(MEMBERS),--no-emit-package $(shell sed -n 's/^name = "\(.*\)"/\1/p' $(m)/pyproject.toml)) \
		--group dev $(foreach m,$(MEMBERS),$(m)/pyproject.toml) -o requirements.lock

$(VENV)/.synced: requirements.lock $(foreach m,$(MEMBERS),$(m)/pyproject.toml) | $(UV)
	@echo "==> Python environment in $(VENV)"
	@test -x $(PY) || $(UV) venv --quiet --python 3.11 $(VENV) || $(UV) venv --quiet --python '>=3.11' $(VENV)
	@$(UV) pip sync --quiet --python $(PY) --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps $(foreach m,$(MEMBERS),-e ./$(m))
	@touch $@

venv: $(VENV)/.synced ## make the Python environment in .venv

.PHONY: help lock venv
