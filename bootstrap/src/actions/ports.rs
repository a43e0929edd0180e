//! Are the platform's ports free on every host?

use host_api::{HostPort, ResourceCheck};
use kit_http::ErrorCode;

use super::{ActionError, Context, call};
use crate::values::Value;

/// Asks every host; all conflicts are told at once.
pub(super) async fn check(ports: &[Value], context: &Context<'_>) -> Result<(), ActionError> {
    let ports = ports.iter().map(|port| number(port, context)).collect::<Result<Vec<_>, _>>()?;
    let mut conflicts = Vec::new();
    for host in context.hosts {
        let ports = ports.iter().map(|port| HostPort { port: *port, proto: "tcp".to_owned() });
        match host.client.check_ports(ports.collect()).await {
            Ok(()) => {}
            Err(error) if error.api_code() == Some(ErrorCode::Conflict) => {
                let detail = error.api().and_then(|api| api.detail.clone()).unwrap_or_default();
                let taken: ResourceCheck = serde_json::from_value(detail).unwrap_or_default();
                let list = taken.ports.iter().map(|port| format!("{}:{}", port.proto, port.port));
                conflicts.push(format!("{}: {}", host.ip, list.collect::<Vec<_>>().join(" ")));
            }
            Err(error) => {
                return Err(call(format!("checking the ports of host {}", host.id))(error));
            }
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(ActionError::Conflicts(conflicts)) }
}

fn number(port: &Value, context: &Context<'_>) -> Result<u16, ActionError> {
    let text = context.resolve(port)?;
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or(ActionError::NoPort(text))
}
