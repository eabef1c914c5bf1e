# Two commands for a fresh machine: `make demo` and `make test`. Works with GNU make 3.81 (macOS) and newer.
#
# DEPS=no       leaves out the check of what is installed; DEPS=install installs what is missing without asking
# PROFILE       cargo profile of `make programs` and `make reproducible`
# DEMO_PROFILE  cargo profile of the demo
# PREFIX        where `make install` puts programs, completions and man pages: PREFIX/bin, PREFIX/share
# PLATFORM      of `make portable` and `make dist`: x86_64-unknown-linux-gnu.2.17, say
# SECONDS       time of each fuzz target
# DAYS          number of days that `make bench-release` makes of a month (31); CORE_HOUR_USD, GB_MONTH_USD: its rates
# SEED          repeats a run of `make chaos`

DEMO_PROFILE ?= quick
PROFILE ?= release
PREFIX ?= $(HOME)/.local
SECONDS ?= 60
OUT ?= target/demo
comma := ,
SBOM ?= target/sbom.cdx.json

# what deploy/deps.sh puts into this repository
export PATH := $(CURDIR)/.tools/bin:$(PATH)

ifeq ($(DEPS),no)
need = @:
else ifeq ($(DEPS),install)
need = @deploy/deps.sh --install
else
need = @deploy/deps.sh
endif

# Both programs, always chosen in these words, so that what they depend on has the same features in each build.
programs = -p edp-coordinator -p edp-worker --bins --locked

# The programs are the same to the last byte wherever they are built: neither the directory of the sources nor that of the
# crates is in them, nor the date, which is that of the last commit. deploy/cmake keeps what HDF5 would write down out.
crates = $(or $(CARGO_HOME),$(HOME)/.cargo)
maps = $(foreach flag,$(1),$(flag)=$(CURDIR)=/edp $(flag)=$(crates)=/cargo)
anywhere = SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
	RUSTFLAGS="$$RUSTFLAGS $(call maps,--remap-path-prefix)" \
	CFLAGS="$$CFLAGS $(call maps,-ffile-prefix-map)" CXXFLAGS="$$CXXFLAGS $(call maps,-ffile-prefix-map)"

# where cargo puts what it builds with a profile: $(1)
built = $(or $(CARGO_TARGET_DIR),target)/$(patsubst dev,debug,$(1))

# Says what is coming where nothing was built before. $(1): the directory, $(2): the words.
first_time = @[ -d '$(1)' ] || echo '$(2)'

# Builds the programs, which the end-to-end tests start, and runs the tests by cargo-nextest if it is there, otherwise
# by cargo itself.
# $(1): text that names of tests must contain, $(2): words for nextest, $(3): words for cargo's own runner.
define run_tests
set -e; \
cargo build --workspace --bins --tests --locked; \
if EDP_PYTHON=$$(deploy/deps.sh --python); then export EDP_PYTHON; else unset EDP_PYTHON; fi; \
if EDP_CHECKERS=$$(deploy/deps.sh --checkers); then export EDP_CHECKERS; else unset EDP_CHECKERS; fi; \
if EDP_AWS=$$(deploy/deps.sh --aws); then export EDP_AWS; else unset EDP_AWS; fi; \
if cargo nextest --version >/dev/null 2>&1; then \
	cargo nextest run --workspace --locked $(2) $(1); \
else \
	cargo test --workspace --locked --lib --bins --tests $(1) -- $(3); \
fi
endef

# nextest does not run the examples in the documentation. First, so that the runner's summary comes last.
doctests = cargo test --workspace --locked --quiet --doc

