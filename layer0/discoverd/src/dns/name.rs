//! What a question's name asks for.

use hickory_proto::rr::Name;

/// The last label of all names of services.
const ZONE: &str = "discoverd";

/// A name below `discoverd.`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `<service>.discoverd`, or `_<service>._<proto>.discoverd`.
    Service { service: String, proto: Option<String> },
    /// `<id>.<service>._i.discoverd`.
    Instance { service: String, id: String },
    /// `leader.<service>.discoverd`.
    Leader { service: String },
    /// Any other name of the zone.
    Nothing,
}

/// Reads a name; None for one that is not below `discoverd.`.
pub(super) fn read(name: &Name) -> Option<Wanted> {
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let (zone, rest) = labels.split_last()?;
    if zone != ZONE {
        return None;
    }
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    Some(match *rest.as_slice() {
        [service] => Wanted::Service { service: service.to_owned(), proto: None },
        ["leader", service] => Wanted::Leader { service: service.to_owned() },
        [id, service, "_i"] => Wanted::Instance { service: service.to_owned(), id: id.to_owned() },
        [service, proto] => match (service.strip_prefix('_'), proto.strip_prefix('_')) {
            (Some(service), Some(proto)) => {
                Wanted::Service { service: service.to_owned(), proto: Some(proto.to_owned()) }
            }
            (_, _) => Wanted::Nothing,
        },
        _ => Wanted::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_wanted() {
        let service = |service: &str, proto: Option<&str>| Wanted::Service {
            service: service.to_owned(),
            proto: proto.map(str::to_owned),
        };
        for (name, wanted) in [
            ("a.discoverd.", Some(service("a", None))),
            ("A.DISCOVERD.", Some(service("a", None))),
            ("_a._tcp.discoverd.", Some(service("a", Some("tcp")))),
            ("leader.a.discoverd.", Some(Wanted::Leader { service: "a".to_owned() })),
            (
                "4d.a._i.discoverd.",
                Some(Wanted::Instance { service: "a".to_owned(), id: "4d".to_owned() }),
            ),
            ("discoverd.", Some(Wanted::Nothing)),
            ("asdf.b.discoverd.", Some(Wanted::Nothing)),
            ("x.leader.a.discoverd.", Some(Wanted::Nothing)),
            ("example.com.", None),
            (".", None),
        ] {
            assert_eq!(read(&Name::from_ascii(name).unwrap()), wanted, "{name}");
        }
    }
}
