//! From a release to what a host is asked to run. Everybody who starts jobs of the platform (the
//! controller's one-off jobs, the scheduler, the bootstrap) uses this, so that a job looks the same
//! whoever started it.
//!
//! Nothing is chosen here: the host is part of the job's id, volumes were made by the caller.

use std::collections::BTreeMap;

use host_api::{ContainerConfig, Job, Mountspec, Profile, ResourceKind, VolumeBinding};
use kit_ids::{AppId, JobId, ReleaseId};

use crate::image::{DEFAULT_ENTRYPOINT, ImageEntrypoint, ImageManifest, LAYER_TYPE};
use crate::{App, Artifact, NewJob, ProcessType, Release, Resources};

/// Metadata of a job: its app's id.
pub const META_APP: &str = "flynn-controller.app";
/// Metadata of a job: its app's name.
pub const META_APP_NAME: &str = "flynn-controller.app_name";
/// Metadata of a job: its release's id.
pub const META_RELEASE: &str = "flynn-controller.release";
/// Metadata of a job: its process type; absent for one-off jobs.
pub const META_TYPE: &str = "flynn-controller.type";
/// Metadata of a job: `"true"` when it belongs to a formation.
pub const META_FORMATION: &str = "flynn-controller.formation";
/// What all metadata keys of the controller begin with.
pub const META_PREFIX: &str = "flynn-controller.";

/// Makes jobs of one app's release.
#[derive(Clone, Debug)]
pub struct JobBuilder<'a> {
    app: &'a App,
    app_id: &'a AppId,
    release: &'a Release,
    release_id: &'a ReleaseId,
    images: Vec<(&'a Artifact, ImageManifest)>,
}

