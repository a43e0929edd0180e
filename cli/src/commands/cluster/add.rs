//! `flynn cluster add`: the block in the config file, and what git needs to push to the cluster.

use std::ffi::OsString;

use crate::connection::{Controller, Path};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::rc::{Cluster, replace_file};

/// Arguments of `cluster add`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Replace a cluster of the same name or URLs
    #[arg(short, long)]
    force: bool,
    /// Make it the default
    #[arg(short, long)]
    default: bool,
    /// Prefix of git remotes, when it is not `https://git.<domain>`
    #[arg(long)]
    git_url: Option<String>,
    /// Do not configure git
    #[arg(long)]
    no_git: bool,
    /// Where images go, when it is not `https://images.<domain>`
    #[arg(long)]
    image_url: Option<String>,
    /// Where images went in older versions; kept in the file
    #[arg(long)]
    docker_push_url: Option<String>,
    /// Base64 of the SHA-256 of the cluster's certificate
    #[arg(short = 'p', long)]
    tls_pin: Option<String>,
    /// A name for the cluster
    name: String,
    /// Its domain, or the URL of its controller
    domain: String,
    /// Its key
    key: String,
}

/// The most of a CA certificate that is read.
const MAX_CA: usize = 1 << 20;

pub(super) async fn run(args: Args, context: &mut Context<'_>) -> Outcome {
    let (force, wants_default) = (args.force, args.default);
    let cluster = args.into_cluster();
    let mut rc = context.rc()?;
    rc.add(cluster.clone(), force)?;
    if !cluster.git_url.is_empty() {
        configure_git(&cluster, context).await?;
    }
    let is_default = wants_default || rc.clusters.len() == 1;
    if is_default {
        rc.set_default(&cluster.name)?;
    }
    context.save(&rc)?;
    let ending = if is_default { "added and set as default." } else { "added." };
    context.tell(format!("Cluster {:?} {ending}", cluster.name))
}

impl Args {
    fn into_cluster(self) -> Cluster {
        let domain = self.domain.strip_prefix("https://controller.").unwrap_or(&self.domain);
        let domain = domain.trim_end_matches('/');
        let git_url = if self.no_git {
            String::new()
        } else {
            self.git_url.unwrap_or_else(|| format!("https://git.{domain}"))
        };
        Cluster {
            controller_url: format!("https://controller.{domain}"),
            git_url,
            image_url: self.image_url.unwrap_or_else(|| format!("https://images.{domain}")),
            docker_push_url: self.docker_push_url.unwrap_or_default(),
            tls_pin: self.tls_pin.unwrap_or_default(),
            oauth_url: String::new(),
            name: self.name,
            key: self.key,
        }
    }
}

/// Lets git trust the cluster's certificate, and ask us for the key.
async fn configure_git(cluster: &Cluster, context: &Context<'_>) -> Outcome {
    let git = context.environment.git();
    git.check_installed()?;
    let Some(path) = context.environment.ca_path(&cluster.name) else {
        return Err(Failure::said("HOME is not set, so git cannot be configured: use --no-git"));
    };
    let response = Controller::of(cluster)?.raw(Path::of(&["ca-cert"])).await?;
    let pem = response.bytes().await?;
    if pem.len() > MAX_CA {
        return Err(Failure::said("the cluster's CA certificate is larger than 1 MiB"));
    }
    let folder = super::ca_folder(&path);
    let written = std::fs::create_dir_all(&folder);
    written
        .and_then(|()| replace_file(&path, &pem))
        .and_then(|()| replace_file(&folder.join("ca.pem"), &pem))
        .map_err(Failure::io(format!("could not write {}", path.display())))?;
    git.set_global(&format!("http.{}.sslCAInfo", cluster.git_url), path.as_os_str())?;
    // GIT_SSL_CAINFO, where a machine sets it for all, hides the setting above, but not this one.
    git.set_global(&format!("http.{}.sslCAPath", cluster.git_url), folder.as_os_str())?;
    let mut helper = quoted(context.environment.program.as_os_str());
    helper.push(" git-credentials");
    git.set_global(&format!("credential.{}.helper", cluster.git_url), &helper)?;
    Ok(())
}

/// git hands a helper's text to a shell: a path with characters a shell reads must be quoted.
fn quoted(program: &std::ffi::OsStr) -> OsString {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    let text = program.as_encoded_bytes();
    if text.iter().all(plain) {
        return program.to_owned();
    }
    OsString::from(format!("'{}'", program.to_string_lossy().replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_follow_from_the_domain_or_the_controllers_url() {
        let args = |domain: &str| Args {
            force: false,
            default: false,
            git_url: None,
            no_git: false,
            image_url: None,
            docker_push_url: None,
            tls_pin: None,
            name: "x".into(),
            domain: domain.into(),
            key: "k".into(),
        };
        for domain in ["foo.test:8443", "https://controller.foo.test:8443"] {
            let cluster = args(domain).into_cluster();
            assert_eq!(cluster.controller_url, "https://controller.foo.test:8443");
            assert_eq!(cluster.git_url, "https://git.foo.test:8443");
            assert_eq!(cluster.image_url, "https://images.foo.test:8443");
        }
        assert_eq!(Args { no_git: true, ..args("foo.test") }.into_cluster().git_url, "");
    }

    #[test]
    fn an_odd_path_is_quoted_for_git() {
        assert_eq!(quoted("/usr/bin/flynn".as_ref()), "/usr/bin/flynn");
        assert_eq!(quoted("/home/a b/it's".as_ref()), "'/home/a b/it'\\''s'");
    }
}
