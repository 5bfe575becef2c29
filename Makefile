# make demo   build, export the sample model, generate text
# make test   the whole test suite
# Both set up .venv themselves; they need Python 3.10+, a C++17 compiler and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLE := models/samples/tinycode-Q4_K_M.gguf
NATIVE := $(shell find custom_ops/native custom_ops/CMakeLists.txt custom_ops/cuda.cmake -type f 2>/dev/null)

.PHONY: demo test test-native test-aarch64 test-cuda-sanitized test-cuda-stub test-gpu test-onnxruntime test-bench test-node test-page test-ray lint typecheck accuracy setup clean

setup: $(VENV)/.test-ready

$(VENV)/.venv-ready:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "ferrum needs Python 3.10 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# Python files are used from the checkout; a change of the native sources builds the library anew.
$(VENV)/.ready: $(VENV)/.venv-ready pyproject.toml packaging/init.py.in $(NATIVE)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test-ready: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[test,lint,genai]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/ferrum-build $(SAMPLE) out/demo/tinycode.onnx --force
	@printf '%s\n' '--- the prompt:' 'class Node:' '    def __init__(self' '--- its continuation:'
	@$(BIN)/ferrum-run out/demo/tinycode.onnx --max-tokens 80 --temperature 0.8 --top-p 0.95 \
		--seed 1 -p "$$(printf 'class Node:\n    def __init__(self')"

# A library whose CPU kernels are the CUDA ones, emulated: their tests need no GPU.
CUDA_ON_CPU := build/cuda-on-cpu/libferrum_ops.so
$(CUDA_ON_CPU): $(VENV)/.test-ready $(NATIVE)
	mkdir -p $(dir $(@D))
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S custom_ops -B $(@D) -DCMAKE_BUILD_TYPE=Release \
		-DFERRUM_CUDA_ON_CPU=ON -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >$(@D).log 2>&1 || \
		{ cat $(@D).log; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(@D) --parallel 2

test: $(VENV)/.test-ready $(CUDA_ON_CPU)
	$(BIN)/python -m pytest tests -n 2 --dist loadfile
	PYTHON=$(BIN)/python tests/tools/sanitize.sh

test-native: $(VENV)/.test-ready $(CUDA_ON_CPU)
	$(BIN)/python -m pytest tests/custom_ops -n 2 --dist loadfile

# The op tests on a library for 64-bit ARM, emulated: needs a cross compiler and qemu-user.
test-aarch64: $(VENV)/.test-ready
	PYTHON=$(BIN)/python tests/tools/aarch64.sh

# The runtime on onnxruntime-gpu over stand-ins for the CUDA libraries: placement, captures, buffers.
# Kernels compute nothing there; what they compute is tested emulated, by `make test`.
test-cuda-stub: $(VENV)/.test-ready
	$(BIN)/python tests/tools/with_cuda_stub.py

# The emulated CUDA kernels with the sanitizers: the compiler alone takes ten minutes.
test-cuda-sanitized: $(VENV)/.test-ready
	PYTHON=$(BIN)/python tests/tools/sanitize.sh --cuda

# Everything that needs a GPU; see tests/gpu/run.sh for what ONNXRUNTIME_GPU is.
test-gpu:
	PYTHON=$(PYTHON) tests/gpu/run.sh $(ONNXRUNTIME_GPU)

# Node.js is needed here alone, so this is no part of `make test`.
# The oldest ONNX Runtime that the package claims to support, and the newest there is.
test-onnxruntime: $(VENV)/.test-ready $(CUDA_ON_CPU)
	$(BIN)/python tests/tools/with_onnxruntime.py oldest -n 2 --dist loadfile \
		tests/custom_ops tests/models tests/builder tests/runtime tests/attacks tests/test_readme.py
	$(BIN)/python tests/tools/with_onnxruntime.py newest -n 2 --dist loadfile tests/custom_ops

test-node: $(VENV)/.test-ready
	@for tool in node npm; do command -v $$tool >/dev/null || { \
		echo "make test-node: no $$tool -> install Node.js 20 or newer, with npm" >&2; exit 2; }; done
	npm ci --prefix examples/node
	$(BIN)/python -m pytest tests/examples

# A real Chromium drives the chat page. Debian's packages are installed where one may, else named.
test-page: $(VENV)/.test-ready
	tests/tools/chromium.sh
	$(BIN)/python -c 'import selenium' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet 'selenium>=4.20'
	$(BIN)/python -m pytest tests/page

# Replicas behind Ray Serve, on this machine.
test-ray: $(VENV)/.test-ready
	$(BIN)/python -c 'from ray import serve' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet 'ray[serve]>=2.60'
	$(BIN)/python -m pytest tests/ray

# llama.cpp is built for this machine, which takes minutes: needed beside ferrum-bench alone.
test-bench: $(VENV)/.test-ready
	$(BIN)/python -c 'import llama_cpp' 2>/dev/null || CMAKE_ARGS=-DGGML_NATIVE=ON \
		$(BIN)/python -m pip install --editable '.[bench]' --no-binary llama-cpp-python
	$(BIN)/python -m pytest tests/peers

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find custom_ops/native tests/tools -name '*.h' -o -name '*.cc' -o -name '*.cu' | \
		xargs $(BIN)/clang-format --dry-run --Werror

# Type checkers do not follow editable installs, so the package is laid out as it installs.
typecheck: $(VENV)/.test-ready
	rm -rf build/typecheck && mkdir -p build/typecheck/ferrum
	cp packaging/init.py.in build/typecheck/ferrum/__init__.py
	touch build/typecheck/ferrum/py.typed
	for folder in builder commands custom_ops models runtime; do \
		ln -s ../../../$$folder build/typecheck/ferrum/$$folder; done
	MYPYPATH=build/typecheck $(BIN)/mypy --package ferrum

clean:
	rm -rf $(VENV) build out

accuracy: $(VENV)/.test-ready
	$(BIN)/python tests/tools/accuracy.py
