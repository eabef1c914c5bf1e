//! Certificates of a test, made with `openssl`.

use std::path::PathBuf;
use std::process::Command;

/// A certificate authority and the certificates that it has signed: one for a server `localhost`, and one for a client.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Makes certificates that are valid for one day.
    ///
    /// # Panics
    /// Panics if `openssl` is not installed.
    pub fn make() -> Certificates {
        let made = Certificates { directory: tempfile::tempdir().expect("a temporary directory") };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
        let authority = ["req", "-x509", "-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem"];
        made.openssl(authority.iter().chain(&key));
        for name in ["server", "client"] {
            let subject = format!("/CN={name}");
            let (out, key_out) = (format!("{name}.pem"), format!("{name}.key"));
            let signed = ["req", "-x509", "-CA", "authority.pem", "-CAkey", "authority.key", "-subj", &subject];
            let names = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
            made.openssl(signed.iter().chain(&names).chain(&["-keyout", &key_out, "-out", &out]).chain(&key));
        }
        made
    }

    /// Returns the path of `authority.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the lines of `rabbitmq.conf` for a broker that requires a certificate of its clients.
    pub fn broker(&self) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "listeners.ssl.1 = 127.0.0.1:{{tls_port}}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
            path("authority.pem"),
            path("server.pem"),
            path("server.key")
        )
    }

    fn openssl<'a>(&self, words: impl Iterator<Item = &'a &'a str>) {
        let output = Command::new("openssl")
            .current_dir(self.directory.path())
            .args(words)
            .output()
            .expect("openssl: run `make deps`");
        assert!(output.status.success(), "{}", crate::text(&output));
    }
}
