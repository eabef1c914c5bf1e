#!/usr/bin/env bash
# Makes a directory with RabbitMQ 4 of Debian 13 in it, for tests on a machine whose own RabbitMQ is older.
#
#   deploy/rabbitmq-4.sh [DIRECTORY]     (.tools/rabbitmq-4 in this repository)
#
# Prints the directory; tests take it from EDP_RABBITMQ_ROOT and start the node in it by unshare and chroot. Needs root,
# debootstrap and some 500 MB. The mirror is the one that apt uses here. Does nothing if the directory is there.
set -euo pipefail

say() { printf 'rabbitmq-4: %s\n' "$*" >&2; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
directory=${1:-$repository/.tools/rabbitmq-4}
release=trixie

if [ -x "$directory/usr/lib/rabbitmq/bin/rabbitmq-server" ]; then
    printf '%s\n' "$directory"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    say 'making it needs root'
    exit 1
fi
if ! command -v debootstrap >/dev/null 2>&1; then
    say "needs debootstrap: run 'apt-get install debootstrap'"
    exit 1
fi
# shellcheck disable=SC2016 # apt's own placeholders
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
if [ -z "$mirror" ]; then
    say 'apt knows no mirror of Debian here'
    exit 1
fi

# All of it or nothing: what is half there is removed.
made=$directory.new
rm -rf "$made"
mkdir -p "$(dirname "$directory")"
trap 'rm -rf "$made"' EXIT
say "making $directory, a minute or two"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2016 # for the inner shell
if ! {
    debootstrap --variant=minbase "$release" "$made" "$mirror" &&
        # nothing is to be started in there
        printf '#!/bin/sh\nexit 101\n' >"$made/usr/sbin/policy-rc.d" && chmod 755 "$made/usr/sbin/policy-rc.d" &&
        unshare --mount sh -c 'mount --bind /proc "$1/proc" && mount --bind /dev "$1/dev" &&
            exec chroot "$1" apt-get install -y --no-install-recommends rabbitmq-server' sh "$made"
} >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "this failed; the whole of it is in $log"
    exit 1
fi
rm -rf "$log" "$made/var/cache/apt" "$made/var/lib/apt/lists"
# the node runs as whoever runs the test, and finds its files under the same names
mv "$made" "$directory"
printf '%s\n' "$directory"
