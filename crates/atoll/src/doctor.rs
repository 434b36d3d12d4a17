//! `atoll doctor`: what this machine has and lacks, and what follows.

use std::process::ExitCode;

use installer::machine::{Facts, Verdict};

use crate::arguments::{Common, Output};

pub fn doctor(common: &Common, output: Output) -> anyhow::Result<ExitCode> {
    let findings = Facts::read(&common.state)?.findings();
    let fit = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    if output != Output::Table {
        output.print(&findings)?;
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Good => "good",
                Verdict::Limited => "limited",
                Verdict::Missing => "MISSING",
            };
            println!("{mark:<8} {:<17} {}", finding.what, finding.detail);
        }
        println!();
        println!("{}", if fit { "A cluster can run here." } else { "A cluster can't run here yet." });
    }
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
