//! `atoll image`: builds, carries and shows cluster images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use installer::image::{self, BuildOptions, Image, REQUIRED_PACKAGES, Store};
use installer::machine;
use installer::progress::Progress;
use serde_json::json;

use crate::arguments::{Common, Image as Words, Output};
use crate::packages;
use crate::terminal::Terminal;

pub fn run(common: &Common, words: Words) -> anyhow::Result<ExitCode> {
    match words {
        Words::Build { file, tag, no_install } => build(common, file, tag, no_install)?,
        Words::List { output } => list(common, output)?,
        Words::Inspect { reference, output } => inspect(common, &reference, output)?,
        Words::Save { reference, file } => {
            let image = common.store()?.save(&reference, &file)?;
            println!("{} is in {}.", image.reference, file.display());
        }
        Words::Load { file } => {
            let image = common.store()?.load(&file)?;
            println!("Loaded {} ({}).", image.reference, image.digest);
        }
        Words::Remove { reference } => {
            let image = common.store()?.remove(&reference)?;
            println!("Removed {} ({}).", image.reference, image.digest);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkout this program was compiled from: what it builds images of.
fn checkout() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_path_buf()
}

/// The packages that a build needs, beside those that running does.
fn programs() -> Vec<(&'static str, &'static str)> {
    REQUIRED_PACKAGES.iter().map(|required| (required.command, required.package)).collect()
}

/// Builds the image of this checkout for `up`. What was built before is taken
/// from the cache, so that an unchanged checkout costs a look.
pub fn build_default(
    common: &Common,
    store: &Store,
    no_install: bool,
    progress: &dyn Progress,
) -> installer::Result<Image> {
    let missing = packages::ensure(&programs(), no_install);
    missing.map_err(|error| installer::Error::Input(format!("{error:#}")))?;
    let free = machine::free_space(store.cache())?;
    let wanted = machine::LEAST_DISK_TO_BUILD;
    let has_one = store.find(image::DEFAULT_NAME).is_ok();
    if free < wanted && !has_one {
        return Err(installer::Error::Machine {
            what: format!(
                "{} has {} GiB free and building needs {}",
                store.cache().display(),
                free >> 30,
                wanted >> 30
            ),
            remedy: "free some, choose another place with --cache, or take a built image with --image".into(),
        });
    }
    let options = options(common, store);
    Ok(image::build(&options, progress)?)
}

fn options(common: &Common, store: &Store) -> BuildOptions {
    BuildOptions {
        cache: store.cache().to_path_buf(),
        limit: common.cache_limit << 30,
        ..BuildOptions::new(checkout())
    }
}

fn build(
    common: &Common,
    file: Option<PathBuf>,
    tag: Option<String>,
    no_install: bool,
) -> anyhow::Result<()> {
    packages::become_root()?;
    packages::ensure(&programs(), no_install)?;
    let store = common.store()?;
    let mut options = options(common, &store);
    if let Some(name) = tag {
        options.name = name;
    }
    if let Some(file) = file {
        options.kubefile = Some(file.canonicalize().with_context(|| format!("finding {}", file.display()))?);
    }
    let terminal = Terminal::new();
    let result = image::build(&options, &terminal);
    terminal.finish();
    let image = result?;
    println!("Built {} ({}, {}).", image.reference, image.digest, size(image.size));
    Ok(())
}

fn size(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn list(common: &Common, output: Output) -> anyhow::Result<()> {
    let images = common.store()?.list()?;
    if output != Output::Table {
        output.print(&images)?;
        return Ok(());
    }
    println!("{:<32} {:<14} {:>10}  CREATED", "IMAGE", "DIGEST", "SIZE");
    for image in images {
        println!(
            "{:<32} {:<14} {:>10}  {}",
            image.reference,
            image.digest.short(),
            size(image.size),
            image.created.unwrap_or_default()
        );
    }
    Ok(())
}

fn inspect(common: &Common, reference: &str, output: Output) -> anyhow::Result<()> {
    let store = common.store()?;
    let image = store.find(reference)?;
    let carried = image::container_images(&store.unpacked(&image)?)?;
    if output != Output::Table {
        let all = json!({ "image": image, "containerImages": carried });
        output.print(&all)?;
        return Ok(());
    }
    println!("{} {} {}", image.reference, image.digest, size(image.size));
    for (label, value) in &image.labels {
        println!("  label  {label}={value}");
    }
    for layer in &image.layers {
        let made = layer.made_by.as_deref().unwrap_or_default();
        println!("  layer  {:<12} {:>8}  {made}", layer.digest.short(), size(layer.size));
    }
    for container in carried {
        println!("  image  {:<12} {}", container.group, container.name);
    }
    Ok(())
}
