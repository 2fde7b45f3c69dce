//! The policy as files for Kubernetes, and what those cannot say.
//!
//! All foreign text in them stands in comments, by [`shown`] on one line, or is a label of RFC 1123.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::table::{PLAIN, Table};
use crate::effect::kubernetes::{Export, Node, Pod, Reserved, Tier, weight};
use crate::effect::memory::size;
use crate::text::{counted, shown};

/// What each file begins with: the next export replaces those that do, and no other.
pub const KUBERNETES_HEADER: &str =
    "# Written by \"fairslice export kubernetes\"; the next one replaces it.\n";

/// The files, by their names.
#[must_use]
pub fn kubernetes_files(export: &Export) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    if !export.tiers.is_empty() {
        let classes: Vec<String> = export.tiers.iter().map(|tier| class(*tier)).collect();
        files.insert("priority-classes.yaml".to_owned(), classes.join("---\n"));
    }
    for pod in &export.pods {
        files.insert(format!("patch-{}.yaml", pod.name), patch(pod, export.node));
    }
    if let Some(reserved) = export.reserved {
        files.insert("50-fairslice.conf".to_owned(), kubelet(reserved, export.node));
    }
    for text in files.values_mut() {
        text.insert_str(0, KUBERNETES_HEADER);
    }
    files
}

/// What Kubernetes cannot say, and what it becomes.
#[must_use]
pub fn losses_text(export: &Export) -> String {
    let mut text = String::new();
    let mut table = Table::new(["OF", "DECLARED", "IN KUBERNETES", "FROM"]);
    for loss in &export.losses {
        let origin = loss.origin.as_ref().map(ToString::to_string).unwrap_or_default();
        table.row(PLAIN, [loss.of.clone(), loss.declared.clone(), loss.becomes.clone(), origin]);
    }
    table.write_to(&mut text);
    if text.is_empty() { "Nothing is lost.\n".to_owned() } else { text }
}

/// What the export comes to, in one line.
#[must_use]
pub fn exported_text(export: &Export) -> String {
    let Some(reserved) = export.reserved else {
        return "no slice of the policy holds a service that is known here: there is nothing to export\n"
            .to_owned();
    };
    let all = u64::from(export.node.cpus) * 1000;
    let rest = all.saturating_sub(reserved.cpu);
    format!(
        "{}, {}; {} of {} CPUs are the pods', whose kubepods.slice weighs {} then\n",
        counted(export.tiers.len(), "PriorityClass", "PriorityClasses"),
        counted(export.pods.len(), "patch", "patches"),
        in_cpus(rest),
        export.node.cpus,
        weight(rest)
    )
}

fn class(tier: Tier) -> String {
    format!(
        "apiVersion: scheduling.k8s.io/v1\n\
         kind: PriorityClass\n\
         metadata:\n  \
           name: {}\n\
         description: \"oom_score_adj = {}\"\n\
         globalDefault: false\n\
         # The policy says who ends first, and not who makes room for whom.\n\
         preemptionPolicy: Never\n\
         value: {}\n",
        tier.name(),
        tier.0,
        tier.value()
    )
}

/// A strategic merge patch. What the policy does not limit is no limit of the manifest's either: one below the request
/// would be refused.
fn patch(pod: &Pod, node: Node) -> String {
    let mut text = format!("# {} of {}\n", shown(pod.service.as_str()), shown(pod.slice.as_str()));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "apiVersion: apps/v1\n\
         kind: Deployment\n\
         metadata:\n  \
           name: {name}\n\
         spec:\n  \
           template:\n    \
             spec:\n      \
               priorityClassName: {class}\n      \
               containers:\n        \
                 - name: {name}\n          \
                   resources:\n            \
                     requests:\n              \
                       # {share:.2} % of {cpus} CPUs, while everything is busy\n              \
                       cpu: {request}m\n",
        name = pod.name,
        class = pod.tier.name(),
        share = pod.share * 100.0,
        cpus = node.cpus,
        request = pod.cpu_request,
    );
    if let Some(memory) = pod.memory {
        let _ = writeln!(text, "              memory: \"{}\"", quantity(memory.request));
    }
    let cpu = pod.cpu_limit.map_or_else(|| "null".to_owned(), |limit| format!("{limit}m"));
    let _ = write!(text, "            limits:\n              cpu: {cpu}\n");
    if let Some(memory) = pod.memory {
        let limit =
            memory.limit.map_or_else(|| "null".to_owned(), |limit| format!("\"{}\"", quantity(limit)));
        let _ = writeln!(text, "              memory: {limit}");
    }
    text
}

/// A drop-in of the kubelet's `--config-dir`, where a list replaces that of the files before it.
fn kubelet(reserved: Reserved, node: Node) -> String {
    let mut text = format!(
        "# For a node of {} CPUs and {} of memory, and Kubernetes 1.32 or later.\n\
         apiVersion: kubelet.config.k8s.io/v1beta1\n\
         kind: KubeletConfiguration\n\
         # What the pods leave to the host, logins among it.\n\
         systemReserved:\n  \
           cpu: {}m\n",
        node.cpus,
        size(node.memory),
        reserved.cpu
    );
    if let Some(memory) = reserved.memory {
        let _ = writeln!(text, "  memory: \"{}\"", quantity(memory));
    }
    text.push_str(
        "# Its weight alone: with \"system-reserved\" the kernel would kill what needs more memory.\n\
         systemReservedCgroup: /system.slice\n\
         # All of them: this list replaces one that was set before. Add kube-reserved where that is enforced.\n\
         enforceNodeAllocatable:\n  \
           - pods\n  \
           - system-reserved-compressible\n",
    );
    text
}

/// Bytes as Kubernetes reads them, without rounding.
fn quantity(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes % unit == 0) {
        Some((unit, suffix)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Thousandths of a CPU as CPUs.
fn in_cpus(milli_cpus: u64) -> String {
    let (whole, part) = (milli_cpus / 1000, milli_cpus % 1000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}") }
}
