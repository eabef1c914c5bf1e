//! What is installed and released beside the programs: completions, man pages, the archive.

use edp_tests::{expect, files, not_run, program, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [(&str, [&str; 4]); 2] =
    [("edp-coordinator", ["demo", "plan", "run", "verify"]), ("edp-worker", ["make", "serve", "health", "look"])];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn pages(share: &Path) {
    for (name, _) in PROGRAMS {
        expect(program(name).arg("pages").arg(share), 0);
    }
}

#[test]
fn completions_and_pages_are_made_of_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let share = directory.path().join("share");
    pages(&share);
    let made = files(&share);
    pages(&share);
    assert_eq!(files(&share), made, "they differ from one time to the next");
    for (name, commands) in PROGRAMS {
        let bash = share.join("bash-completion/completions").join(name);
        // What bash offers after the name of the program.
        let script = "source \"$1\"; complete=$(complete -p \"$2\"); complete=${complete#*-F }; COMP_CWORD=1; \
                      COMP_WORDS=(\"$2\" ''); ${complete%% *} \"$2\" '' \"$2\"; echo \" ${COMPREPLY[*]} \"";
        let offered = expect(Command::new("bash").args(["-c", script, "bash"]).arg(&bash).arg(name), 0);
        let read = |page: String| fs::read_to_string(share.join("man/man1").join(page)).unwrap();
        for command in commands {
            assert!(text(&offered).contains(&format!(" {command} ")), "{name} {command}: {}", text(&offered));
            let page = read(format!("{name}-{command}.1"));
            assert!(page.contains(".SH SYNOPSIS") && page.contains("Example"), "{page}");
        }
        let zsh = fs::read_to_string(share.join(format!("zsh/site-functions/_{name}"))).unwrap();
        let fish = fs::read_to_string(share.join(format!("fish/vendor_completions.d/{name}.fish"))).unwrap();
        assert!(zsh.starts_with(&format!("#compdef {name}")) && fish.contains(&format!("complete -c {name}")));
        assert!(read(format!("{name}.1")).contains(&format!("{}(1)", commands[0])));
    }
    let other = made.keys().find(|file| file.contains("-pages") || file.contains("-help"));
    assert_eq!(other, None, "a page of a hidden command");
}

/// The archive, with the programs of the tests in it.
#[test]
fn an_archive_has_everything_and_is_the_same_twice() {
    let programs = program("edp-worker").get_program().to_owned();
    let programs = Path::new(&programs).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    // Stripped copies, which are smaller: the archive takes whatever the directory has.
    let stripped = directory.path().join("programs");
    fs::create_dir(&stripped).unwrap();
    for (name, _) in PROGRAMS {
        let mut copy = Command::new("strip");
        copy.args(["--strip-all", "-o"]).arg(stripped.join(name)).arg(programs.join(name));
        if !copy.status().is_ok_and(|status| status.success()) {
            return not_run("there is no strip");
        }
    }
    let target = "x86_64-unknown-linux-gnu";
    let make = |out: &Path| {
        let mut command = Command::new(root().join("deploy/dist.sh"));
        command.arg(&stripped).arg(target).arg(out).env("SOURCE_DATE_EPOCH", "1700000000");
        command.env_remove("EDP_SIGN_GPG").env_remove("EDP_SIGN_MINISIGN").env_remove("EDP_PAGES");
        expect(&mut command, 0);
        files(out)
    };
    let [one, two] = ["one", "two"].map(|out| directory.path().join(out));
    let made = make(&one);
    assert_eq!(made, make(&two), "two archives of the same programs differ");
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("edp-{version}-{target}");
    let archive = format!("{name}.tar.gz");
    assert_eq!(made.keys().collect::<Vec<_>>(), [&archive, &format!("{archive}.sha256")]);
    expect(
        Command::new("sha256sum").args(["--check", "--strict"]).arg(format!("{archive}.sha256")).current_dir(&one),
        0,
    );
    expect(Command::new("tar").arg("xzf").arg(&archive).current_dir(&one), 0);
    let tree = one.join(&name);
    expect(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&tree), 0);
    let listed = fs::read_to_string(tree.join("SHA256SUMS")).unwrap();
    for file in [
        "bin/edp-coordinator",
        "bin/edp-worker",
        &format!("modulefiles/edp/{version}"),
        "share/bash-completion/completions/edp-worker",
        "share/doc/edp/LICENSE",
        "share/doc/edp/LICENSES-third-party.md",
        "share/edp/aws/start-instance",
        "share/edp/machine/edp-worker@.service",
        "share/edp/sbom.cdx.json",
        "share/man/man1/edp-worker-serve.1",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(&format!("  {file}"))), "{file}: {listed}");
    }
    assert_eq!(listed.lines().count() + 1, files(&tree).len());
    let shown = expect(Command::new(tree.join("bin/edp-worker")).arg("--version"), 0);
    assert!(text(&shown).contains(version), "{}", text(&shown));
    is_loaded(&tree, version);
}

/// Runs the modulefile as Environment Modules do, with their commands made up.
fn is_loaded(tree: &Path, version: &str) {
    let module = tree.join("modulefiles/edp").join(version);
    let script = tree.join("load.tcl");
    let commands = "proc module-whatis {text} {}\nproc conflict {name} {}\n\
                    proc prepend-path {name value} { puts \"$name=$value\" }\n\
                    set ModulesCurrentModulefile [lindex $argv 0]\nsource [lindex $argv 0]\n";
    fs::write(&script, commands).unwrap();
    let Ok(loaded) = Command::new("tclsh").arg(&script).arg(&module).output() else {
        return not_run("there is no tclsh");
    };
    let tree = tree.canonicalize().unwrap();
    let paths = text(&loaded);
    assert!(paths.contains(&format!("PATH={}/bin\n", tree.display())), "{paths}");
    assert!(paths.contains(&format!("MANPATH={}/share/man\n", tree.display())), "{paths}");
}
