# Everything a checkout can do. Needs Python 3.11 or later, make, and the Internet for the first time; nothing else.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV_OLDEST := 0.8.0
# A uv on the PATH is used unless it is too old to read the lock file; otherwise one is put into .tools.
UV := $(shell have=$$(uv --version 2>/dev/null | cut -d ' ' -f 2); \
  [ -n "$$have" ] && [ "$$(printf '%s\n' $(UV_OLDEST) "$$have" | sort -V | head -n 1)" = $(UV_OLDEST) ] \
  && command -v uv || echo .tools/uv/bin/uv)
HELM_VERSION := v3.22.0
HELM4_VERSION := v4.3.1
KUBECONFORM_VERSION := v0.8.0
KUBERNETES_VERSION := v1.37.2
# With npm there are types of KEDA's and External Secrets' resources too.
KUBE_ARGS := $(shell command -v npm >/dev/null && echo --crds)
SYNC = sync --frozen --all-extras --compile-bytecode --python $(PYTHON)
BIN := .venv/bin
SYNCED := .venv/.synced

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz torture check kube-check monitoring-check unbound kube-dry-run up bench bench-compare bench-quick schemas format clean
.DELETE_ON_ERROR:

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(SYNCED) ## Start everything, send mail through it, and account for every mail
	$(BIN)/sluice demo $(ARGS)

test: $(SYNCED) ## Run all tests, over real parts
	$(BIN)/pytest $(ARGS)

fuzz: $(SYNCED) ## Draw other examples than the tests do, and more, for what reads from outside
	$(BIN)/pytest --hypothesis-profile fuzz tests/unit $(ARGS)

torture: $(SYNCED) ## Hurt a running Sluice by a plan for some minutes, and account for every mail
	$(BIN)/sluice torture --duration 240 $(ARGS)

check: $(SYNCED) ## Lint, format, types, layers, and whether the schemas are up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m sluice.runtime.schemas schemas --check
	$(BIN)/python deploy/monitoring/generate.py --check
	$(BIN)/python deploy/helm/generate.py --check

kube-check: $(SYNCED) .tools/bin/.helm-$(HELM_VERSION) .tools/bin/.kubeconform-$(KUBECONFORM_VERSION) ## Hold the Helm chart against Kubernetes' schemas; needs Go
	for values in deploy/helm/sluice/ci/*-values.yaml; do \
	  .tools/bin/helm lint deploy/helm/sluice --quiet --strict --kube-version 1.29.0 --values $$values || exit 1; done
	$(if $(KUBE_ARGS),npm ci --prefix deploy/helm/validate/crds --ignore-scripts --no-audit --no-fund --loglevel=error)
	$(BIN)/python deploy/helm/validate/manifests.py $(KUBE_ARGS)

monitoring-check: $(SYNCED) ## Hold alerts and dashboards against Prometheus' promtool; takes it from Debian when there is none
	$(BIN)/python deploy/monitoring/generate.py --check
	@promtool=$$(.ci/debian.sh prometheus promtool); \
	case $$? in 0) $(BIN)/python deploy/monitoring/check.py "$$promtool" ;; 3) echo "skipped" ;; *) exit 1 ;; esac

unbound: ## Have Unbound for the tests that validate DNSSEC; takes it from Debian when there is none
	@.ci/debian.sh unbound unbound || [ $$? -eq 3 ]

kube-dry-run: kube-check .tools/bin/.helm4-$(HELM4_VERSION) .tools/kube/.apiserver-$(KUBERNETES_VERSION) .tools/bin/etcd ## Hold it against a real kube-apiserver; needs Go and Debian; a quarter of an hour the first time
	(echo groups:; cat deploy/helm/sluice/files/alerts.yaml) > .tools/kube/alerts.yaml
	$$(.ci/debian.sh prometheus promtool) check rules .tools/kube/alerts.yaml
	$(BIN)/python deploy/helm/validate/dry_run.py

up: $(SYNCED) ## Run Kafka, ClickHouse, a mailbox and all services until ctrl-c
	$(BIN)/sluice up $(ARGS)

bench: bench-compare ## Measure all that is claimed, Postfix and Haraka beside it, and write it down: three quarters of an hour
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/priority_latency.py --backlog 1000000
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/report.py --into docs/performance.md --ratios README.md

bench-compare: $(SYNCED) ## Measure Sluice, Postfix with OpenDKIM, and Haraka in one run: ten minutes
	$(BIN)/python benchmarks/compare.py $(ARGS)

bench-quick: $(SYNCED) ## Measure mails per second from publish to 250: half a minute
	$(BIN)/sluice bench $(ARGS)

schemas: $(SYNCED) ## Write schemas/, and what of the chart is made from the code, anew
	$(BIN)/python -m sluice.runtime.schemas schemas
	$(BIN)/python deploy/monitoring/generate.py
	$(BIN)/python deploy/helm/generate.py

format: $(SYNCED) ## Format the code, and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was made here, except the data in .sluice
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find services tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Built from their Go modules; .tools/bin/helm is the one that tests use.
.tools/bin/.helm-$(HELM_VERSION):
	GOBIN=$(CURDIR)/.tools/bin CGO_ENABLED=0 go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	@touch $@

.tools/bin/.helm4-$(HELM4_VERSION):
	GOBIN=$(CURDIR)/.tools/bin/4 CGO_ENABLED=0 go install helm.sh/helm/v4/cmd/helm@$(HELM4_VERSION)
	mv .tools/bin/4/helm .tools/bin/helm4
	@touch $@

.tools/bin/.kubeconform-$(KUBECONFORM_VERSION):
	GOBIN=$(CURDIR)/.tools/bin CGO_ENABLED=0 go install github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
	@touch $@

.tools/kube/.apiserver-$(KUBERNETES_VERSION): deploy/helm/validate/apiserver/go.mod
	mkdir -p .tools/kube
	cd deploy/helm/validate/apiserver && CGO_ENABLED=0 go build -o $(CURDIR)/.tools/kube/kube-apiserver -ldflags \
	  "-s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" \
	  k8s.io/kubernetes/cmd/kube-apiserver
	@touch $@

.tools/bin/etcd:
	mkdir -p .tools/bin
	etcd=$$(.ci/debian.sh etcd-server etcd) && ln -s "$$etcd" $@

$(SYNCED): pyproject.toml uv.lock | $(UV)
	# Where a proxy signs with an authority of its own, only the system's certificates know it.
	$(UV) $(SYNC) || UV_SYSTEM_CERTS=1 $(UV) $(SYNC)
	@touch $@

.tools/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Sluice needs Python 3.11 or later, and this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
