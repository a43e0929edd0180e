//! How the file of `flynn release update` changes a release: maps key by key, lists as a whole,
//! switches only on.

use std::collections::BTreeMap;

use controller_api::{ProcessType, Release};

/// `base` with what `changes` says.
pub(super) fn merged(base: Release, changes: Release) -> Release {
    let mut release = base;
    release.env.extend(changes.env);
    release.meta.extend(changes.meta);
    if !changes.artifacts.is_empty() {
        release.artifacts = changes.artifacts;
    }
    for (name, change) in changes.processes {
        let process = release.processes.remove(&name).unwrap_or_default();
        release.processes.insert(name, merged_process(process, change));
    }
    release
}

fn merged_process(old: ProcessType, new: ProcessType) -> ProcessType {
    ProcessType {
        args: non_empty(new.args, old.args),
        env: joined(old.env, new.env),
        ports: non_empty(new.ports, old.ports),
        volumes: non_empty(new.volumes, old.volumes),
        omni: old.omni || new.omni,
        host_network: old.host_network || new.host_network,
        host_pid_namespace: old.host_pid_namespace || new.host_pid_namespace,
        service: if new.service.is_empty() { old.service } else { new.service },
        resurrect: old.resurrect || new.resurrect,
        resources: controller_api::Resources(joined(old.resources.0, new.resources.0)),
        mounts: non_empty(new.mounts, old.mounts),
        profiles: non_empty(new.profiles, old.profiles),
        linux_capabilities: non_empty(new.linux_capabilities, old.linux_capabilities),
        allowed_devices: non_empty(new.allowed_devices, old.allowed_devices),
        writeable_cgroups: old.writeable_cgroups || new.writeable_cgroups,
        register: old.register || new.register,
        cmd: non_empty(new.cmd, old.cmd),
        entrypoint: non_empty(new.entrypoint, old.entrypoint),
        data: old.data || new.data,
    }
}

fn non_empty<T>(new: Vec<T>, old: Vec<T>) -> Vec<T> {
    if new.is_empty() { old } else { new }
}

fn joined<V>(mut old: BTreeMap<String, V>, new: BTreeMap<String, V>) -> BTreeMap<String, V> {
    old.extend(new);
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(json: &str) -> Release {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let old = release(
            r#"{"env":{"A":"1","B":"2"},"processes":{"echoer":{"args":["/bin/echoer"],"env":{"X":"1","Y":"2"},"omni":true}}}"#,
        );
        let change = release(r#"{"env":{"B":"3"},"processes":{"echoer":{"env":{"Y":"9","Z":"0"}},"new":{"args":["n"]}}}"#);
        let want = release(
            r#"{"env":{"A":"1","B":"3"},"processes":{
                "echoer":{"args":["/bin/echoer"],"env":{"X":"1","Y":"9","Z":"0"},"omni":true},"new":{"args":["n"]}}}"#,
        );
        assert_eq!(merged(old, change), want);
    }
}
