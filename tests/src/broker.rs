//! A RabbitMQ node of a test: it has its own name, ports, directories and cookie, and uses nothing of a broker on this
//! machine.
//!
//! The RabbitMQ is the installed one, or the one in the directory named by EDP_RABBITMQ_ROOT; see
//! `deploy/rabbitmq-4.sh`.

use edp_queue::topology::ProductionName;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time that a node may take to start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program in another root directory, in which the same processes, devices and temporary files are visible.
const INSIDE: &str = "mount --bind /proc \"$1/proc\" && mount --bind /dev \"$1/dev\" && mkdir -p \"$1$2\" && \
                      mount --bind \"$2\" \"$1$2\" && root=$1 && shift 2 && exec chroot \"$root\" \"$@\"";

/// A RabbitMQ node, which is stopped and removed when this is dropped.
pub struct Broker {
    directory: tempfile::TempDir,
    name: String,
    port: u16,
    tls_port: u16,
    distribution_port: u16,
    mapper_port: u16,
    /// The daemon that finds Erlang nodes by name.
    mapper: Child,
    node: Mutex<Option<Child>>,
}

impl Broker {
    /// Starts a node, and returns when it accepts connections.
    ///
    /// # Panics
    /// Panics if RabbitMQ is not installed or does not start.
    pub fn start() -> Broker {
        Broker::with("")
    }

