#!/usr/bin/env bash
# Puts both programs and everything that belongs to them into a release archive.
#
#   deploy/dist.sh PROGRAMS TARGET [OUT]
#       PROGRAMS  directory with edp-coordinator and edp-worker
#       TARGET    the platform they are for, such as x86_64-unknown-linux-gnu: part of the name, and for the bill of materials
#       OUT       directory of the archive (target/dist)
#
# Makes OUT/edp-VERSION-TARGET.tar.gz and OUT/edp-VERSION-TARGET.tar.gz.sha256. With EDP_SIGN_GPG=KEY, gpg signs it as that
# key (.asc); with EDP_SIGN_MINISIGN=FILE, minisign by that secret key (.minisig). The same programs give the same archive to
# the last byte: entries are sorted, belong to root, and have the date of the last commit (SOURCE_DATE_EPOCH). Completions and
# man pages are written by the programs; programs for another processor cannot be run here, so EDP_PAGES may name a directory
# with programs of this machine that write them.
set -euo pipefail

say() { printf 'dist: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

[ $# -ge 2 ] || fail 'usage: deploy/dist.sh PROGRAMS TARGET [OUT]'
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=$1 target=$2 out=${3:-$root/target/dist}
pages=${EDP_PAGES:-$programs}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
name=edp-$version-$target

tar=tar
! command -v gtar >/dev/null || tar=gtar
"$tar" --version 2>/dev/null | grep 'GNU tar' >/dev/null || fail 'GNU tar is needed: install it as gtar (brew install gnu-tar)'
if command -v sha256sum >/dev/null; then sha256() { sha256sum "$@"; }; else sha256() { shasum -a 256 "$@"; }; fi

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
tree=$staging/$name

install -d "$tree/bin" "$tree/share/doc/edp" "$tree/share/edp/aws" "$tree/share/edp/machine" \
    "$tree/modulefiles/edp"
for program in edp-coordinator edp-worker; do
    [ -x "$programs/$program" ] || fail "$programs/$program is not there: run 'make build' first"
    install -m 755 "$programs/$program" "$tree/bin"
    "$pages/$program" pages "$tree/share"
done
for page in README.md GUIDE.md CHANGELOG.md LICENSE LICENSES-third-party.md; do
    install -m 644 "$root/$page" "$tree/share/doc/edp"
done
cp -R "$root/doc" "$tree/share/doc/edp/doc"
cp -R "$root/deploy/machine/." "$tree/share/edp/machine"
cp -R "$root/deploy/aws/." "$tree/share/edp/aws"
"$root/deploy/sbom.py" "${target%%.*}" >"$tree/share/edp/sbom.cdx.json"
sed "s/@VERSION@/$version/g" "$root/deploy/modulefile" >"$tree/modulefiles/edp/$version"
chmod -R u=rwX,go=rX "$tree"
(cd "$tree" && find . -type f | sed 's|^\./||' | LC_ALL=C sort | while IFS= read -r file; do sha256 "$file"; done) >"$staging/sums"
mv "$staging/sums" "$tree/SHA256SUMS"

mkdir -p "$out"
archive=$name.tar.gz
(cd "$staging" && LC_ALL=C "$tar" --create --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
    --numeric-owner "$name" | gzip -n -9) >"$out/.$archive"
mv "$out/.$archive" "$out/$archive"
(cd "$out" && sha256 "$archive" >"$archive.sha256")
if [ -n "${EDP_SIGN_GPG:-}" ]; then
    gpg --batch --yes --local-user "$EDP_SIGN_GPG" --armor --output "$out/$archive.asc" --detach-sign "$out/$archive"
fi
if [ -n "${EDP_SIGN_MINISIGN:-}" ]; then
    minisign -S -s "$EDP_SIGN_MINISIGN" -m "$out/$archive" -x "$out/$archive.minisig"
fi
say "$out/$archive ($(($(wc -c <"$out/$archive") / 1000000)) MB)"
