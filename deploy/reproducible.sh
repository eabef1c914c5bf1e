#!/usr/bin/env bash
# Builds both programs twice, from copies of what is here in two directories, and compares them byte by byte.
#
#   deploy/reproducible.sh [PROFILE]     (release)
#
# Copies are the files that git knows, as they are now. Each is built by `make programs`, in a target directory of its own.
# Exit 0: the programs are the same. 1: they differ, and what was built is kept for a look.
set -euo pipefail

say() { printf 'reproducible: %s\n' "$*" >&2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=${1:-release}
cd "$root"

work=$(mktemp -d)
keep=no
remove_work() { [ $keep = yes ] || rm -rf "$work"; }
trap remove_work EXIT

# One date for both: it is in the netCDF library.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# and nothing that says where things are here
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR

# Names of other lengths and depths: a path that got into a program would move whatever lies behind it.
one=$work/one
two=$work/a-longer-name/of/the-second
for directory in "$one" "$two"; do
    mkdir -p "$directory"
    git ls-files -z | while IFS= read -r -d '' file; do
        # one that was removed and not committed yet is not there
        [ -e "$file" ] || continue
        mkdir -p "$directory/$(dirname "$file")"
        cp -p "$file" "$directory/$file"
    done
    # what deploy/deps.sh has put there need not be fetched again
    [ ! -d .tools ] || ln -s "$root/.tools" "$directory/.tools"
    say "building in $directory"
    make -C "$directory" --no-print-directory programs PROFILE="$profile" DEPS=no >&2
done

built=target/$profile
[ "$profile" != dev ] || built=target/debug
differ=no
for program in edp-coordinator edp-worker; do
    if cmp "$one/$built/$program" "$two/$built/$program" >&2; then
        say "$program is the same: $(sha256sum <"$one/$built/$program" | cut -d ' ' -f 1)"
    else
        differ=yes
    fi
    # also the same on another machine: no path of this one is in it
    for path in "$work" "${CARGO_HOME:-$HOME/.cargo}" "$root"; do
        if grep -qaF -- "$path/" "$one/$built/$program"; then
            say "$program has a path of this machine in it: $path"
            differ=yes
        fi
    done
done
if [ $differ = yes ]; then
    keep=yes
    say "kept for a look: $one/$built, $two/$built"
    exit 1
fi
