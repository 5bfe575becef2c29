#!/usr/bin/env bash
# All that needs a GPU, in one command on a bare machine: build, tests, sanitizer, speeds.
#
#   tests/gpu/run.sh ONNXRUNTIME [OUT]
#
# ONNXRUNTIME is a folder with onnxruntime-gpu (what pack_ort_gpu.py unpacks, or pip installs with
# --target); OUT takes logs and JSON (default: build/gpu/out). The machine needs Python 3.10+, nvcc,
# and the package's dependencies; nothing is fetched. GPU_STEPS names some of the steps (default:
# all), GPU_WHEELS a folder of wheels that the machine lacks. A step that fails does not keep the next
# from running; the exit status tells. After GPU_SECONDS (default: 530) all is over: the step that is
# under way is ended, and those that are left are named. GPU_MODEL is what synthetic.py is told of the
# models, and GPU_WORK where they are kept: tests/cuda/test_gpu_script.py runs the speeds on small
# ones, over stand-ins for CUDA's libraries.
set -uo pipefail
cd "$(dirname "$0")/../.."
ort=$(cd "${1:?usage: tests/gpu/run.sh ONNXRUNTIME [OUT]}" && pwd)
out=${2:-build/gpu/out}
all="build ops sample sanitize bench4 bench48 batch48 tiles48 layout48 f16_48 host kernels"
steps=${GPU_STEPS:-$all}
model=${GPU_MODEL:---preset qwen3-30b-a3b}
work=${GPU_WORK:-build/gpu}
end=${GPU_SECONDS:-530}
python=${PYTHON:-python3}
site=$PWD/build/gpu/site
mkdir -p "$out" "$work"
# The CUDA libraries that ONNX Runtime needs come with PyTorch's wheels.
cuda=$("$python" - <<'END'
import importlib.util
from pathlib import Path
found = importlib.util.find_spec("nvidia")
roots = [Path(p) for p in found.submodule_search_locations] if found else []
print(":".join(str(lib) for root in roots for lib in sorted(root.glob("*/lib"))))
END
)
export LD_LIBRARY_PATH=$cuda:${LD_LIBRARY_PATH:-}
export PYTHONPATH=$ort:$site PYTHONUNBUFFERED=1
export PATH=$site/bin:$PATH
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
summary=$out/summary.txt
: >"$summary"

# step NAME SECONDS COMMAND...: its output goes to OUT/NAME.log, one line to the summary.
step() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  [[ " $steps " == *" $name "* ]] || return 0
  if [ "$start" -ge "$end" ]; then
    failed=1
    printf '%-9s no time left\n' "$name" | tee -a "$summary"
    return
  fi
  [ $((end - start)) -ge "$limit" ] || limit=$((end - start))
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  [ $status -eq 0 ] || failed=1
  printf '%-9s %-6s %4d s  %s\n' "$name" "$([ $status -eq 0 ] && echo ok || echo "$status")" \
    $((SECONDS - start)) "$(tail -1 "$out/$name.log" | cut -c1-150)" | tee -a "$summary"
}

