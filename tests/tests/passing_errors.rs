//! Transient errors of a disk: one read or write that fails is not the fault of a recipe.

use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, count, expect, files, json, strace, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SIZE: usize = 8;

struct Site {
    fixture: Fixture,
    recipes: usize,
}

impl Site {
    fn new() -> Site {
        let fixture = Fixture::new(SIZE);
        let list = fixture.plan(&fixture.path("reference"), "reference.json", &[]);
        let recipes = recipe::parse_list("list", &fs::read(list).unwrap()).unwrap().len();
        assert_eq!(recipes, 24);
        Site { fixture, recipes }
    }

    /// Runs a new production while something happens to system calls. Also returns the number of times that it did.
    fn run(&self, name: &str, calls: &str, what: &str, file: Option<&Path>) -> (Output, PathBuf, usize) {
        let out = self.fixture.path(name);
        let list = self.fixture.plan(&out, &format!("{name}.json"), &[]);
        let log = self.fixture.path(&format!("{name}.strace"));
        let mut command = coordinator();
        command.args(["run", "--output", "json"]).arg(list);
        let output = strace::beneath(&strace::words(calls, what, file, &log), &command).output().unwrap();
        let injected = fs::read_to_string(log).unwrap().matches("(INJECTED)").count();
        (output, out, injected)
    }

    /// Checks that everything is made although a system call fails at least once.
    fn is_made(&self, name: &str, calls: &str, what: &str, file: Option<&Path>) {
        let (output, out, injected) = self.run(name, calls, what, file);
        assert!(injected > 0, "{name}: nothing was injected\n{}", text(&output));
        assert_eq!(output.status.code(), Some(0), "{name}\n{}", text(&output));
        assert_eq!(count(&json(&output), "made"), self.recipes, "{name}\n{}", text(&output));
        let made = files(&out);
        assert_eq!(made.len(), self.recipes, "{name}: {made:?}");
    }
}

fn first(directory: &Path, end: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(end));
    found.sort();
    found.swap_remove(0)
}

/// strace counts the calls of each thread separately, so a few of them fail in each of these productions.
#[test]
fn no_recipe_fails_because_a_shared_resource_could_not_be_read_for_a_moment() {
    if !strace::is_there() {
        return edp_tests::not_run(strace::NONE);
    }
    let site = Site::new();
    let demo = &site.fixture.demo;
    let one = "error=EIO:when=1";
    for (name, calls, what, file) in [
        ("masks-listed", "getdents64", one, demo.factors.join("land_mask")),
        ("factors-listed", "getdents64", "error=EIO:when=2", demo.factors.join("sparse")),
        ("metadata-listed", "getdents64", "error=EIO:when=2", demo.metadata.clone()),
        ("grid-listed", "getdents64", "error=EIO:when=2", demo.grid.clone()),
        ("grid-read", "read,pread64", one, demo.grid.join("XC.data")),
        ("metadata-read", "read", one, first(&demo.metadata, ".json")),
        ("metadata-looked-at", "statx", one, first(&demo.metadata, ".json")),
        ("table-read", "read", "error=EIO:when=2", first(&demo.metadata, ".csv")),
        ("configuration-read", "read", one, demo.configuration.clone()),
        ("factors-read", "read", one, demo.factors.join("latlon_grid/latlon_grid.xz")),
        ("mask-read", "read", "error=EIO:when=2", demo.factors.join("land_mask/ecco_latlon_land_mask_0.xz")),
        ("matrix-read", "read", "error=EIO:when=2", demo.factors.join("sparse/sparse_matrix_1.npz")),
        // By the helper process: a failure while it reads mapped memory ends it by a signal.
        ("geometry-mapped", "mmap", one, first(&demo.grid, "native_llc0008.nc")),
    ] {
        site.is_made(name, calls, what, Some(&file));
    }
}

