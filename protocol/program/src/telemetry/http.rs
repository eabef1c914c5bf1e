//! The HTTP client of OTLP. It runs on a runtime of its own, since the library sends from threads of its own.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use std::io;
use std::time::Duration;
use tokio::runtime::Handle;

/// Largest answer that is read, in bytes. A collector has little to say.
const MAX_ANSWER: usize = 1 << 20;

/// An HTTP client. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    connections: Connections<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

impl Client {
    /// Makes a client that sends on a runtime, and gives up a request after `timeout`. For `https://` the authorities
    /// of the system are trusted.
    ///
    /// # Errors
    /// Returns an error if the system has no authorities.
    pub(super) fn new(runtime: Handle, timeout: Duration) -> io::Result<Client> {
        let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        Ok(Client { connections: Connections::builder(TokioExecutor::new()).build(connector), runtime, timeout })
    }

    async fn exchange(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.connections.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| if error.is::<LengthLimitError>() { "the answer is too long".into() } else { error })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, timeout) = (self.clone(), self.timeout);
        let exchange = async move {
            match tokio::time::timeout(timeout, client.exchange(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {timeout:?}").into()),
            }
        };
        self.runtime.spawn(exchange).await?
    }
}
