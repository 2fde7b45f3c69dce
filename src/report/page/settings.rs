//! What is declared: beside what is in force, and as the policy has it.
#![forbid(unsafe_code)]

use super::markup::Markup;
use super::{note, table};
use crate::effect::Status;
use crate::policy::Loaded;
use crate::report::policy::tables;
use crate::report::status::{live, name};

const HEAD: [&str; 6] = ["Unit", "Setting", "Declared", "In force", "", "From"];

pub(super) fn write(section: &mut Markup, status: &Status) {
    let units = || status.units.iter().filter(|unit| !unit.settings.is_empty());
    if units().next().is_none() {
        note(section, "The policy declares nothing of what there is here.");
        return;
    }
    table::table(section, "Settings, declared and in force", &HEAD, |table| {
        for unit in units() {
            table.element("tbody", &[], |body| {
                for (at, setting) in unit.settings.iter().enumerate() {
                    body.element("tr", &[], |row| {
                        if at == 0 {
                            table::name_of_rows(row, &name(unit), unit.settings.len());
                        }
                        row.line("td", &[("class", "key")], setting.key);
                        for text in [&setting.declared, &live(setting)] {
                            table::text(row, text);
                        }
                        let (verdict, is_bad) = match (unit.active, setting.holds) {
                            (false, _) => ("inactive", false),
                            (true, true) => ("in force", false),
                            (true, false) => ("not in force", true),
                        };
                        table::verdict(row, verdict, is_bad);
                        table::origin(row, &setting.origin);
                    });
                }
            });
        }
    });
}

/// Each of its values, with the file and the line that it comes from.
pub(super) fn write_policy(section: &mut Markup, loaded: &Loaded) {
    if !loaded.diagnostics.is_empty() {
        section.element("ul", &[("class", "errors")], |list| {
            for diagnostic in &loaded.diagnostics {
                list.line("li", &[], &diagnostic.to_string());
            }
        });
    }
    if let Some(line) = loaded.in_force.note() {
        note(section, &line);
    }
    let tables = tables(&loaded.policy);
    if tables.is_empty() {
        note(section, "Nothing is declared.");
        return;
    }
    table::table(section, "The policy", &["Value", "From"], |table| {
        for of in tables {
            table.element("tbody", &[], |body| {
                body.element("tr", &[], |row| {
                    let attributes = [("class", "toml"), ("colspan", "2"), ("scope", "rowgroup")];
                    row.line("th", &attributes, &format!("[{}]", of.name));
                });
                for (value, from) in &of.lines {
                    body.element("tr", &[], |row| {
                        row.line("td", &[("class", "toml")], value);
                        table::origin(row, from);
                    });
                }
            });
        }
    });
}