    /// Starts a node with more lines in its `rabbitmq.conf`. With some that begin with `management.` it has its management
    /// interface.
    ///
    /// # Panics
    /// Panics if RabbitMQ is not installed or does not start.
    pub fn with(lines: &str) -> Broker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // The listeners are held together, so that their ports differ.
        let listeners = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let [port, tls_port, distribution_port, mapper_port] =
            listeners.each_ref().map(|listener| listener.local_addr().expect("its address").port());
        drop(listeners);
        let mapper = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd: run `make deps`");
        let name = format!("edp-{}-{port}@localhost", std::process::id());
        let broker =
            Broker { directory, name, port, tls_port, distribution_port, mapper_port, mapper, node: Mutex::new(None) };
        let cookie = broker.path(".erlang.cookie");
        std::fs::write(&cookie, "edptests").expect("the cookie");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).expect("the cookie's mode");
        let lines = lines.replace("{tls_port}", &tls_port.to_string());
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\nlog.console = false\nlog.file.level = warning\n\
             disk_free_limit.absolute = 10MB\n{lines}\n"
        );
        let plugins = if lines.contains("management.") { "[rabbitmq_management]." } else { "[]." };
        let files =
            [("rabbitmq.conf", &*configuration), ("environment", ""), ("advanced.config", "[]."), ("plugins", plugins)];
        for (name, content) in files {
            std::fs::write(broker.path(name), content).expect("its settings");
        }
        broker.run();
        broker
    }

    /// Returns the address at which the node accepts connections.
    pub fn socket(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns its second port, for TLS or the management interface, which is used if the settings contain `{tls_port}`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Returns its URL for a user.
    pub fn url(&self, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/", self.port)
    }

    /// Kills the node without warning; its unwritten data are lost.
    ///
    /// # Panics
    /// Panics if the node is not running.
    pub fn kill(&self) {
        let mut node = self.node().take().expect("a node that runs");
        end(&mut node);
    }

    /// Stops the node in an orderly way.
    ///
    /// # Panics
    /// Panics if the node does not stop.
    pub fn stop(&self) {
        self.control(["stop"]);
        let mut node = self.node().take().expect("a node that runs");
        node.wait().expect("its end");
    }

    /// Starts the node again after a kill or a stop.
    ///
    /// # Panics
    /// Panics if the node does not start.
    pub fn run(&self) {
        let log = std::fs::File::create(self.path("output")).expect("its output");
        let mut command = self.program("rabbitmq-server");
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("its output")).stdout(log).process_group(0);
        let mut node = command.spawn().expect("rabbitmq-server: run `make deps`");
        let end = Instant::now() + PATIENCE;
        // The listener starts last.
        while TcpStream::connect(self.socket()).is_err() {
            let ended = node.try_wait().expect("its state");
            let output = || std::fs::read_to_string(self.path("output")).unwrap_or_default();
            assert!(ended.is_none(), "RabbitMQ has ended: {}", output());
            assert!(Instant::now() < end, "RabbitMQ does not start: {}", output());
            std::thread::sleep(Duration::from_millis(100));
        }
        *self.node() = Some(node);
    }

    /// Blocks all publishers, as if memory were short, or lets them continue.
    pub fn alarm(&self, on: bool) {
        self.control(["set_vm_memory_high_watermark", if on { "0" } else { "0.6" }]);
    }

    /// Closes all connections of clients.
    pub fn disconnect(&self) {
        self.control(["close_all_connections", "test"]);
    }

    /// Returns true if there is a queue of this name.
    pub fn has(&self, queue: &str) -> bool {
        self.control(["list_queues", "--no-table-headers", "name"]).lines().any(|line| line.trim() == queue)
    }

    /// Deletes a queue, which must exist.
    pub fn delete(&self, queue: &str) {
        self.control(["delete_queue", queue]);
    }

    /// Deletes a queue if it exists.
    pub fn forget(&self, queue: &str) {
        let _ = self.controls(["delete_queue", queue]);
    }

    /// Ends the process that serves a quorum queue but keeps the queue. RabbitMQ 3.10 does so itself if it is killed
    /// soon after the queue was declared.
    pub fn paralyse(&self, queue: &str) {
        let server = format!("{{'%2F_{queue}', node()}}");
        let stopped = self.control(["eval", &format!("ra:stop_server(quorum_queues, {server}).")]);
        assert_eq!(stopped.trim(), "ok");
    }

    /// Makes a queue with other arguments than the queues of a production have.
    pub fn foreign(&self, queue: &str) {
        let name = format!("rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)");
        self.control(["eval", &format!("rabbit_amqqueue:declare({name}, true, false, [], none, <<\"test\">>).")]);
    }

    /// Takes back deliveries that stay unacknowledged for longer than this, and checks often. This applies from the
    /// next channel and queue on.
    pub fn consumer_timeout(&self, millis: u32) {
        for (name, value) in [("consumer_timeout", millis), ("channel_tick_interval", millis.min(60_000) / 2)] {
            self.control(["eval", &format!("application:set_env(rabbit, {name}, {value}).")]);
        }
        // For newer brokers the argument of the queue counts, and a policy can only lower it.
        let policy = format!("{{\"consumer-timeout\": {millis}}}");
        let set = self.controls(["set_policy", "--apply-to", "queues", "impatient", "^edp\\.", &policy]);
        let older = String::from_utf8_lossy(&set.stderr).contains("not recognised");
        assert!(set.status.success() || older, "{}", crate::text(&set));
    }

    /// Copies everything that is published to one exchange to another exchange.
    pub fn copy(&self, from: &str, to: &str) {
        let exchange = |name: &str| format!("rabbit_misc:r(<<\"/\">>, exchange, <<\"{name}\">>)");
        let binding = format!("{{binding, {}, <<>>, {}, []}}", exchange(from), exchange(to));
        let bound = self.control(["eval", &format!("rabbit_binding:add({binding}, <<\"test\">>).")]);
        assert_eq!(bound.trim(), "ok");
    }

    /// Creates a user who may configure, write and read the queues and exchanges that the patterns match.
    pub fn user(&self, name: &str, password: &str, [configure, write, read]: [&str; 3]) {
        self.control(["add_user", name, password]);
        self.control(["set_permissions", name, configure, write, read]);
    }

    /// Returns the patterns for the coordinator and the workers of a production, as given in the documentation of the
    /// topology.
    pub fn patterns(production: &ProductionName) -> ([String; 3], [String; 3]) {
        let name = production.to_string().replace('.', "\\.");
        let all = format!("^edp\\.{name}\\.(recipes|results|dead|coordinator)$");
        let worker = ["^$".into(), format!("^edp\\.{name}\\.results$"), format!("^edp\\.{name}\\.recipes$")];
        ([all.clone(), all.clone(), all], worker)
    }

    /// Runs `rabbitmqctl` and returns its output.
    ///
    /// # Panics
    /// Panics if it fails.
    pub fn control<I: IntoIterator<Item: AsRef<OsStr>> + Clone>(&self, words: I) -> String {
        let end = Instant::now() + PATIENCE;
        let mut output = self.controls(words.clone());
        // A node that was just started again accepts connections before it can be controlled.
        let early = ["unable to perform an operation on node", "requires the 'rabbit' app to be running"];
        let is_early = |output: &Output| early.iter().any(|text| crate::text(output).contains(text));
        while is_early(&output) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
            output = self.controls(words.clone());
        }
        assert!(output.status.success(), "{}", crate::text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn controls<I: IntoIterator<Item: AsRef<OsStr>>>(&self, words: I) -> Output {
        let mut command = self.program("rabbitmqctl");
        command.args(["--quiet", "--node", &self.name]).args(words);
        command.stdin(Stdio::null()).output().expect("rabbitmqctl: run `make deps`")
    }

    /// Returns a program of RabbitMQ, with the environment of this node.
    fn program(&self, name: &str) -> Command {
        let program = Path::new("/usr/lib/rabbitmq/bin").join(name);
        let mut command = match std::env::var_os("EDP_RABBITMQ_ROOT") {
            None => Command::new(program),
            Some(root) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", INSIDE, "sh"]).arg(root).arg(std::env::temp_dir()).arg(program);
                command
            }
        };
        let path = |name: &str| self.path(name).into_os_string();
        command
            .env("HOME", self.directory.path())
            .env("RABBITMQ_CONF_ENV_FILE", path("environment"))
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            // An idle node must not take processor time from the test.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none");
        command
    }

    fn node(&self) -> MutexGuard<'_, Option<Child>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the end of the node's log.
    pub fn log(&self) -> String {
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(self.path("log")).into_iter().flatten().flatten() {
            texts.push(std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
        let text = texts.join("\n");
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(200)..].join("\n")
    }

    /// Returns the directory of the node's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut node) = self.node().take() {
            end(&mut node);
        }
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
    }
}

/// Kills a process and its whole process group.
fn end(process: &mut Child) {
    if let Ok(Some(group)) = i32::try_from(process.id()).map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = process.wait();
}
