# Targets a newcomer would guess. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(HOME)/.cache/pdfjob
UV := $(CACHE)/uv/bin/uv
UV_VERSION := 0.13.9
VENV := .venv
PY := $(VENV)/bin/python
FAULTS_AT_ONCE ?= 5
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

DEVCLUSTER := $(PY) -m devcluster

demo: venv ## set up a cluster, put a real PDF through it, show the text (PDF=file.pdf LANGUAGE=fr PROCESSOR=gemini)
	@start=$$SECONDS; \
	$(DEVCLUSTER) up && $(DEVCLUSTER) install && \
	pdf="$${PDF:-$$($(PY) -m tests.support.corpora debian-reference-fr)}" && \
	$(DEVCLUSTER) demo "$$pdf" --language $${LANGUAGE:-fr} --processor $${PROCESSOR:-local} && \
	echo "==> demo finished in $$((SECONDS - start)) s"

test: lint unit integration faults-worst e2e ## run everything: lint, unit tests, tests on a real cluster, the worst faults

unit: venv ## run what needs no cluster, a minute and a half
	@echo '==> unit tests'; start=$$SECONDS; $(PY) -m pytest tests/unit -q -n 2 && echo "    done in $$((SECONDS - start)) s: unit tests"

integration: cluster
	@echo '==> integration tests'; start=$$SECONDS; $(PY) -m pytest tests/integration -q -n 2 --dist loadfile && echo "    done in $$((SECONDS - start)) s: integration tests"

e2e: cluster
	@echo '==> e2e tests'; start=$$SECONDS; $(PY) -m pytest tests/e2e -q -n 2 --dist loadfile -m 'not alone' && \
	$(PY) -m pytest tests/e2e -q -m alone && echo "    done in $$((SECONDS - start)) s: e2e tests"

faults: cluster ## strike the operator and all it stands on in every way we know, under 20 minutes
	@echo '==> fault suite'; start=$$SECONDS; $(PY) -m pytest tests/faults -q -n $(FAULTS_AT_ONCE) --dist worksteal --faults-table \
	&& echo "    done in $$((SECONDS - start)) s: fault suite"

faults-worst: cluster ## the worst third of the faults
	@echo '==> worst faults'; start=$$SECONDS; $(PY) -m pytest tests/faults -q -n $(FAULTS_AT_ONCE) --dist worksteal -m worst \
	&& echo "    done in $$((SECONDS - start)) s: worst faults"

lint: venv ## check style and types (that generated files are current is a unit test)
	@echo '==> ruff, mypy'; start=$$SECONDS; $(VENV)/bin/ruff check --output-format=concise . && \
	$(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && echo "    done in $$((SECONDS - start)) s: ruff, mypy"

generate: venv ## make CRDs, plain manifests and API reference again
	@$(PY) -m pdfjob_api.crd manifests/crds charts/pdfjob/files/crds
	@$(PY) -m pdfjob_api.reference docs/api-reference.md
	@$(PY) manifests/render.py

cluster: venv ## bring the development cluster up (CLUSTER=current: use your own kubectl context)
	@$(DEVCLUSTER) up

images: venv ## build the images, if need be, and give them to the cluster
	@$(DEVCLUSTER) images

install: cluster ## install pdfjob on the cluster
	@$(DEVCLUSTER) install

uninstall: venv ## take pdfjob off the cluster
	@$(DEVCLUSTER) uninstall

kubeconfig: venv ## print the path of the cluster's kubeconfig
	@$(DEVCLUSTER) kubeconfig

env: venv ## print shell lines for kubectl and the plugin: eval "$$(make -s env)"
	@$(DEVCLUSTER) env
	@echo 'export PATH=$(CURDIR)/$(VENV)/bin:"$$PATH"'

down: venv ## end the development cluster
	@$(DEVCLUSTER) down

bench: venv ## run the benchmarks (NAME=overhead for one)
	@for name in $${NAME:-split runner llm overhead rate_limit}; do $(PY) -m bench.$$name || exit 1; done

soak: cluster ## 200 PdfJobs with failing chunks, the operator killed every minute, 25 min (JOBS=6 for a small one)
	@$(PY) -m bench.soak

.PHONY: help lock venv demo test unit integration e2e faults faults-worst lint generate cluster images install uninstall kubeconfig env down bench soak
