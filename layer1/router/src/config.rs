//! What a router is told at its start: arguments and environment as written, checked once, with every
//! default in one place.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use router_api::PrivateKeyPem;

use crate::sticky::CookieKey;

/// A router's settings. Port 0 asks for a free one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Plain HTTP; the first is the default port. May be empty.
    pub http: Vec<SocketAddr>,
    /// HTTPS; the first is the default port. May be empty.
    pub https: Vec<SocketAddr>,
    /// The router's own API.
    pub api: SocketAddr,
    /// Where TCP routes listen.
    pub tcp_ip: IpAddr,
    /// Ports kept for TCP routes from the start, so that nobody else takes them.
    pub reserved_tcp_ports: Option<RangeInclusive<u16>>,
    /// Threads that serve HTTP, each with its own listeners.
    pub workers: usize,
    /// Where routes, certificates and last backends are kept.
    pub data_dir: PathBuf,
    /// Shared by all routers of the cluster.
    pub cookie_key: CookieKey,
    /// Whether a PROXY line may precede a connection's bytes.
    pub proxy_protocol: bool,
    /// The cluster's certificate, for routes without their own.
    pub default_certificate: Option<KeyPairPem>,
    /// Where the page for status 503 is fetched.
    pub error_page_url: Option<String>,
    /// The version that the status page tells.
    pub version: String,
    /// Time-outs and bounds.
    pub limits: Limits,
}

/// A certificate chain and its key.
#[derive(Clone, Debug)]
pub struct KeyPairPem {
    /// The chain, leaf first.
    pub cert: String,
    /// The leaf's key.
    pub key: PrivateKeyPem,
}

/// Time-outs and bounds; the defaults are those of spec/router.md.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connecting to a backend.
    pub dial: Duration,
    /// From the sent request to the head of the response.
    pub response_head: Duration,
    /// Sent to a backend of an HTTP route and not taken: its host is gone, or it reads nothing at all of a
    /// body that fills all buffers. A program that is busy does not count, its host's kernel takes a request.
    pub backend_silence: Duration,
    /// A connection's handshake and the head of a request.
    pub request_head: Duration,
    /// A client connection without a request.
    pub idle_client: Duration,
    /// A backend connection without a request.
    pub idle_backend: Duration,
    /// Bytes of a request's or response's head.
    pub head_bytes: usize,
    /// Client connections of one worker; more wait in the kernel's queue.
    pub connections_per_worker: usize,
    /// Connections of one TCP route.
    pub connections_per_tcp_route: usize,
    /// Idle connections one worker keeps to one backend.
    pub idle_per_backend: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(1),
            response_head: Duration::from_secs(600),
            // As nginx (proxy_send_timeout).
            backend_silence: Duration::from_secs(60),
            request_head: Duration::from_secs(60),
            idle_client: Duration::from_secs(300),
            idle_backend: Duration::from_secs(90),
            head_bytes: 64 * 1024,
            connections_per_worker: 16_384,
            connections_per_tcp_route: 8_192,
            idle_per_backend: 128,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `COOKIE_KEY` is missing.
    #[error(
        "COOKIE_KEY is not set: give it the base64 of 32 random bytes, the same on all routers"
    )]
    NoCookieKey,
    /// `COOKIE_KEY` is not base64 of 32 bytes.
    #[error("COOKIE_KEY is not the base64 of exactly 32 bytes")]
    BadCookieKey,
    /// HTTPS cannot be turned off.
    #[error("DEFAULT_HTTPS_PORT cannot be 0")]
    NoHttps,
    /// Only one of certificate and key is given.
    #[error("TLSCERT and TLSKEY go together: {0} is missing")]
    HalfKeyPair(&'static str),
    /// A value that does not parse.
    #[error("{name} is {value:?}, which is no {wanted}")]
    Value {
        /// The flag or variable.
        name: String,
        /// What it was set to.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The controller's key is missing.
    #[error("CONTROLLER_KEY is not set: routes cannot be read without it")]
    NoControllerKey,
    /// A flag nobody knows.
    #[error("unknown flag {0:?}")]
    UnknownFlag(String),
    /// A flag without its value.
    #[error("flag {0:?} needs a value")]
    MissingValue(String),
}

impl Config {
    /// Reads flags such as `-http-port 80` (one or two dashes, `=` or blank) and the environment
    /// behind `env`. The default key pair comes as text in `TLSCERT` and `TLSKEY`.
    pub fn read(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let flags = Flags::read(args)?;
        let ip: IpAddr = env("LISTEN_IP").map_or(Ok(Ipv4Addr::UNSPECIFIED.into()), |text| {
            value("LISTEN_IP", &text, "IP address")
        })?;
        let default_port = |name: &'static str, flag| {
            env(name).map_or(Ok(flag), |text| value(name, &text, "port"))
        };
        let http = default_port("DEFAULT_HTTP_PORT", flags.http_port)?;
        let https = default_port("DEFAULT_HTTPS_PORT", flags.https_port)?;
        if https == 0 {
            return Err(ConfigError::NoHttps);
        }
        let more = |name: &'static str| ports(name, env(name).as_deref().unwrap_or_default());
        let listen = |port| SocketAddr::new(ip, port);
        let http = (http != 0).then_some(http).into_iter().chain(more("ADDITIONAL_HTTP_PORTS")?);
        let https = std::iter::once(https).chain(more("ADDITIONAL_HTTPS_PORTS")?);
        let api_port = match (flags.api_port, env("PORT")) {
            (Some(port), _) => port,
            (None, Some(text)) => value("PORT", &text, "port")?,
            (None, None) => 5000,
        };
        let workers = env("ROUTER_WORKERS").map(|text| value("ROUTER_WORKERS", &text, "number"));
        Ok(Self {
            http: http.map(listen).collect(),
            https: https.map(listen).collect(),
            api: listen(api_port),
            tcp_ip: flags.tcp_ip.unwrap_or(ip),
            reserved_tcp_ports: Some(flags.tcp_range),
            workers: workers.transpose()?.unwrap_or_else(cores).max(1),
            data_dir: env("DATA_DIR").map_or_else(|| PathBuf::from("/data"), PathBuf::from),
            cookie_key: cookie_key(env("COOKIE_KEY").as_deref())?,
            proxy_protocol: env("PROXY_PROTOCOL").is_some_and(|text| text == "true"),
            default_certificate: key_pair(env("TLSCERT"), env("TLSKEY"))?,
            error_page_url: env("ERROR_503_PAGE_URL"),
            version: env("FLYNN_VERSION").unwrap_or_else(|| "dev".to_owned()),
            limits: Limits::default(),
        })
    }
}

