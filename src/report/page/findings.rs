//! What the doctor has found, each with its cost, cause and fix.
#![forbid(unsafe_code)]

use super::markup::Markup;
use super::note;
use crate::doctor::finding::Finding;
use crate::report::doctor::{remedy, severity};
use crate::report::openmetrics::Diagnosis;
use crate::text::counted;

pub(super) fn write(section: &mut Markup, found: &Diagnosis) {
    if !found.is_whole {
        note(section, "Not everything could be looked at: there may be more to find.");
    }
    match found.findings.len() {
        0 => note(section, "Nothing was found."),
        count => note(section, &format!("{}, the worst first.", counted(count, "finding", "findings"))),
    }
    for finding in &found.findings {
        write_one(section, finding);
    }
}

fn write_one(section: &mut Markup, finding: &Finding) {
    let (severity, _) = severity(finding.code.severity());
    section.element("article", &[("class", &format!("finding {severity}"))], |article| {
        article.element("p", &[("class", "code")], |line| {
            line.line("b", &[], &finding.code.to_string());
            line.text(&format!(" {severity}"));
        });
        article.element("h3", &[], |heading| {
            heading.line("bdi", &[], &finding.subject.to_string());
            heading.text(": ");
            heading.line("bdi", &[], &finding.what);
        });
        article.element("dl", &[], |list| {
            let mut entry = |head: &str, write: &dyn Fn(&mut Markup)| {
                list.line("dt", &[], head);
                list.element("dd", &[], |text| write(text));
            };
            if let Some(cost) = &finding.cost {
                entry("Cost", &|text| text.text(cost));
            }
            entry("Cause", &|text| {
                text.text(&finding.cause);
                if let Some(at) = &finding.at {
                    text.text(" ");
                    text.line("span", &[("class", "origin")], &at.to_string());
                }
            });
            entry("Fix", &|text| match finding.fix.command() {
                Some(command) => text.line("code", &[], &command),
                None => text.text(&remedy(&finding.fix)),
            });
        });
    });
    section.literal("\n");
}
