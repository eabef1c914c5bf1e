#!/usr/bin/env bash
# Builds both programs so that they run on every Linux of the last ten years: for an old glibc, by Zig's C compiler.
#
#   deploy/portable.sh [TARGET]     (x86_64-unknown-linux-gnu.2.17 or that of this machine's processor)
#
# Needs what `deploy/deps.sh portable` gets, and Rust's standard library for the target. The programs are in
# target/TARGET-WITHOUT-VERSION/release afterwards. Fails if a program asks for a newer glibc than the target names.
set -euo pipefail

say() { printf 'portable: %s\n' "$*" >&2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:-$(uname -m)-unknown-linux-gnu.2.17}
triple=${target%%.*}
glibc=${target#"$triple"}
glibc=${glibc#.}
[ -n "$glibc" ] || { say "$target names no version of glibc: write $target.2.17" && exit 2; }

cd "$root"
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
    say "Rust's standard library for $triple is not there: rustup target add $triple"
    exit 1
fi
export PATH="$root/.tools/bin:$PATH"
zig=$root/.tools/zig/ziglang/zig
[ ! -x "$zig" ] || export CARGO_ZIGBUILD_ZIG_PATH="$zig"
cargo zigbuild --release --target "$target" -p edp-coordinator -p edp-worker --bins --locked

for program in edp-coordinator edp-worker; do
    built=${CARGO_TARGET_DIR:-target}/$triple/release/$program
    newest=$(readelf --dyn-syms --wide "$built" | grep -o 'GLIBC_[0-9.]*' | sort -V -u | tail -n 1)
    libraries=$(readelf --dynamic --wide "$built" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
    say "$built: $(($(wc -c <"$built") / 1000000)) MB, newest symbol $newest, needs $libraries"
    if [ "$(printf '%s\n' "GLIBC_$glibc" "$newest" | sort -V | tail -n 1)" != "GLIBC_$glibc" ]; then
        say "$program asks for $newest, newer than $glibc"
        exit 1
    fi
done
