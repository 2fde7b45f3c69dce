//! `fairslice export`, and what `check --export` says of it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::out::print;
use super::{complain, output};
use crate::effect::kubernetes::{self, Export, Node};
use crate::host::machine::Machine;
use crate::host::tree;
use crate::policy::{InForce, Policy};
use crate::report;
use crate::survey;
use crate::text::shown;
use crate::units::{Amount, Memory};

#[derive(Debug, Subcommand)]
pub(super) enum To {
    /// Write PriorityClasses, a patch for each service and a drop-in for the kubelet, and print what is lost
    Kubernetes {
        #[command(flatten)]
        node: Size,
        /// Where to; it is made if it is not there. Files of others in it are left alone
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Whose words the policy can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// PriorityClasses, patches and a drop-in for the kubelet
    Kubernetes,
}

/// What a node has, where it is not this machine.
#[derive(Debug, Args)]
pub(super) struct Size {
    /// The node's CPUs [default: this machine's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8192))]
    node_cpus: Option<u32>,
    /// The node's memory, as 16G [default: this machine's]
    #[arg(long, value_name = "M", value_parser = bytes)]
    node_memory: Option<u64>,
}

fn bytes(text: &str) -> Result<u64, String> {
    match Memory::parse(text) {
        Some(Memory(Amount::Absolute(bytes))) if bytes > 0 => Ok(bytes),
        _ => Err("expected bytes, with a suffix of K, M, G or T where that is shorter".to_owned()),
    }
}

impl Size {
    /// Whether it was asked for.
    pub(super) fn is_given(&self) -> bool {
        self.node_cpus.is_some() || self.node_memory.is_some()
    }

    fn node(&self, root: &Path) -> Result<Node> {
        Ok(Node {
            cpus: self.node_cpus.map_or_else(|| tree::online_cpus(root), Ok)?,
            memory: self.node_memory.map_or_else(|| Machine::read(root).map(|machine| machine.ram), Ok)?,
        })
    }
}

pub(super) fn run(root: &Path, to: &To) -> Result<u8> {
    let To::Kubernetes { node, directory } = to;
    let loaded = survey::declared(root);
    if loaded.in_force == InForce::Nothing {
        complain(&loaded);
        bail!("nothing is exported");
    }
    let export = export(root, &loaded.policy, node)?;
    let files = report::kubernetes_files(&export);
    let removed = output::write_all(directory, &files, report::KUBERNETES_HEADER)?;
    let mut text = report::exported_text(&export);
    for name in removed {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: removed, being of an earlier export", shown(&directory.join(name)));
    }
    print(&format!("{text}\n{}", report::losses_text(&export)))?;
    Ok(complain(&loaded))
}

/// What an export would lose.
pub(super) fn losses(root: &Path, policy: &Policy, size: &Size) -> Result<String> {
    Ok(report::losses_text(&export(root, policy, size)?))
}

fn export(root: &Path, policy: &Policy, size: &Size) -> Result<Export> {
    Ok(kubernetes::export(policy, &survey::held(root, policy), size.node(root)?))
}