/// Why a release cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BuildJobError {
    /// The app or the release was never stored.
    #[error("the {0} has no id")]
    NoId(&'static str),
    /// There is nothing to run.
    #[error("release is not deployable: it has no artifacts")]
    NoArtifacts,
    /// An artifact's manifest does not have the form of a manifest.
    #[error("the manifest of artifact {uri} cannot be read")]
    Manifest {
        /// Where the artifact came from.
        uri: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The artifacts hold no layer.
    #[error("the artifacts of release {release} hold no root file system")]
    NoLayers {
        /// The release.
        release: ReleaseId,
    },
    /// The release has no such process type.
    #[error("release {release} has no process type {process_type:?}")]
    UnknownType {
        /// The release.
        release: ReleaseId,
        /// What was asked for.
        process_type: String,
    },
    /// A profile is none of the known ones.
    #[error("unknown profile {0:?}: use zfs, kvm or loop")]
    UnknownProfile(String),
}

impl<'a> JobBuilder<'a> {
    /// Reads the manifests of `artifacts`, which are those of the release in its order.
    ///
    /// # Errors
    /// When the release cannot be run at all.
    pub fn new(
        app: &'a App,
        release: &'a Release,
        artifacts: &'a [Artifact],
    ) -> Result<Self, BuildJobError> {
        let app_id = app.id.as_ref().ok_or(BuildJobError::NoId("app"))?;
        let release_id = release.id.as_ref().ok_or(BuildJobError::NoId("release"))?;
        if artifacts.is_empty() {
            return Err(BuildJobError::NoArtifacts);
        }
        let images = artifacts.iter().map(read_image).collect::<Result<_, _>>()?;
        Ok(Self { app, app_id, release, release_id, images })
    }

    /// A job of the formation. `volumes` are those the process type asks for.
    ///
    /// # Errors
    /// When the release has no such process type, or no root file system.
    pub fn formation_job(
        &self,
        id: JobId,
        process_type: &str,
        volumes: Vec<VolumeBinding>,
    ) -> Result<Job, BuildJobError> {
        let process = self.release.processes.get(process_type);
        let process = process.ok_or_else(|| BuildJobError::UnknownType {
            release: self.release_id.clone(),
            process_type: process_type.to_owned(),
        })?;
        let entrypoint = self.entrypoint(process_type);
        let mut config = process_config(process, &entrypoint);
        config.volumes = volumes;
        config.env = self.formation_env(&id, process_type, process, entrypoint.env);
        let mut metadata = self.app.meta.clone();
        metadata.extend(self.metadata());
        metadata.insert(META_FORMATION.to_owned(), "true".to_owned());
        metadata.insert(META_TYPE.to_owned(), process_type.to_owned());
        Ok(Job {
            mountspecs: self.mountspecs()?,
            metadata,
            resources: with_defaults(process.resources.clone()),
            partition: if self.app.is_system() { "system".to_owned() } else { String::new() },
            config,
            resurrect: process.resurrect,
            profiles: profiles(&process.profiles)?,
            ..Job::new(id)
        })
    }

    /// A job outside any formation. `stdin` connects its input, for an attached job. A volume for
    /// `request.data` is the caller's.
    ///
    /// # Errors
    /// When there is no root file system.
    pub fn one_off_job(
        &self,
        id: JobId,
        request: &NewJob,
        stdin: bool,
    ) -> Result<Job, BuildJobError> {
        let entrypoint = self.entrypoint("");
        let mounts = self.release.processes.get(&request.mounts_from);
        let config = ContainerConfig {
            args: one_off_args(request, &entrypoint),
            env: self.one_off_env(&id, request, entrypoint.env),
            tty: request.tty,
            stdin,
            working_dir: entrypoint.cwd,
            uid: entrypoint.uid,
            gid: entrypoint.gid,
            disable_log: request.disable_log,
            mounts: mounts.map(|process| process.mounts.clone()).unwrap_or_default(),
            ..ContainerConfig::default()
        };
        let mut metadata = request.meta.clone();
        metadata.extend(self.metadata());
        Ok(Job {
            mountspecs: self.mountspecs()?,
            metadata,
            resources: with_defaults(request.resources.clone()),
            partition: request.partition.map(|p| p.as_str().to_owned()).unwrap_or_default(),
            config,
            profiles: profiles(&request.profiles)?,
            ..Job::new(id)
        })
    }

    /// The entrypoint of the last image that has one for the type, else of the last that has a
    /// default.
    fn entrypoint(&self, process_type: &str) -> ImageEntrypoint {
        let named = |name: &str| {
            self.images.iter().rev().find_map(|(_, image)| image.entrypoints.get(name)).cloned()
        };
        named(process_type).or_else(|| named(DEFAULT_ENTRYPOINT)).unwrap_or_default()
    }

    /// The layers of all images, the lowest first. An image without exactly one root file system
    /// adds none.
    fn mountspecs(&self) -> Result<Vec<Mountspec>, BuildJobError> {
        let specs: Vec<_> = self.images.iter().flat_map(|(of, image)| layers(of, image)).collect();
        if specs.is_empty() {
            return Err(BuildJobError::NoLayers { release: self.release_id.clone() });
        }
        Ok(specs)
    }

    fn metadata(&self) -> [(String, String); 3] {
        [
            (META_APP.to_owned(), self.app_id.to_string()),
            (META_APP_NAME.to_owned(), self.app.name.clone()),
            (META_RELEASE.to_owned(), self.release_id.to_string()),
        ]
    }

    /// Image, release, process; what Flynn states wins always.
    fn formation_env(
        &self,
        id: &JobId,
        process_type: &str,
        process: &ProcessType,
        mut env: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        env.extend(self.release.env.clone());
        env.extend(process.env.clone());
        env.extend(self.flynn_env(id, process_type));
        env.insert("FLYNN_APP_NAME".to_owned(), self.app.name.clone());
        env
    }

    /// What Flynn states comes first here: a one-off job may override it.
    fn one_off_env(
        &self,
        id: &JobId,
        request: &NewJob,
        image: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from(self.flynn_env(id, ""));
        env.extend(image);
        if request.release_env {
            env.extend(self.release.env.clone());
        }
        env.extend(request.env.clone());
        env
    }

    fn flynn_env(&self, id: &JobId, process_type: &str) -> [(String, String); 4] {
        [
            ("FLYNN_APP_ID".to_owned(), self.app_id.to_string()),
            ("FLYNN_RELEASE_ID".to_owned(), self.release_id.to_string()),
            ("FLYNN_PROCESS_TYPE".to_owned(), process_type.to_owned()),
            ("FLYNN_JOB_ID".to_owned(), id.to_string()),
        ]
    }
}

/// Limits that are filled in; as requests they were stated by nobody.
const FILLED_IN_MEMORY: i64 = 1 << 30;
const FILLED_IN_CPU: i64 = 1000;
/// What a job holds of its host when nobody stated anything: 96 MiB and 50 m of a processor.
const RESERVED_MEMORY: u64 = 96 << 20;
const RESERVED_CPU: u64 = 50;

/// Bytes of memory and thousandths of a processor that a job holds of its host: what was stated by a
/// person, else the host's default.
pub fn reserved(resources: &Resources) -> (u64, u64) {
    let stated = |kind, filled_in| {
        let request = resources.get(kind).request.filter(|request| *request != filled_in);
        request.and_then(|request| u64::try_from(request).ok())
    };
    (
        stated(ResourceKind::Memory, FILLED_IN_MEMORY).unwrap_or(RESERVED_MEMORY),
        stated(ResourceKind::Cpu, FILLED_IN_CPU).unwrap_or(RESERVED_CPU),
    )
}

/// Fills in what nobody stated: memory 1 GiB, one processor, 100 MiB of scratch, 10,000 files; a
/// missing request equals its limit.
pub fn with_defaults(mut resources: Resources) -> Resources {
    let defaults = [
        (ResourceKind::Memory, FILLED_IN_MEMORY),
        (ResourceKind::Cpu, FILLED_IN_CPU),
        (ResourceKind::TempDisk, 100 << 20),
        (ResourceKind::MaxFd, 10_000),
    ];
    for (kind, default) in defaults {
        let stated = resources.get(kind);
        let limit = stated.limit.unwrap_or(default);
        resources.set(kind, stated.request.or(Some(limit)), Some(limit));
    }
    resources
}

fn read_image(artifact: &Artifact) -> Result<(&Artifact, ImageManifest), BuildJobError> {
    let uri = artifact.uri.clone();
    let image = match &artifact.manifest {
        Some(raw) => serde::Deserialize::deserialize(raw)
            .map_err(|source| BuildJobError::Manifest { uri, source })?,
        None => ImageManifest::default(),
    };
    Ok((artifact, image))
}

fn layers(artifact: &Artifact, image: &ImageManifest) -> Vec<Mountspec> {
    let [rootfs] = image.rootfs.as_slice() else { return Vec::new() };
    let layers = rootfs.layers.iter().filter(|layer| layer.media_type == LAYER_TYPE);
    let spec = |layer: &crate::image::ImageLayer| Mountspec {
        kind: "squashfs".to_owned(),
        id: layer.id.clone(),
        url: artifact.layer_url_template.replace("{id}", &layer.id),
        size: layer.length,
        hashes: layer.hashes.clone(),
        meta: artifact.meta.clone(),
    };
    layers.map(spec).collect()
}

fn process_config(process: &ProcessType, entrypoint: &ImageEntrypoint) -> ContainerConfig {
    let capabilities = process.linux_capabilities.clone();
    ContainerConfig {
        args: process_args(process, entrypoint),
        mounts: process.mounts.clone(),
        ports: process.ports.iter().cloned().map(Into::into).collect(),
        working_dir: entrypoint.cwd.clone(),
        uid: entrypoint.uid,
        gid: entrypoint.gid,
        host_network: process.host_network,
        host_pid_namespace: process.host_pid_namespace,
        linux_capabilities: if capabilities.is_empty() { None } else { Some(capabilities) },
        allowed_devices: process.allowed_devices.clone(),
        writeable_cgroups: process.writeable_cgroups,
        register: process.register,
        ..ContainerConfig::default()
    }
}

fn process_args(process: &ProcessType, entrypoint: &ImageEntrypoint) -> Vec<String> {
    if !process.args.is_empty() {
        return process.args.clone();
    }
    if !entrypoint.args.is_empty() {
        return entrypoint.args.clone();
    }
    [process.entrypoint.clone(), process.cmd.clone()].concat()
}

fn one_off_args(request: &NewJob, entrypoint: &ImageEntrypoint) -> Vec<String> {
    let deprecated = [request.entrypoint.clone(), request.cmd.clone()].concat();
    [&request.args, &deprecated]
        .into_iter()
        .find(|args| !args.is_empty())
        .map_or_else(|| entrypoint.args.clone(), Clone::clone)
}

fn profiles(names: &[String]) -> Result<Vec<Profile>, BuildJobError> {
    let parse = |name: &String| match name.as_str() {
        "zfs" => Ok(Profile::Zfs),
        "kvm" => Ok(Profile::Kvm),
        "loop" => Ok(Profile::Loop),
        _ => Err(BuildJobError::UnknownProfile(name.clone())),
    };
    names.iter().map(parse).collect()
}