SCRIPTS = deploy/deps.sh deploy/cmake deploy/dist.sh deploy/portable.sh deploy/rabbitmq-4.sh deploy/reproducible.sh .ci/run \
	deploy/hpc/broker deploy/hpc/submit deploy/hpc/jobs.sh deploy/hpc/next.sh $(wildcard deploy/hpc/slurm/*.sh deploy/hpc/pbs/*.sh) \
	deploy/aws/start-instance deploy/aws/end-instance deploy/aws/prepare-broker deploy/aws/batch/submit tests/tests/hpc/pbs.sh

.PHONY: help deps programs build install portable dist demo test lint advisories sbom reproducible conformance bench \
	bench-release chaos rabbitmq-4 arm64 check-all fuzz doc clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

deps: ## install what building, testing and linting need
	@deploy/deps.sh --install test lint

build: ## both programs, optimized
	$(need) build
	$(call first_time,$(call built,release),Building the programs with their libraries the first time: some 15 minutes on two cores.)
	@$(MAKE) --no-print-directory programs PROFILE=release

# both programs, with a profile, without any path or date of this machine in them
programs:
	$(anywhere) cargo build --profile $(PROFILE) $(programs)

reproducible: ## builds both programs in two directories, and compares them (PROFILE=release)
	$(need) build
	deploy/reproducible.sh $(PROFILE)

sbom: ## what the programs consist of, as CycloneDX (SBOM=target/sbom.cdx.json)
	$(need) build
	@mkdir -p '$(dir $(SBOM))'
	deploy/sbom.py >'$(SBOM)'

install: build ## both programs, with completions and man pages, below PREFIX (~/.local)
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(call built,release)/edp-coordinator $(call built,release)/edp-worker '$(DESTDIR)$(PREFIX)/bin'
	$(call built,release)/edp-coordinator pages '$(DESTDIR)$(PREFIX)/share'
	$(call built,release)/edp-worker pages '$(DESTDIR)$(PREFIX)/share'

portable: ## both programs for every Linux since glibc 2.17, by Zig's compiler (PLATFORM=x86_64-unknown-linux-gnu.2.17)
	$(need) build portable
	$(anywhere) deploy/portable.sh $(PLATFORM)

# The host's triple as rustc has it; what `make dist` calls programs of `make build`.
host = $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

dist: $(if $(PLATFORM),portable,build) ## release archive in target/dist (PLATFORM=... for portable programs; deploy/dist.sh on signatures)
	deploy/dist.sh $(if $(PLATFORM),$(or $(CARGO_TARGET_DIR),target)/$(firstword $(subst ., ,$(PLATFORM)))/release $(PLATFORM),$(call built,release) $(host))

demo: ## the main job with nothing at hand: small grid, granules, verification, a picture (OUT=target/demo)
	$(need) build
	$(call first_time,$(call built,$(DEMO_PROFILE)),Building the programs with their libraries the first time: some minutes; below 2 GB in $(call built,$(DEMO_PROFILE)).)
	cargo build --profile $(DEMO_PROFILE) $(programs)
	$(call built,$(DEMO_PROFILE))/edp-coordinator demo --out $(OUT)

# words for nextest that leave the tests on real data out, where there are none
without_data = $(if $(and $(EDP_REAL_DATA),$(wildcard $(EDP_REAL_DATA)/.)),,-E 'not test(real_data)')

# Real data are left out here, so that a pass means the same on every machine.
test: ## all tests that need this repository alone
	$(need) test
	$(call first_time,$(call built,dev),Building the programs and all tests the first time: some 20 minutes on two cores; some 8 GB in $(call built,dev). The tests themselves take some minutes more.)
	cargo build --workspace --bins --tests --locked
	$(doctests)
	@unset EDP_REAL_DATA EDP_REAL_TOOLS; $(run_tests)

lint: ## format, clippy, dependencies, shell scripts
	$(need) lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	@$(MAKE) --no-print-directory advisories
	shellcheck $(SCRIPTS)

# Known flaws of the dependencies. Their database is fetched from GitHub; ADVISORIES=required makes it an error if that
# cannot be, for a pipeline that is to find them.
advisories: ## known flaws of dependencies, where their database can be reached (ADVISORIES=required)
	@if $$(command -v timeout >/dev/null && echo timeout 120) cargo deny --locked --log-level off fetch db >/dev/null 2>&1; then \
		echo 'cargo deny --locked check --hide-inclusion-graph advisories'; \
		cargo deny --locked check --hide-inclusion-graph advisories; \
	elif [ '$(ADVISORIES)' = required ]; then \
		echo 'advisories: NOT CHECKED: their database (github.com/rustsec/advisory-db) cannot be reached from here' >&2; \
		exit 1; \
	else \
		echo 'advisories: NOT CHECKED: their database (github.com/rustsec/advisory-db) cannot be reached from here'; \
	fi

# Tests on real data carry `real_data` in their path or name. They are ignored elsewhere, and fail without the data. Whole
# catalogues take many minutes, and are for `make check-all`.
conformance: ## tests on real data (EDP_REAL_DATA: their folder, EDP_REAL_TOOLS: the reference tools)
	@if [ ! -d "$$EDP_REAL_DATA" ]; then echo 'make conformance: set EDP_REAL_DATA to the folder of the real data' >&2; exit 2; fi
	@if [ ! -d "$$EDP_REAL_TOOLS" ]; then echo 'make conformance: set EDP_REAL_TOOLS to the folder of the reference tools' >&2; exit 2; fi
	$(need) test
	@$(call run_tests,,--run-ignored=all -E 'test(real_data) - test(real_data_catalogue)',real_data --include-ignored --skip real_data_catalogue)

bench: ## how fast granules are made, beside what the format costs (EDP_REAL_DATA, EDP_REAL_TOOLS: on the real grid)
	$(need) test
	$(anywhere) cargo build --release --workspace --bins --locked --quiet
	@if EDP_PYTHON=$$(deploy/deps.sh --python); then export EDP_PYTHON; fi; \
	$(anywhere) cargo bench --locked --quiet --workspace --bench encoder --bench granules --bench messages
	@$(kernels)

# The month is a long run, so the programs are those of `make build`; PROFILE=quick is built in a few minutes, and slower.
bench-release: ## what a month of Release 6 costs (EDP_REAL_DATA; DAYS=31, CORE_HOUR_USD=0.05, GB_MONTH_USD=0.023, PROFILE)
	$(need) test
	$(anywhere) cargo build --profile $(PROFILE) --workspace --bins --locked --quiet
	@$(foreach name,DAYS CORE_HOUR_USD GB_MONTH_USD,$(if $($(name)),$(name)='$($(name))')) \
	$(anywhere) cargo bench --profile $(PROFILE) --locked --quiet --workspace --bench month

# Instructions a value, held to limits; nothing is counted where valgrind is not installed.
kernels = $(anywhere) cargo bench --locked --quiet --workspace --bench kernels

chaos: ## productions with everything going wrong that can (SEED=N repeats one, EDP_SCENARIOS=a,b chooses; doc/faults.md)
	$(need) test
	cargo build --workspace --bins --locked --quiet
	$(if $(SEED),SEED=$(SEED)) cargo test --locked --quiet --workspace --test cluster chaos_on_a_broker -- --include-ignored --nocapture

# Everything that starts a broker once more, on RabbitMQ 4.
define on_rabbitmq_4
set -e; \
root=$(CURDIR)/.tools/rabbitmq-4; \
if [ ! -d $$root ]; then echo 'RabbitMQ 4: left out; deploy/rabbitmq-4.sh makes one'; exit 0; fi; \
export EDP_RABBITMQ_ROOT=$$root; $(call run_tests,on_a_broker)
endef

rabbitmq-4: ## the tests that start a broker, on RabbitMQ 4 (deploy/rabbitmq-4.sh makes one)
	$(need) test
	@$(on_rabbitmq_4)

# The bytes of the encoder must be the same on every processor; they are compared with recorded ones.
define on_arm64
set -e; \
target=aarch64-unknown-linux-gnu; \
if ! command -v qemu-aarch64-static >/dev/null || ! command -v aarch64-linux-gnu-gcc >/dev/null \
	|| [ ! -d $$(rustc --print sysroot)/lib/rustlib/$$target ]; then \
	echo "arm64: left out; it needs qemu-user-static, gcc-aarch64-linux-gnu, and rustup target add $$target"; exit 0; \
fi; \
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64-static -L /usr/aarch64-linux-gnu'; \
cargo test --locked --quiet -p edp-encoder --lib --tests --target $$target
endef

arm64: ## the tests of the encoder on an emulated processor of another kind
	@$(on_arm64)

check-all: lint ## everything, the slow tests too; those on real data where EDP_REAL_DATA is set
	$(need) test slurm image
	$(doctests)
	@$(kernels)
	@if [ ! -d "$$EDP_REAL_DATA" ]; then echo 'real data: NOT CHECKED: EDP_REAL_DATA is not set'; fi
	@$(call run_tests,,--run-ignored=all $(without_data),--include-ignored $(if $(without_data),--skip real_data))
	@$(on_rabbitmq_4)
	@$(on_arm64)
	deploy/reproducible.sh release
	@$(MAKE) --no-print-directory dist PLATFORM=$$(uname -m)-unknown-linux-gnu.2.17

# The compiler's instrumentation is behind a switch that only nightly compilers have open. netCDF-C and HDF5 get the same
# sanitizer and the same counters where clang is found; a crash of theirs does not end the run, since the programs are
# protected from it. What a run finds out by itself goes to fuzz/work, what brought a parser down to fuzz/artifacts; see
# doc/fuzzing.md.
clang := $(firstword $(foreach name,clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14,$(shell command -v $(name))))
# An allocation that is too large fails, as it does without the sanitizer.
fuzz: ## every parser against made-up input (SECONDS=60 for each, TARGETS="header npz" for some)
	$(need) build
	@if ! cargo fuzz --version >/dev/null 2>&1; then \
		echo 'make fuzz: needs cargo-fuzz: cargo install cargo-fuzz --locked' >&2; exit 2; \
	fi
	@set -e; export RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=allocator_may_return_null=1; \
	$(if $(clang),export CC=$(clang) CFLAGS='-fsanitize=address$(comma)fuzzer-no-link -g1';) \
	for target in $(or $(TARGETS),$$(cargo fuzz list) $$(cargo fuzz list --fuzz-dir fuzz/programs)); do \
		directory=fuzz; more=; \
		[ -f fuzz/fuzz_targets/$$target.rs ] || directory=fuzz/programs; \
		[ $$target != netcdf ] || more='-fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1'; \
		mkdir -p fuzz/work/$$target; \
		cargo fuzz run --fuzz-dir $$directory $$target fuzz/work/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 $$more; \
	done

doc: ## the documentation of the code, in target/doc
	$(need) build
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --locked --no-deps

clean: ## remove what was built (keeps .tools)
	cargo clean
