//! The release of a slug: what the app had before, with the new slug and the process types it brings.

use std::collections::BTreeMap;

use controller_api::{Artifact, HealthCheck, Port, ProcessType, Release, Service};

use super::build::BUILD_TYPE;
use super::{ReceiveError, Work};

/// Metadata of slugs: their process types, a comma list.
const META_TYPES: &str = "slugbuilder.process_types";
const META_STACK: &str = "slugrunner.stack";
const WEB_PORT: u16 = 8080;

/// The release to make. The runner's image comes first: it is the bottom.
pub(super) fn of_slug(work: &Work<'_>, slug: &Artifact) -> Result<Release, ReceiveError> {
    let runner = work.stack.runner(work.settings);
    let runner = runner.map_err(|reason| ReceiveError::Image { image: "slugrunner", reason })?;
    let slug_id = slug.id.clone().ok_or(ReceiveError::NoId)?;
    let old = work.target.release.clone().unwrap_or_default();
    let mut meta = old.meta;
    meta.extend(work.order.meta.clone());
    meta.insert(META_STACK.to_owned(), work.stack.meta().to_owned());
    Ok(Release {
        app_id: Some(work.target.id.clone()),
        artifacts: vec![runner, slug_id],
        env: work.env(),
        meta,
        processes: processes(&work.target.app.name, slug, &old.processes),
        ..Release::default()
    })
}

/// The slug's types with their old settings; the limits of builds stay, other old types go.
fn processes(
    app: &str,
    slug: &Artifact,
    old: &BTreeMap<String, ProcessType>,
) -> BTreeMap<String, ProcessType> {
    let types = slug.meta.get(META_TYPES).map_or("", String::as_str);
    let types = types.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut processes: BTreeMap<_, _> = types
        .map(|name| {
            (name.to_owned(), process(app, name, old.get(name).cloned().unwrap_or_default()))
        })
        .collect();
    if let Some(limits) = old.get(BUILD_TYPE) {
        processes.entry(BUILD_TYPE.to_owned()).or_insert_with(|| limits.clone());
    }
    processes
}

fn process(app: &str, name: &str, mut process: ProcessType) -> ProcessType {
    process.args = ["/runner/init", "start", name].map(str::to_owned).into();
    let serves = name == "web" || name.ends_with("-web");
    if serves && process.service.is_empty() {
        let service = format!("{app}-{name}");
        let check = HealthCheck { kind: "tcp".to_owned(), ..HealthCheck::default() };
        let registered = Service { name: service.clone(), create: true, check: Some(check) };
        process.ports =
            vec![Port { port: WEB_PORT, proto: "tcp".to_owned(), service: Some(registered) }];
        process.service = service;
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(types: Option<&str>) -> Artifact {
        let meta = types.map(|types| (META_TYPES.to_owned(), types.to_owned()));
        Artifact { meta: meta.into_iter().collect(), ..Artifact::default() }
    }

    #[test]
    fn types_of_the_slug_keep_their_settings_and_web_types_are_served() {
        let port = Port { port: 9090, proto: "tcp".to_owned(), service: None };
        let web = ProcessType {
            service: "mine".into(),
            ports: vec![port.clone()],
            ..ProcessType::default()
        };
        let limits = ProcessType { omni: true, ..ProcessType::default() };
        let old = [("web", web), ("gone", ProcessType::default()), (BUILD_TYPE, limits.clone())];
        let old = old.map(|(name, process)| (name.to_owned(), process)).into();
        let new = processes("demo", &slug(Some("web,admin-web,worker")), &old);
        let names: Vec<_> = new.keys().map(String::as_str).collect();
        assert_eq!(names, ["admin-web", BUILD_TYPE, "web", "worker"]);
        assert_eq!((&new["web"].service[..], &new["web"].ports), ("mine", &vec![port]));
        assert_eq!(new["web"].args, ["/runner/init", "start", "web"]);
        assert_eq!(new["admin-web"].service, "demo-admin-web");
        assert_eq!(new["admin-web"].ports[0].port, 8080);
        assert!(new["worker"].ports.is_empty() && new["worker"].service.is_empty());
        assert_eq!(new[BUILD_TYPE], limits);
        assert!(processes("demo", &slug(None), &BTreeMap::new()).is_empty());
    }
}
