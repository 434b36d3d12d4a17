#!/bin/sh
# Builds the kernel half: `build.sh OBJECT [WORK]`.
#
# OBJECT is the file to be written; WORK holds intermediate files. It needs
# Debian's rustc-web (for its `core` for bpf), libstd-rust-web-dev-bpf, llvm-22
# and llvm-22-dev, and installs nothing but bpf-linker, once for each version,
# into the cache of Atoll.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
object=${1:?usage: build.sh OBJECT [WORK]}
case $object in /*) ;; *) object=$PWD/$object ;; esac
work=${2:-$here/../../target/ebpf}
linker_version=0.13.0
llvm=/usr/lib/llvm-22
packages="rustc-web libstd-rust-web-dev-bpf llvm-22 llvm-22-dev"

for package in $packages; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || {
        echo "the kernel half of the network needs Debian's $packages: apt-get install $packages" >&2
        exit 1
    }
done

cargo=${CARGO:-cargo}
cache=${ATOLL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/atoll}
tools=$cache/bpf-linker-$linker_version
if [ ! -x "$tools/bin/bpf-linker" ]; then
    echo "building bpf-linker $linker_version (once, some two minutes)" >&2
    LLVM_PREFIX=$llvm "$cargo" install bpf-linker --version "$linker_version" --locked \
        --no-default-features --features llvm-22 --root "$tools" >&2
fi

# The compiler is Debian's, whose `core` for bpf needs no build from source;
# cargo is whichever there is.
mkdir -p "$work" "$(dirname "$object")"
cd "$here"
env -u RUSTUP_TOOLCHAIN -u CARGO_ENCODED_RUSTFLAGS -u RUSTFLAGS \
    PATH="$tools/bin:$PATH" \
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_DIR="$work" CARGO_BUILD_BUILD_DIR="$work" \
    CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER=bpf-linker \
    CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS="-C target-cpu=v3 -C link-arg=--btf --remap-path-prefix=$here=." \
    "$cargo" build --locked --release --target bpfel-unknown-none >&2
cp "$work/bpfel-unknown-none/release/network" "$object.partial"
mv "$object.partial" "$object"
