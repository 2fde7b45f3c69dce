//! `fairslice report`: one page that stands for itself, for a review. It needs no script, and asks for nothing.
#![forbid(unsafe_code)]

mod cpu;
mod drilled;
mod findings;
mod kills;
mod markup;
mod memory;
mod picture;
mod plot;
mod settings;
mod table;
mod tree;

use self::markup::Markup;
use self::picture::Form;
use super::kill_order::Order;
use super::openmetrics::Diagnosis;
use super::overview;
use super::status_json::Stamp;
use crate::effect::Status;
use crate::effect::drill::cpu::Due;
use crate::effect::memory::{Protections, size};
use crate::effect::screen::Picture;
use crate::effect::share::not_computed;
use crate::host::tree::Tree;
use crate::policy::Loaded;
use crate::text::{counted, shown};

pub use drilled::Drilled;

const STYLE: &str = include_str!("style.css");
/// Nothing is fetched, run or sent, whatever a name may say.
const HEAD: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
     base-uri 'none'; form-action 'none'\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n",
);
const CONTENTS: &str = concat!(
    "<nav aria-label=\"Contents\"><ul><li><a href=\"#tree\">Tree</a></li><li><a href=\"#cpu\">CPU time</a></li>",
    "<li><a href=\"#settings\">Settings</a></li><li><a href=\"#memory\">Memory</a></li>",
    "<li><a href=\"#kills\">Kill order</a></li><li><a href=\"#findings\">Findings</a></li>",
    "<li><a href=\"#policy\">Policy</a></li></ul></nav>\n",
);

/// All that is on it.
pub struct Page<'a> {
    /// Whose it is, and of when.
    pub stamp: &'a Stamp,
    /// What is declared.
    pub loaded: &'a Loaded,
    /// What is live.
    pub picture: &'a Picture,
    /// What the doctor has found.
    pub found: &'a Diagnosis,
    /// What memory settings protect.
    pub protections: &'a Protections,
    /// Whether the multi-gen LRU is on.
    pub multi_gen_lru: bool,
    /// Who is killed first; `None` where that could not be looked at.
    pub order: Option<&'a Order<'a>>,
    /// What a drill would find due; `None` where that is not computed.
    pub due: Option<&'a [Due]>,
    /// What one has found.
    pub drill: Option<&'a Drilled>,
    /// What could not be looked at, a line each.
    pub missed: &'a [String],
}

/// The page.
#[must_use]
pub fn page(page: &Page<'_>) -> String {
    let mut markup = Markup::default();
    markup.literal(HEAD);
    markup.line("title", &[], &format!("{}: fairslice report", host(page.stamp)));
    markup.element("style", &[], |style| {
        style.literal(picture::STYLE);
        style.literal(STYLE);
    });
    markup.literal("\n</head>\n<body>\n");
    header(&mut markup, page);
    markup.literal(CONTENTS);
    markup.element("main", &[], |main| {
        section(main, "tree", "The tree", |section| tree::write(section, page.picture));
        section(main, "cpu", "CPU time: declared, effective, measured", |section| cpu::write(section, page));
        section(main, "settings", "Settings: declared and in force", |section| {
            settings::write(section, &page.picture.status);
        });
        section(main, "memory", "Memory: protection and ceiling", |section| memory::write(section, page));
        section(main, "kills", "Who is killed first", |section| kills::write(section, page));
        section(main, "findings", "Findings", |section| findings::write(section, page.found));
        section(main, "policy", "The policy", |section| settings::write_policy(section, page.loaded));
    });
    markup.element("footer", &[], |footer| {
        footer.text(concat!("fairslice ", env!("CARGO_PKG_VERSION"), ". "));
        footer.literal("This page has no script and asks for nothing: it can be kept and sent as one file.");
    });
    markup.literal("\n</body>\n</html>\n");
    markup.into_string()
}

/// The picture of the tree alone, as a file of its own.
///
/// # Errors
/// Shares are not computed: why.
pub fn tree_svg(picture: &Picture) -> Result<String, String> {
    if let Some(why) = not_computed(&picture.tree) {
        return Err(format!("shares of the CPUs are not computed: {why}"));
    }
    let mut markup = Markup::default();
    picture::write(&mut markup, picture, Form::Wide, &Form::Wide.tiles(picture), true);
    markup.literal("\n");
    Ok(markup.into_string())
}

