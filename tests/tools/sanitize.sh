#!/usr/bin/env bash
# Runs the op tests on a library built with AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   PYTHON=.venv/bin/python tests/tools/sanitize.sh [--cuda] [pytest arguments]
#
# With --cuda the CUDA kernels', emulated on the CPU: make test-cuda-sanitized.
# Any read or write outside a buffer and any undefined behaviour ends the run with a report.
set -eu
cd "$(dirname "$0")/../.."
python=$("${PYTHON:-python3}" -c "import sys; print(sys.executable)")
PATH=$(dirname "$python"):$PATH  # CMake comes with the test extra
build=build/sanitized cuda=-DFERRUM_CUDA=OFF
tests=(tests/custom_ops/native tests/custom_ops/test_library.py tests/attacks/test_node_inputs.py)
if [ "${1:-}" = --cuda ]; then
  shift
  build=build/sanitized-cuda cuda=-DFERRUM_CUDA_ON_CPU=ON
  tests=(tests/custom_ops/native/cuda)
fi
mkdir -p build
compiler=${CXX:-c++}

cmake -S custom_ops -B "$build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 \
  -DFERRUM_SANITIZE=ON $cuda -DPython_EXECUTABLE="$python" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
cmake --build "$build" --parallel 2

# libstdc++ beside it: AddressSanitizer looks for __cxa_throw when it starts, before Python loads it.
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"
export LD_PRELOAD
export PYTHONMALLOC=malloc  # Python's own pools would hide an overflow
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export FERRUM_LIBRARY="$PWD/$build/libferrum_ops.so" CUDA_ON_CPU="$PWD/$build/libferrum_ops.so"
if [ $# -eq 0 ]; then
  set -- "${tests[@]}"
  # but for what looks at objects, to which sanitizers add symbols, and what --cuda is for
  [ "$cuda" != -DFERRUM_CUDA=OFF ] || set -- "$@" --ignore tests/custom_ops/native/cuda \
    --ignore tests/custom_ops/native/cpu/test_isa_objects.py
fi
exec "$python" -m pytest -q -n 2 -p no:cacheprovider "$@"
