//! The environment that buildpacks and git see: nothing of the job's own but what is meant for them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::layout::Layout;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What programs are told the CA bundle by; each knows one of them.
const CA_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];
/// What of the app's environment matters for fetching a buildpack.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Variables of a program.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// What a buildpack's scripts see.
pub(crate) fn of_buildpacks(config: &Config, layout: &Layout) -> io::Result<Variables> {
    let mut all = Variables::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), OsString::from(value));
    };
    set("PATH", PATH);
    set("LANG", "C.UTF-8");
    set("TERM", "dumb");
    set("USER", "flynn");
    set("STACK", &config.stack);
    set("CF_STACK", &config.cf_stack);
    set("SOURCE_VERSION", &config.source_version);
    set("REQUEST_ID", "flynn-build");
    set("CURL_CONNECT_TIMEOUT", "30");
    set("CURL_TIMEOUT", "600");
    set("GIT_TERMINAL_PROMPT", "0");
    for (name, path) in
        [("HOME", &layout.home), ("TMPDIR", &layout.tmp), ("FLYNN_RUNTIMES", &layout.runtimes)]
    {
        all.insert(name.to_owned(), path.into());
    }
    if let Some(bundle) = ca_bundle(config)? {
        all.extend(CA_VARIABLES.map(|name| (name.to_owned(), bundle.clone().into())));
    }
    all.extend(config.build_env.iter().map(|(name, value)| (name.clone(), value.into())));
    Ok(all)
}

/// What git sees while it fetches a buildpack.
pub(crate) fn of_fetches(buildpacks: &Variables, layout: &Layout) -> Variables {
    let mut all = buildpacks.clone();
    for name in PROXIES {
        if let Some(value) = layout.variable(name) {
            all.insert(name.to_owned(), value.into());
        }
    }
    all
}

/// The system's bundle, or a copy of it with the operator's certificates behind it.
fn ca_bundle(config: &Config) -> io::Result<Option<PathBuf>> {
    let system: &Path = &config.places.ca_bundle;
    let Some(extra) = &config.extra_ca else {
        return Ok(system.exists().then(|| system.to_owned()));
    };
    let own = config.places.tmp.join("ca-bundle.crt");
    let known = fs::read_to_string(system).unwrap_or_default();
    fs::write(&own, format!("{known}\n{extra}\n"))?;
    Ok(Some(own))
}