fn host(stamp: &Stamp) -> String {
    stamp.host.as_ref().map_or_else(|| "a host without a name".to_owned(), |host| shown(host).to_string())
}

fn section(main: &mut Markup, id: &'static str, heading: &'static str, content: impl FnOnce(&mut Markup)) {
    let label = format!("{id}-heading");
    main.element("section", &[("id", id), ("aria-labelledby", &label)], |section| {
        section.line("h2", &[("id", &label)], heading);
        content(section);
    });
    main.literal("\n");
}

fn header(markup: &mut Markup, page: &Page<'_>) {
    let status = &page.picture.status;
    markup.element("header", &[], |header| {
        header.line("p", &[("class", "kicker")], "fairslice report");
        header.element("h1", &[], |heading| heading.line("bdi", &[], &host(page.stamp)));
        header.element("p", &[("class", "when")], |line| {
            line.line("time", &[("datetime", &page.stamp.time)], &page.stamp.time);
        });
        let is_well = status.differing() == 0 && page.loaded.diagnostics.is_empty();
        let class = if is_well { "verdict" } else { "verdict bad" };
        header.line("p", &[("class", class)], &verdict(status, page.loaded));
        header.element("dl", &[("class", "facts")], |facts| {
            for (head, text) in facts_of(page) {
                facts.element("div", &[], |fact| {
                    fact.line("dt", &[], head);
                    fact.line("dd", &[], &text);
                });
            }
        });
        missed(header, page.missed);
    });
}

/// In words.
fn verdict(status: &Status, loaded: &Loaded) -> String {
    let (differing, all) = (status.differing(), status.compared());
    let settings = match (differing, all) {
        (_, 0) => "Of what runs here, nothing is declared".to_owned(),
        (0, _) => "Everything declared is in force".to_owned(),
        (1, all) => format!("1 of {all} settings is not in force"),
        (some, all) => format!("{some} of {all} settings are not in force"),
    };
    match (loaded.diagnostics.len(), loaded.in_force.note()) {
        (0, None) => settings,
        (errors, note) => {
            let note = note.map(|note| format!("; {note}")).unwrap_or_default();
            let has = if errors == 1 { "is" } else { "are" };
            format!("There {has} {} in the policy{note}. {settings}", counted(errors, "error", "errors"))
        }
    }
}

fn facts_of(page: &Page<'_>) -> Vec<(&'static str, String)> {
    let Page { picture, loaded, found, .. } = page;
    let files: Vec<String> = loaded.files.iter().map(|file| shown(&*file.path).to_string()).collect();
    let cpus = picture.tree.online.as_ref().map(|cpus| counted(cpus.count() as usize, "CPU", "CPUs"));
    let cgroups = counted(picture.tree.ids().count(), "cgroup", "cgroups");
    let machine: Vec<String> =
        cpus.into_iter().chain([format!("{} of RAM", size(picture.machine.ram)), cgroups]).collect();
    let policy = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
    vec![
        ("In force", overview::in_force(&picture.status)),
        ("Found", overview::findings(found)),
        ("Policy", policy),
        ("Machine", machine.join(", ")),
    ]
}

fn missed(header: &mut Markup, missed: &[String]) {
    if missed.is_empty() {
        return;
    }
    header.element("div", &[("class", "missed")], |block| {
        block.line("p", &[], "What could not be looked at, in which there may be more to find:");
        block.element("ul", &[], |list| {
            for line in missed {
                list.line("li", &[], line);
            }
        });
    });
}

/// A sentence or two of this program's below a heading.
fn note(section: &mut Markup, text: &str) {
    section.line("p", &[("class", "note")], text);
}

/// What a picture's bar says where shares are not computed.
fn no_shares(section: &mut Markup, tree: &Tree) -> bool {
    let why = not_computed(tree);
    if let Some(why) = &why {
        note(section, &format!("Shares of the CPUs are not computed: {why}."));
    }
    why.is_some()
}
