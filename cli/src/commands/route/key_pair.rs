//! The certificate and key of a route, from files or both from stdin.

use controller_api::Certificate;

use crate::context::Context;
use crate::failure::Failure;

/// `-c` and `-k`: both or none.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// PEM file of the certificate and its chain; `-` for stdin
    #[arg(short = 'c', long)]
    tls_cert: Option<String>,
    /// PEM file of the private key; `-` for stdin
    #[arg(short = 'k', long)]
    tls_key: Option<String>,
}

impl Files {
    pub(super) fn read(&self, context: &mut Context<'_>) -> Result<Option<Certificate>, Failure> {
        let (certificate, key) = match (self.tls_cert.as_deref(), self.tls_key.as_deref()) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::said("Both the TLS certificate AND private key need to be specified"));
            }
        };
        let stdin = if certificate == "-" || key == "-" { read_stdin(context)? } else { String::new() };
        let certificate = section(certificate, &stdin, "CERTIFICATE", context)?;
        let key = section(key, &stdin, "PRIVATE KEY", context)?;
        Ok(Some(Certificate::new(&certificate, &key)))
    }
}

fn read_stdin(context: &mut Context<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::Read::read_to_string(&mut context.streams.input, &mut text);
    read.map(|_| text).map_err(Failure::io("could not read the certificate and key"))
}

/// A file's content, or stdin's sections whose label ends with `label`.
fn section(file: &str, stdin: &str, label: &str, context: &Context<'_>) -> Result<String, Failure> {
    if file == "-" {
        return Ok(sections(stdin, label));
    }
    let path = context.environment.directory.join(file);
    std::fs::read_to_string(&path).map_err(Failure::io(format!("could not read {file}")))
}

fn sections(text: &str, label: &str) -> String {
    let (mut found, mut inside) = (String::new(), false);
    for line in text.lines() {
        inside |= line.starts_with("-----BEGIN ") && line.ends_with(&format!("{label}-----"));
        if inside {
            found.push_str(line);
            found.push('\n');
        }
        inside &= !line.starts_with("-----END ");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdin_may_hold_both_in_any_order() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nk\n-----END RSA PRIVATE KEY-----\n\
                    -----BEGIN CERTIFICATE-----\na\n-----END CERTIFICATE-----\nnoise\n\
                    -----BEGIN CERTIFICATE-----\nb\n-----END CERTIFICATE-----\n";
        let certificates = sections(text, "CERTIFICATE");
        assert!(certificates.contains("\na\n") && certificates.contains("\nb\n") && !certificates.contains("noise"));
        assert_eq!(sections(text, "PRIVATE KEY").lines().count(), 3);
    }
}
