//! A metadata service of EC2, in the process of a test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Path of the notice that a spot instance is taken back.
pub const INTERRUPTION: &str = "/latest/meta-data/spot/instance-action";
/// Path of the state that an autoscaling group has in mind for the instance.
pub const SCALING: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";

/// A metadata service of EC2, which issues tokens and answers each request by a function of its path; a missing answer
/// gives 404.
pub struct Imds {
    /// Its URL.
    pub url: String,
    /// The only valid token; a request with another one is refused.
    pub token: Arc<Mutex<u32>>,
}

impl Imds {
    /// Starts the service, which ends with the process of the test.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub fn start(mut answer: impl FnMut(&str) -> Option<String> + Send + 'static) -> Imds {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let token = Arc::new(Mutex::new(0));
        let valid = token.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                Imds::attend(stream.expect("a connection"), &valid, &mut answer);
            }
        });
        Imds { url, token }
    }

    /// Handles one request on each connection.
    fn attend(stream: TcpStream, valid: &Mutex<u32>, answer: &mut impl FnMut(&str) -> Option<String>) {
        let mut lines = BufReader::new(stream.try_clone().expect("the same connection")).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: BTreeMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':').map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned())))
            .collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let valid = *valid.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, more, body) = match (method, headers.get("x-aws-ec2-metadata-token-ttl-seconds")) {
            ("PUT", Some(_)) if path == "/latest/api/token" => {
                (200, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", valid.to_string())
            }
            ("GET", _) if headers.get("x-aws-ec2-metadata-token") != Some(&valid.to_string()) => {
                (401, "", String::new())
            }
            ("GET", _) => match answer(path) {
                Some(body) => (200, "", body),
                None => (404, "", String::new()),
            },
            _ => (400, "", String::new()),
        };
        let length = body.len();
        let reply = format!("HTTP/1.1 {status} -\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _ = (&stream).write_all(reply.as_bytes());
    }
}