build() {
  if [ -n "${GPU_WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" \
      "$GPU_WHEELS"/*.whl || return
  fi
  CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$python" -m pip install -q --no-index --no-deps \
    --no-build-isolation --upgrade --target "$site" -C cmake.define.FERRUM_CUDA=ON \
    -C "cmake.define.FERRUM_CUDA_ARCHITECTURES=$capability" .
}

# bench LAYERS[-cuda] ARGUMENTS...: ferrum-bench on a synthetic model of that many layers, with -cuda
# on weights that are re-laid for it.
bench() {
  local name=$1 layers=${1%-cuda} layout=file
  [ "$name" = "$layers" ] || layout=cuda
  shift
  local gguf=$work/$layers/q.gguf onnx=$work/$name/q.onnx
  mkdir -p "$work/$layers"
  # shellcheck disable=SC2086  # several options
  [ -e "$gguf" ] || "$python" tests/tools/synthetic.py "$gguf" $model --layers "$layers" \
    --mixture Q4_K_M || return
  [ -e "$onnx" ] || ferrum-build --force --layout $layout "$gguf" "$onnx" || return
  FERRUM_DEVICE=cuda ferrum-bench "$onnx" --json "$(mktemp --suffix .json "$out/$name-XXXX")" "$@"
}

# The same speeds of the same file with float16 activations.
f16() {
  local from=$work/48/q.gguf to=$work/48-f16/q.onnx
  [ -e "$from" ] || bench 48 --prefill 16 --decode "" >/dev/null || return
  ferrum-build --force --dtype f16 "$from" "$to" || return
  export FERRUM_DEVICE=cuda
  ferrum-bench "$to" --json "$out/f16.json" --prefill 2048 --decode 64 --repeat 2 &&
    ferrum-bench "$to" --json "$out/f16-batch.json" --prefill "" --decode 64 --batch 16,64 --repeat 2
}

# A model that takes the GPU next to no time: what is left of a step is the host's.
host() {
  ferrum-build --force models/samples/tinycode-Q4_K_M.gguf "$work/sample/model.onnx" &&
    FERRUM_DEVICE=cuda ferrum-bench "$work/sample/model.onnx" --prefill "" --decode 256 \
      --context 16 --json "$out/host.json"
}

kernels() {
  local arguments
  for arguments in "" "--batch 16" "--batch 64" "--context 4096" "--tokens 2048"; do
    echo "== 4 layers: $arguments"
    [ -e "$work/4/q.onnx" ] || bench 4 --prefill 16 --decode "" >/dev/null || return
    "$python" tests/gpu/kernel_times.py "$work/4/q.onnx" $arguments || return
  done
  for arguments in "" "--batch 16" "--batch 64"; do
    echo "== 4 layers, re-laid: $arguments"
    [ -e "$work/4-cuda/q.onnx" ] || bench 4-cuda --prefill 16 --decode "" >/dev/null || return
    "$python" tests/gpu/kernel_times.py "$work/4-cuda/q.onnx" $arguments || return
  done
}

failed=0
export -f build bench f16 host kernels
export python site capability out model work
{ nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  git log -1 --format='ferrum at %h' 2>/dev/null; } | tee -a "$summary"
step build 180 bash -c build
export TEST_DEVICE=cuda
step ops 150 "$python" -m pytest -q -p no:benchmark --maxfail 20 -n 6 tests/custom_ops/native/cuda
step sample 120 "$python" -m pytest -q -s tests/gpu
# Looking a kernel up in the modules one after the other misses in some, which is no error of ours.
step sanitize 120 compute-sanitizer --target-processes all --report-api-errors no \
  --error-exitcode 1 "$python" -m pytest \
  -q -p no:benchmark -n 8 tests/custom_ops/native/cuda \
  -k "not odd_shapes and not every_type and not bfloat16"
step bench4 90 bash -c 'bench 4 --prefill 512,2048 --decode 128 --repeat 3'
step bench48 120 bash -c 'bench 48 --prefill 2048 --decode 64 --context 128,4096 --repeat 3'
step batch48 120 bash -c 'bench 48 --prefill "" --decode 64 --batch 16,64 --repeat 3'
# Tiles of 16 for experts' pairs, where auto chooses 8.
step tiles48 90 bash -c 'FERRUM_MOE_BLOCK_SIZE=16 bench 48 --prefill "" --decode 64 --batch 16,64 \
  --repeat 2'
# The same beside weights that are re-laid: compare with bench* and batch* of the same run.
step layout48 120 bash -c 'bench 48-cuda --prefill 2048 --decode 64 --repeat 2 &&
  bench 48-cuda --prefill "" --decode 64 --batch 16,64 --repeat 2'
step f16_48 120 bash -c f16
step host 60 bash -c host
step kernels 120 bash -c kernels
for log in "$out"/{bench4,bench48,batch48,tiles48,layout48,f16_48,host}.log; do
  grep -E "^(prefill|decode) [0-9]" "$log" 2>/dev/null | sed "s|^|$(basename "$log" .log): |"
done
exit $failed