/// The flags of spec/router.md §1, except those that name files.
struct Flags {
    http_port: u16,
    https_port: u16,
    api_port: Option<u16>,
    tcp_ip: Option<IpAddr>,
    tcp_range: RangeInclusive<u16>,
}

impl Flags {
    fn read(args: &[String]) -> Result<Self, ConfigError> {
        let mut flags = Self {
            http_port: 8080,
            https_port: 4433,
            api_port: None,
            tcp_ip: None,
            tcp_range: router_api::TCP_PORTS,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, text)) => (name, Some(text.to_owned())),
                None => (arg.as_str(), None),
            };
            let text = inline.or_else(|| args.next().cloned());
            let text = text.ok_or_else(|| ConfigError::MissingValue(arg.clone()))?;
            flags.set(name, &text)?;
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let port = || value(name, text, "port");
        match name.trim_start_matches('-') {
            "http-port" => self.http_port = port()?,
            "https-port" => self.https_port = port()?,
            "api-port" => self.api_port = Some(port()?),
            "tcp-ip" => self.tcp_ip = Some(value(name, text, "IP address")?),
            "tcp-range-start" => self.tcp_range = port()?..=*self.tcp_range.end(),
            "tcp-range-end" => self.tcp_range = *self.tcp_range.start()..=port()?,
            _ => return Err(ConfigError::UnknownFlag(name.to_owned())),
        }
        Ok(())
    }
}

fn value<T: FromStr>(name: &str, text: &str, wanted: &'static str) -> Result<T, ConfigError> {
    let wrong = |_| ConfigError::Value { name: name.to_owned(), value: text.to_owned(), wanted };
    text.trim().parse().map_err(wrong)
}

fn ports(name: &str, list: &str) -> Result<Vec<u16>, ConfigError> {
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| value(name, item, "port")).collect()
}

fn cookie_key(text: Option<&str>) -> Result<CookieKey, ConfigError> {
    let text = text.ok_or(ConfigError::NoCookieKey)?;
    CookieKey::from_base64(text).ok_or(ConfigError::BadCookieKey)
}

fn key_pair(cert: Option<String>, key: Option<String>) -> Result<Option<KeyPairPem>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(KeyPairPem { cert, key: PrivateKeyPem::new(&key) })),
        (None, Some(_)) => Err(ConfigError::HalfKeyPair("TLSCERT")),
        (Some(_), None) => Err(ConfigError::HalfKeyPair("TLSKEY")),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, https, api, workers, .. } = self;
        write!(f, "http {http:?}, https {https:?}, api {api}, {workers} workers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn read(args: &[&str], vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Config::read(&args, &|name| {
            vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_documented_flags_and_variables_count() {
        let config = read(
            &[
                "-http-port",
                "80",
                "--https-port=443",
                "-tcp-range-start",
                "4000",
                "-tcp-range-end",
                "4010",
            ],
            &[
                ("COOKIE_KEY", KEY),
                ("LISTEN_IP", "10.0.0.7"),
                ("PORT", "5001"),
                ("PROXY_PROTOCOL", "true"),
                ("ADDITIONAL_HTTP_PORTS", "8080, 8081"),
                ("TLSCERT", ""),
            ],
        )
        .unwrap();
        let addrs = |ports: &[u16]| -> Vec<SocketAddr> {
            ports.iter().map(|port| SocketAddr::new("10.0.0.7".parse().unwrap(), *port)).collect()
        };
        assert_eq!(config.http, addrs(&[80, 8080, 8081]));
        assert_eq!(config.https, addrs(&[443]));
        assert_eq!(config.api, addrs(&[5001])[0]);
        assert_eq!(config.reserved_tcp_ports, Some(4000..=4010));
        assert!(config.proxy_protocol && config.default_certificate.is_none());
        let plain_off = read(&[], &[("COOKIE_KEY", KEY), ("DEFAULT_HTTP_PORT", "0")]).unwrap();
        assert!(plain_off.http.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (args, vars, want) in [
            (&[][..], &[][..], "COOKIE_KEY is not set"),
            (&[], &[("COOKIE_KEY", "AAAA")], "exactly 32 bytes"),
            (&[], &[("COOKIE_KEY", KEY), ("DEFAULT_HTTPS_PORT", "0")], "DEFAULT_HTTPS_PORT"),
            (&[], &[("COOKIE_KEY", KEY), ("TLSCERT", "x")], "TLSKEY is missing"),
            (&["-http-port", "x"], &[("COOKIE_KEY", KEY)], "no port"),
            (&["-http-port"], &[("COOKIE_KEY", KEY)], "needs a value"),
            (&["-x", "1"], &[("COOKIE_KEY", KEY)], "unknown flag"),
            (&[], &[("COOKIE_KEY", KEY), ("ADDITIONAL_HTTP_PORTS", "1,b")], "\"b\""),
        ] {
            let error = read(args, vars).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
