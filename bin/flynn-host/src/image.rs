//! `image import`, `image list`: the images of this host's own store. Works beside a running daemon.

mod built;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use host_image::{Form, Image, Images, LayerStore, import};

use crate::say;
use crate::table::{render, row};

/// Arguments of `image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The daemon's data directory.
    #[arg(long, default_value = "/var/lib/flynn")]
    data_dir: PathBuf,
    /// Where the daemon's API is for those who get the image's artifact.
    #[arg(long, default_value = "http://127.0.0.1:1113")]
    url: String,
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Make an image of directories, .tar or .squashfs files, the lowest layer first.
    Import {
        name: String,
        #[arg(required = true)]
        sources: Vec<PathBuf>,
    },
    /// Import the images that a build has described in a directory, as far as they changed.
    ImportAll { dir: PathBuf },
    /// List images.
    List,
}

pub(crate) async fn run(args: ImageArgs) -> anyhow::Result<()> {
    let images = Images::open(args.data_dir.join("images.json"));
    match args.command {
        ImageCommand::Import { name, sources } => {
            // The form is the daemon's affair; importing makes the file only.
            let store = LayerStore::open(args.data_dir.join("layers"), Form::Squashfs)?;
            let mut layers = Vec::new();
            for source in &sources {
                layers.push(import::path(&store, source).await?);
            }
            let image = Image::of_layers(&name, &layers, &args.url);
            say(&format!("imported {name} {}\n", image.manifest_id().unwrap_or_default()));
            images.put(image)?;
        }
        ImageCommand::ImportAll { dir } => {
            let store = LayerStore::open(args.data_dir.join("layers"), Form::Squashfs)?;
            let record = args.data_dir.join("imported.json");
            built::import_all(&dir, &record, &store, &images, &args.url).await?;
        }
        ImageCommand::List => {
            let mut rows = vec![row(["NAME", "ID"])];
            let all = images.all()?;
            rows.extend(
                all.iter()
                    .map(|image| row([&image.name, &image.manifest_id().unwrap_or_default()])),
            );
            say(&render(&rows));
        }
    }
    Ok(())
}
