//! `/metrics`, `/healthz`, `/readyz`, `/status` for machines, `/` for people: reading only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Result};
use crate::service::Service;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// The page for people. It asks for `/status` and `/history` by itself.
const PAGE: &str = include_str!("page.html");
/// It asks nobody else for anything, whatever gets into it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                           connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The version is part of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Slow or idle clients do not add up: more connections than this wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The lag within which a target is ready when the request names none.
const LAG_MAX_DEFAULT: Duration = Duration::from_secs(5);

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Site {
    /// The service that is asked.
    pub service: Arc<Service>,
    /// Its metrics.
    pub metrics: PrometheusHandle,
}

/// Takes the address.
///
/// # Errors
/// Somebody else has it, or it is not an address of this machine.
pub(crate) async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Failure::because(format!("could not listen on {address}"), &e)
            .hint("choose another [http] listen, or \"\" for no HTTP server")
    })
}

/// Serves until the shutdown.
pub(crate) async fn serve(listener: TcpListener, site: Site, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (site, shutdown) = (site.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, peer, site) => {}
                        () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
                        () = shutdown.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, site: Site) {
    let respond = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(respond(&request, &site).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), respond)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "HTTP connection ended");
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond(request: &Request<Incoming>, site: &Site) -> Reply {
    if request.method() != Method::GET {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return reply;
    }
    match request.uri().path() {
        "/metrics" => metrics(site).await,
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(&site.service, request.uri().query().unwrap_or_default()),
        "/status" => json(&site.service.status()),
        "/history" => json(&site.service.history().shown()),
        "/" => page(),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

/// Rendering takes a millisecond per thousand series, and asks the disk how full it is: not on a thread that others wait for.
async fn metrics(site: &Site) -> Reply {
    let site = site.clone();
    match tokio::task::spawn_blocking(move || site.service.exposition() + &site.metrics.render()).await {
        Ok(body) => reply(StatusCode::OK, PROMETHEUS, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered\n"),
    }
}

fn json(value: &impl Serialize) -> Reply {
    let body = serde_json::to_string(value).expect("plain texts and numbers can be written as JSON");
    reply(StatusCode::OK, JSON, body + "\n")
}

fn page() -> Reply {
    let mut page = reply(StatusCode::OK, HTML, PAGE.to_owned());
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    page
}

fn ready(service: &Service, query: &str) -> Reply {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(problem) => return text(StatusCode::BAD_REQUEST, &format!("{problem}\n")),
    };
    let status = service.status();
    let (code, body) = match &query.target {
        None if status.source.state == "streaming" => (StatusCode::OK, "streaming\n".to_owned()),
        None => (StatusCode::SERVICE_UNAVAILABLE, format!("source is {}\n", status.source.state)),
        Some(name) => match status.target(name) {
            None => (StatusCode::NOT_FOUND, "no such target\n".to_owned()),
            Some(target) => target_ready(target, query.lag_max),
        },
    };
    text(code, &body)
}

fn target_ready(target: &crate::status::Target, lag_max: Duration) -> (StatusCode, String) {
    let runs = matches!(target.state.as_str(), "streaming" | "catching_up");
    let within = target.lag_seconds.is_some_and(|lag| lag <= lag_max.as_secs_f64());
    let lag = target.lag_seconds.map_or("unknown".to_owned(), |lag| format!("{lag:.3} s"));
    let code = if runs && within { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}, lag {lag}\n", target.state))
}

/// `target=NAME&max_lag=5s`. Names of targets need no percent-encoding, so none is decoded.
struct Query {
    target: Option<String>,
    lag_max: Duration,
}

impl Query {
    fn parse(query: &str) -> Result<Query, String> {
        let mut parsed = Query { target: None, lag_max: LAG_MAX_DEFAULT };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("target", name)) => parsed.target = Some(name.to_owned()),
                Some(("max_lag", time)) => {
                    parsed.lag_max = config::parse_duration(time).map_err(|problem| problem.to_string())?;
                }
                _ => return Err("unknown parameter: write target=NAME and max_lag=5s".to_owned()),
            }
        }
        Ok(parsed)
    }
}

fn text(code: StatusCode, body: &str) -> Reply {
    reply(code, TEXT, body.to_owned())
}

fn reply(code: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = code;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(state: &str, lag_seconds: Option<f64>) -> crate::status::Target {
        crate::status::Target { state: state.into(), lag_seconds, ..Default::default() }
    }

    #[test]
    fn a_target_is_ready_when_it_runs_within_the_lag() {
        let five = Duration::from_secs(5);
        assert_eq!(target_ready(&target("streaming", Some(5.0)), five).0, StatusCode::OK);
        assert_eq!(target_ready(&target("catching_up", Some(0.1)), five).0, StatusCode::OK);
        for late in [target("streaming", Some(5.1)), target("streaming", None), target("paused", Some(0.0))] {
            assert_eq!(target_ready(&late, five).0, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[test]
    fn queries_are_read_and_strange_ones_refused() {
        let query = Query::parse("target=berlin&max_lag=250ms").unwrap();
        assert_eq!((query.target.as_deref(), query.lag_max), (Some("berlin"), Duration::from_millis(250)));
        assert_eq!(Query::parse("").unwrap().lag_max, LAG_MAX_DEFAULT);
        for strange in ["max_lag=5", "max_lag=%00", "x=1", "target"] {
            assert!(Query::parse(strange).is_err(), "{strange}");
        }
    }

    /// The status code and content type of the answer to a request line.
    async fn ask(address: SocketAddr, line: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: walcast\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let content_type = answer.lines().find_map(|line| line.strip_prefix("content-type: "));
        (answer[9..12].parse().unwrap(), content_type.unwrap().to_owned())
    }

    #[tokio::test]
    async fn x13_only_these_pages_are_served_and_only_read() {
        let text = "[source]\nconninfo = 'host=localhost'\n";
        let config = config::Config::parse(std::path::Path::new("walcast.toml"), text).unwrap();
        let shutdown = CancellationToken::new();
        let service = Arc::new(Service::new(config, shutdown.clone()));
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Site { service, metrics }, shutdown.clone()));
        for (line, code, content_type) in [
            ("GET /healthz", 200, TEXT),
            ("GET /metrics", 200, PROMETHEUS),
            ("GET /status", 200, JSON),
            ("GET /readyz", 503, TEXT),
            ("GET /readyz?target=x", 404, TEXT),
            ("GET /readyz?max_lag=5", 400, TEXT),
            ("GET /", 200, HTML),
            ("GET /history", 200, JSON),
            ("GET /page.html", 404, TEXT),
            ("GET /metrics/", 404, TEXT),
            ("POST /status", 405, TEXT),
            ("DELETE /metrics", 405, TEXT),
        ] {
            assert_eq!(ask(address, line).await, (code, content_type.to_owned()), "{line}");
        }
        shutdown.cancel();
        serving.await.unwrap();
    }
}
