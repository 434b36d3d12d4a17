//! `atoll trust`: makes this machine's programs and browsers believe the
//! cluster's authority, and takes that away again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use installer::{apply, authority, command};

use crate::arguments::Common;
use crate::{block_on, packages};

/// Where Debian keeps authorities that a machine's owner added.
const SYSTEM: &str = "/usr/local/share/ca-certificates";

pub fn trust(common: &Common, remove: bool) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    let nickname = format!("atoll-{}", common.name);
    let system = Path::new(SYSTEM).join(format!("{nickname}.crt"));
    let mut changed = Vec::new();
    if remove {
        if system.exists() {
            std::fs::remove_file(&system).with_context(|| format!("removing {}", system.display()))?;
            command::call("update-ca-certificates", ["--fresh"])?;
            changed.push(SYSTEM.to_string());
        }
    } else {
        let certificate = block_on(async {
            let client = apply::client(&common.place().directory().0.join("direct.conf")).await?;
            Ok(authority::ensure(&client, &common.name).await?)
        })?;
        std::fs::create_dir_all(SYSTEM).with_context(|| format!("creating {SYSTEM}"))?;
        std::fs::write(&system, &certificate).with_context(|| format!("writing {}", system.display()))?;
        command::call("update-ca-certificates", Vec::<&str>::new())?;
        changed.push(SYSTEM.to_string());
    }
    for database in databases() {
        let name = format!("sql:{}", database.display());
        let known = Command::new("certutil").args(["-L", "-d", &name, "-n", &nickname]).output();
        let Ok(known) = known else {
            eprintln!(
                "browsers keep their own list: install the Debian package libnss3-tools and run this again"
            );
            break;
        };
        if known.status.success() {
            command::call("certutil", ["-D", "-d", &name, "-n", &nickname])?;
        }
        if !remove {
            let file = system.display().to_string();
            command::call("certutil", ["-A", "-d", &name, "-n", &nickname, "-t", "C,,", "-i", &file])?;
        }
        changed.push(database.display().to_string());
    }
    let verb = if remove { "no longer trusted in" } else { "trusted in" };
    println!("The authority of cluster {} is {verb} {}.", common.name, changed.join(", "));
    if !remove {
        println!(
            "Running browsers see it after they are started again; `atoll trust --remove` takes it away."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The certificate databases of the user's browsers: of whoever called sudo,
/// when it was used.
fn databases() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let mut found = vec![home.join(".pki/nssdb")];
    if let Ok(profiles) = std::fs::read_dir(home.join(".mozilla/firefox")) {
        found.extend(profiles.flatten().map(|entry| entry.path()));
    }
    found.retain(|folder| folder.join("cert9.db").exists());
    found
}
