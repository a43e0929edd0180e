//! The router's peers: nginx and HAProxy before one backend, with as few settings as such a test needs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use cluster_tests::Node;

/// A peer that runs, ended with its value.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn nginx(node: &Node, dir: &Path, backend: &str) -> anyhow::Result<Proxy> {
    let text = format!(
        "daemon off; worker_processes auto; error_log stderr; pid {0}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {0}/a; proxy_temp_path {0}/b;\n\
         fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;\n\
         upstream app {{ server {backend}; keepalive 64; }}\n\
         server {{ listen 127.0.0.1:8081; keepalive_requests 1000000;\n\
         location / {{ proxy_pass http://app; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n",
        dir.display()
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = node.host.command("nginx");
    command.arg("-c").arg(file);
    start("nginx", 8081, command)
}

pub(crate) fn haproxy(node: &Node, dir: &Path, backend: &str) -> anyhow::Result<Proxy> {
    let text = format!(
        "global\n maxconn 1024\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n \
         timeout server 60s\n option forwardfor\n http-reuse always\nfrontend in\n \
         bind 127.0.0.1:8082\n default_backend app\nbackend app\n server one {backend}\n"
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, text)?;
    let mut command = node.host.command("haproxy");
    command.arg("-f").arg(file);
    start("haproxy", 8082, command)
}

fn start(name: &'static str, port: u16, mut command: Command) -> anyhow::Result<Proxy> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context(name)?;
    Ok(Proxy { name, port, child })
}
