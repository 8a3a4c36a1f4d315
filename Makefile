# `make` alone lists the targets. The first one that needs the virtual environment creates it.

PYTHON ?= python3
VENV ?= .venv
# MONAI Label needs packages that the project's own environment cannot hold.
LABEL_VENV ?= .venv-label
# Arguments for the command behind a target, for example: make test ARGS="-k losses"
ARGS ?=
# Test files that run at a time, each process with one thread; 0 runs all in one process, for a debugger.
WORKERS ?= 2

# Every path is relative, so that a checkout may lie in a folder whose name has spaces.
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_PIP := $(LABEL_BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
LABEL_APP := apps/lefusion_label

.DEFAULT_GOAL := help
.PHONY: help venv lone-venv demo demo-emidec label-venv label-demo test lint format clean distclean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | awk -F '|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

venv: $(VENV)/.stamp ## create the virtual environment and install the project into it

$(VENV)/.stamp: pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "error: '$(PYTHON)' was not found; name a Python >= 3.10: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: Python >= 3.10 is needed, '$(PYTHON)' is older; choose another: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing the project and its tested dependencies into $(VENV); the first time this takes some minutes ..."
	@"$(PYTHON)" -m venv "$(VENV)"
	@# PyTorch first, by its exact version, so that nothing installed after it can pull in another build.
	@$(PIP) -c constraints.txt "$$(grep -o '^torch==[^ ;]*' constraints.txt)"
	@$(PIP) -c constraints.txt -e ".[dev]"
	@touch "$@"
	@echo "Ready: $(VENV)"

lone-venv: venv ## create .venv-lone, which has what a bundle alone needs, for the tests
	@$(BIN)/python tests/lone_environment.py

demo: venv ## paint lesions into a real scan crop and show them in a picture
	@$(BIN)/lefusion demo $(ARGS)

demo-emidec: venv ## paint infarct and microvascular obstruction into a phantom heart and show them
	@$(BIN)/lefusion demo --bundle lefusion_emidec --output_dir demo_output_emidec $(ARGS)

label-venv: $(LABEL_VENV)/.stamp ## create MONAI Label's own environment

$(LABEL_VENV)/.stamp: $(LABEL_APP)/requirements.txt $(LABEL_APP)/requirements-no-deps.txt constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "error: '$(PYTHON)' was not found; name a Python 3.10 to 3.12: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: MONAI Label needs Python 3.10 to 3.12, '$(PYTHON)' is another: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing MONAI Label and what it needs into $(LABEL_VENV); the first time this takes some minutes ..."
	@"$(PYTHON)" -m venv "$(LABEL_VENV)"
	@# MONAI Label needs an older pydicom than the project; all else is the project's.
	@grep -v '^pydicom==' constraints.txt > "$(LABEL_VENV)/constraints.txt"
	@$(LABEL_PIP) -c "$(LABEL_VENV)/constraints.txt" "$$(grep -o '^torch==[^ ;]*' constraints.txt)"
	@$(LABEL_PIP) -c "$(LABEL_VENV)/constraints.txt" -r $(LABEL_APP)/requirements.txt
	@$(LABEL_PIP) --no-deps -r $(LABEL_APP)/requirements-no-deps.txt
	@$(LABEL_PIP) --no-deps -e .
	@$(LABEL_BIN)/python $(LABEL_APP)/check_torchvision.py
	@touch "$@"
	@echo "Ready: $(LABEL_VENV)"

label-demo: label-venv ## start MONAI Label on the bundles' samples, for 3D Slicer and other clients
	@$(LABEL_BIN)/python $(LABEL_APP)/demo.py $(ARGS)

test: venv lone-venv ## run the tests, in WORKERS processes (2); ARGS go to pytest
	@$(MAKE) --no-print-directory label-venv || echo "Without that environment, MONAI Label's tests are skipped."
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: venv ## check style and formatting
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

format: venv ## fix what the linter can fix, and format
	@$(BIN)/python -m ruff check --fix-only .
	@$(BIN)/python -m ruff format .

clean: ## remove caches and build leftovers
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	@find . -path ./.git -prune -o -path "./$(VENV)*" -prune -o -path "./$(LABEL_VENV)" -prune \
		-o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the virtual environments too
	@rm -rf "$(VENV)" "$(LABEL_VENV)" .venv-lone
