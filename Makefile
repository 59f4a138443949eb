# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or newer with venv.
PYTHON ?= python3
BIN := .venv/bin
# mypy finds the package `torchlift` (this folder, whatever it is called) through a link.
LINK := .venv/source/torchlift

.PHONY: demo test test-all soak gpu runtimes mutants oracle coverage lint format docs \
	test-versions release-check install clean

demo: install
	$(BIN)/torchlift demo

# With `=`, since pytest takes a file that is there for one of tests, and then reads no conftest.py.
test: install
	$(BIN)/python -m pytest -q -n auto -m "not slow" --proofs=build/proofs.json
	$(BIN)/python tests/coverage_table.py build/proofs.json --check

# With the kill tests and the long runs too, and how much of the code all of them run: in percent of
# the lines and branches, in the commands' own processes as well.
test-all: install
	$(BIN)/python -m pytest -q -n auto --proofs=build/proofs.json --cov --cov-report=
	$(BIN)/python tests/coverage_table.py build/proofs.json --check
	$(BIN)/coverage report --include='converters/*' --fail-under=95 --skip-covered --sort=miss
	$(BIN)/coverage report --include='transfer/*' --fail-under=90 --skip-covered --sort=miss
	$(BIN)/coverage report --include='cli/*' --fail-under=90 --skip-covered --sort=miss

# Random trials that run for hours (docs/soak.md): networks drawn from a seed, kills and full disks at
# so many moments of every command that writes, damaged files, and objects with damaged fields.
NETWORKS ?= 10000
FAULTS ?= 20
HOSTILE ?= 20000
SEED ?= 0
MINUTES ?= 30

soak: install
	TORCHLIFT_NETWORKS=$(NETWORKS) $(BIN)/python -m pytest -q -n auto -m "" \
		--hypothesis-seed=$(SEED) --hypothesis-show-statistics tests/test_random_networks.py
	TORCHLIFT_HOSTILE=$(HOSTILE) $(BIN)/python -m pytest -q -m "" tests/test_serve_hostile.py
	TORCHLIFT_FAULTS=$(FAULTS) $(BIN)/python -m pytest -q -n auto -m "" tests/test_faults.py
	$(BIN)/python tests/fuzz/fuzz_t7.py --seed $(SEED) --minutes $(MINUTES)
	$(BIN)/python tests/fuzz/fuzz_modules.py --seed $(SEED) --minutes $(MINUTES)
	$(BIN)/python tests/fuzz/fuzz_folders.py --seed $(SEED) --minutes 40

# Parity, throughput, resume and memory on a GPU, in some ten minutes; writes docs/gpu.md. Without a
# GPU it says that it was skipped.
gpu: install
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python -m pytest -q -n 0 -m gpu tests

# Twenty networks in five runtimes; writes docs/runtimes.md. OpenVINO, OpenCV and onnxruntime-web may be
# elsewhere: make runtimes ELSEWHERE="--runtime-python VENV/bin/python --onnxruntime-web FOLDER"
ELSEWHERE ?=

runtimes: install
	$(BIN)/python benchmarks/runtimes.py $(ELSEWHERE)

# A sample of small changes to the code, of which each should turn a test red (docs/mutants.md).
COUNT ?= 200

mutants: install
	$(BIN)/python tests/mutants.py --count $(COUNT) --seed $(SEED)

# Random modules and networks beside Torch7 itself: make oracle TORCH7=…/th (docs/fixtures.md).
MODULES ?= 200

oracle: NETWORKS = 100
oracle: install
	$(BIN)/python tests/oracle/check.py $(TORCH7) --modules $(MODULES) --networks $(NETWORKS) \
		--seed $(SEED)

coverage: install
	$(BIN)/python -m pytest -q -n auto --proofs=build/proofs.json tests/test_layers.py \
		tests/test_layers_onnx.py tests/test_criterions.py tests/test_equal_classes.py \
		tests/test_fuzz_cases.py tests/test_modules_*.py tests/test_projects.py \
		tests/test_contract.py
	$(BIN)/python tests/coverage_table.py build/proofs.json

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(dir $(LINK)) && ln -sfn ../.. $(LINK)
	MYPYPATH=$(dir $(LINK)) $(BIN)/mypy -p torchlift.converters -p torchlift.transfer -p torchlift.cli \
		-m torchlift.compat

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The site, with every internal link checked, in build/site. Nothing on it is loaded from elsewhere.
# Its pictures are made first: those that need Chromium or onnxruntime-web only where these are.
docs: install
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python tests/docs_pictures.py build/pictures
	$(BIN)/python -m mkdocs build --strict

# The fast tests with the lowest and with the newest version of every dependency: of each a new
# environment, removed where they pass. Needs uv, a network and some 15 GB. make test-versions
# VERSIONS=highest makes one of them; TESTS is what pytest is given.
VERSIONS ?= lowest-direct highest
TESTS ?= -n auto -m "not slow"
EXTRAS := cpu dev networks data docs bench

test-versions:
	set -e; for version in $(VERSIONS); do \
		uv venv --quiet --clear --seed --python "$$(command -v $(PYTHON))" build/$$version; \
		uv pip install --quiet --python build/$$version/bin/python --resolution $$version \
			-r pyproject.toml $(EXTRAS:%=--extra %) --editable .; \
		build/$$version/bin/python -m pytest -q $(TESTS); \
		rm -r build/$$version; \
	done

# Before a release: the wheel twice the same, then installed with the oldest and the newest of
# everything, and run; writes the table of docs/support.md. Needs uv, a network and some 15 GB.
release-check:
	$(PYTHON) .ci/release_check.py

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info demo-output