/// Builds a library that makes one call of a kind fail in the whole process. (strace counts by threads, and each
/// granule is written by a thread of its own.)
fn one_fault(fixture: &Fixture) -> PathBuf {
    let (source, library) = (fixture.path("fault.c"), fixture.path("fault.so"));
    let text = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdatomic.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/types.h>
        #include <unistd.h>
        static atomic_int calls;
        static int fails(const char *call) {
            const char *name = getenv("FAULT_CALL"), *when = getenv("FAULT_WHEN");
            if (!name || !when || strcmp(name, call) || atomic_fetch_add(&calls, 1) + 1 != atoi(when)) return 0;
            if (write(2, "fault injected\n", 15) < 0) _exit(99);
            errno = EIO;
            return 1;
        }
        ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
            ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
            return fails("pwrite64") ? -1 : real(fd, bytes, count, at);
        }
        ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
            ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
            return fails("pwrite64") ? -1 : real(fd, bytes, count, at);
        }
        ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
            ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
            return fails("pread64") ? -1 : real(fd, bytes, count, at);
        }
        ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
            ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
            return fails("pread64") ? -1 : real(fd, bytes, count, at);
        }
        int fsync(int fd) {
            int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
            return fails("fsync") ? -1 : real(fd);
        }
    "#;
    fs::write(&source, text).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    expect(Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl"), 0);
    library
}

/// HDF5 writes and reads granules, and does not report why it failed.
#[test]
fn no_recipe_fails_because_a_granule_could_not_be_written_or_checked_for_a_moment() {
    let site = Site::new();
    let library = one_fault(&site.fixture);
    for (call, when) in [
        ("pwrite64", 1),
        ("pwrite64", 5),
        ("pwrite64", 40),
        ("fsync", 2),
        ("fsync", 9),
        ("pread64", 200),
        ("pread64", 600),
    ] {
        let name = format!("{call}-{when}");
        let out = site.fixture.path(&name);
        let list = site.fixture.plan(&out, &format!("{name}.json"), &[]);
        let mut command = coordinator();
        // The granules are made one after the other, so that the same call fails each time.
        command.args(["run", "--slots", "1", "--output", "json"]).arg(list);
        command.env("LD_PRELOAD", &library).env("FAULT_CALL", call).env("FAULT_WHEN", when.to_string());
        let output = command.output().unwrap();
        assert!(text(&output).contains("fault injected"), "{name}: nothing failed\n{}", text(&output));
        assert_eq!(output.status.code(), Some(0), "{name}\n{}", text(&output));
        assert_eq!(count(&json(&output), "made"), site.recipes, "{name}\n{}", text(&output));
        assert_eq!(files(&out).len(), site.recipes, "{name}");
    }
}

/// exFAT, and some file systems in user space and over SMB, have no hard links.
#[test]
fn a_destination_without_hard_links_is_used_by_another_way_or_refused_at_once() {
    if !strace::is_there() {
        return edp_tests::not_run(strace::NONE);
    }
    let site = Site::new();
    for errno in ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"] {
        site.is_made(errno, "linkat", &format!("error={errno}"), None);
    }
    // Neither links nor the rename work: these are two kinds of calls, which take two tracers.
    let out = site.fixture.path("refused");
    let list = site.fixture.plan(&out, "refused.json", &[]);
    let log = site.fixture.path("refused.strace");
    let mut words = strace::words("linkat", "error=EPERM", None, &log);
    words.extend(["-e".into(), "inject=renameat2:error=EINVAL".into()]);
    let at = words.iter().position(|word| word == "trace=linkat").unwrap();
    words[at] = "trace=linkat,renameat2".into();
    let mut command = coordinator();
    command.arg("run").arg(&list);
    let output = strace::beneath(&words, &command).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("hard links") && said.contains("--replace") && said.contains(&*out.to_string_lossy()),
        "{said}"
    );
    assert!(files(&out).is_empty(), "nothing was computed, and nothing is left");
    // With --replace the user states that nobody else writes there.
    command.arg("--replace");
    let output = strace::beneath(&words, &command).output().unwrap();
    assert_eq!((output.status.code(), files(&out).len()), (Some(0), site.recipes), "{}", text(&output));
    expect(coordinator().arg("verify").arg(site.fixture.path("refused.json")), 0);
}
