#!/usr/bin/env bash
# Cross-compiles the library for 64-bit ARM and runs the op tests on it under qemu-user: on an arm64
# Debian's Python, numpy and ONNX Runtime, with the NEON kernels and the generic ones.
#
#   PYTHON=.venv/bin/python tests/tools/aarch64.sh [pytest arguments]
#
# Without arguments all tests of kernels and of the library run, none shortened. The reference bodies
# alone, builder and runtime are the same Python on every machine and stay out.
#
# The machine needs g++-aarch64-linux-gnu and qemu-user; root with apt-get installs what is missing.
# The rest lies in build/aarch64 and touches nothing else: Debian's packages are only unpacked there.
set -euo pipefail
cd "$(dirname "$0")/../.."
host_python=$("${PYTHON:-python3}" -c "import sys; print(sys.executable)")
PATH=$(dirname "$host_python"):$PATH  # CMake comes with the test extra
folder=$PWD/build/aarch64
arm_python=$folder/python
mkdir -p "$folder"

fail() {
  echo "tests/tools/aarch64.sh: $1" >&2
  exit 2
}

have_tools() { command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64; } >/dev/null

install_tools() {
  local packages="g++-aarch64-linux-gnu qemu-user"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "no aarch64-linux-gnu-g++ or no qemu-aarch64 -> install Debian's $packages"
  fi
  echo "installing $packages"
  { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $packages
  } >"$folder/tools.log" 2>&1 || true
  have_tools || fail "apt-get could not install $packages, see $folder/tools.log"
}

# An arm64 Python out of Debian's packages, with an apt of its own that knows no installed package.
unpack_root() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "no apt-get or no dpkg-deb -> an arm64 Python needs a Debian"
  local apt=$folder/apt package
  mkdir -p "$apt"/{lists,archives}/partial
  : >"$apt/status"
  local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=1 -o Acquire::Languages=none)
  { apt-get "${options[@]}" update &&
    apt-get "${options[@]}" install --yes --no-install-recommends --download-only python3 libstdc++6
  } >"$folder/apt.log" 2>&1 || fail "apt-get could not fetch arm64 packages, see $folder/apt.log"
  rm -rf "$folder/root"
  mkdir "$folder/root"
  for package in "$apt"/archives/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
  rm -rf "$apt"
  # ONNX Runtime asks /proc/cpuinfo for ARM's fields and does not survive an x86 machine's file.
  mkdir "$folder/root/proc"
  for ((i = 0; i < $(getconf _NPROCESSORS_CONF); ++i)); do
    printf 'processor\t: %d\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n' "$i"
  done >"$folder/root/proc/cpuinfo"
  touch "$folder/root/.ready"
}

# A Neoverse N1 has ARMv8.2 with dot products, and nothing newer that would hide a wrong flag. The
# script takes Python's place in sys.executable, so that processes which tests start run on it too.
write_python() {
  cat >"$arm_python" <<END
#!/bin/sh
exec qemu-aarch64 -cpu "\${QEMU_CPU:-neoverse-n1}" -L "$folder/root" \\
  -E "PYTHONHOME=$folder/root/usr" -E "PYTHONPATH=$folder/package:$folder/site" \\
  -0 "\$0" "$folder/root/usr/bin/python3" "\$@"
END
  chmod +x "$arm_python"
}

# The package's dependencies and those of its tests, as wheels for arm64.
install_wheels() {
  "$host_python" - >"$folder/requirements.new" <<'END'
import importlib.metadata as metadata
import re

for line in metadata.requires("ferrum"):
    name, _, marker = line.partition(";")
    if "extra" not in marker or re.search("extra == .test.", marker):
        print(name)
END
  cmp -s "$folder/requirements.new" "$folder/requirements.txt" && return
  local version platforms=() minor
  version=$("$arm_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  for minor in {17..36}; do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
  rm -rf "$folder/site"
  "$host_python" -m pip install --quiet --target "$folder/site" --only-binary=:all: \
    --implementation cp --python-version "$version" "${platforms[@]}" \
    --platform manylinux2014_aarch64 --requirement "$folder/requirements.new"
  mv "$folder/requirements.new" "$folder/requirements.txt"
}

build_library() {
  cmake -S custom_ops -B "$folder/library" -DCMAKE_TOOLCHAIN_FILE="$PWD/custom_ops/aarch64.cmake" \
    -DCMAKE_BUILD_TYPE=Release -DFERRUM_CUDA=OFF -DPython_EXECUTABLE="$host_python" >"$folder/library.log" 2>&1 ||
    { cat "$folder/library.log"; exit 1; }
  cmake --build "$folder/library" --parallel 2
}

# ferrum as it installs: copies, so that the arm64 library does not land in the checkout.
install_package() {
  rm -rf "$folder/package"
  mkdir -p "$folder/package/ferrum"
  cp packaging/init.py.in "$folder/package/ferrum/__init__.py"
  cp -R builder commands custom_ops models runtime "$folder/package/ferrum"
  cmake --install "$folder/library" --prefix "$folder/package" >/dev/null
}

# Fails unless a CPU runs just these instruction sets, best first.
expect() {
  local found
  found=$(QEMU_CPU=$1 "$arm_python" -c \
    'from ferrum.custom_ops.library import describe; print(*describe()["isas"])')
  [ "$found" = "$2" ] || { echo "on a $1 the library runs '$found', not '$2'" >&2; exit 1; }
  echo "$1: $found"
}

have_tools || install_tools
[ -e "$folder/root/.ready" ] || unpack_root
write_python
install_wheels
build_library
install_package
expect neoverse-n1 "neon generic"
expect cortex-a72 "generic"  # no dot products: nothing else may need what it lacks

export FERRUM_LIBRARY=$folder/library/libferrum_ops.so NM=aarch64-linux-gnu-nm
if [ $# -eq 0 ]; then
  set -- tests/custom_ops/native tests/custom_ops/test_library.py --ignore tests/custom_ops/native/cuda
fi
# The profile leaves the number of examples and takes no offence at their time.
exec "$arm_python" -m pytest -q -n 2 -p no:cacheprovider --hypothesis-profile=ci "$@"
