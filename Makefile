# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or newer with venv.
PYTHON ?= python3
BIN := .venv/bin
# mypy finds the package `torchlift` (this folder, whatever it is called) through a link.
LINK := .venv/source/torchlift

.PHONY: demo test test-all coverage lint format install clean

demo: install
	$(BIN)/torchlift demo

test: install
	$(BIN)/python -m pytest -q -n auto -m "not slow" --proofs build/proofs.json
	$(BIN)/python tests/coverage_table.py build/proofs.json --check

# With the kill tests and the long runs too.
test-all: install
	$(BIN)/python -m pytest -q -n auto --proofs build/proofs.json
	$(BIN)/python tests/coverage_table.py build/proofs.json --check

coverage: install
	$(BIN)/python -m pytest -q -n auto --proofs build/proofs.json tests/test_layers.py \
		tests/test_layers_onnx.py tests/test_criterions.py
	$(BIN)/python tests/coverage_table.py build/proofs.json

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(dir $(LINK)) && ln -sfn ../.. $(LINK)
	MYPYPATH=$(dir $(LINK)) $(BIN)/mypy -p torchlift.converters -p torchlift.transfer -p torchlift.cli

format: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info demo-output
