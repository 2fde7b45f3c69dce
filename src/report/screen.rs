//! The screen of `fairslice status`: the tree, and below it what is not as declared.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::bars::{Display, bar, cut, percent, short};
use super::status::differences;
use crate::effect::UnitStatus;
use crate::effect::screen::{OomRank, Picture, Row, Sample, What};
use crate::host::pressure::Stalls;
use crate::host::tree::{Cgroup, Id, Tree};
use crate::text::shown;

const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();
/// Half of the time.
const MUCH_PRESSURE: f64 = 50.0;
/// The first column holds the mark of what differs.
const MARK: usize = 1;
const BAR: usize = 5;
/// From this width on there is space for more than a rank.
const WIDE: usize = 100;
const NARROWEST_NAME: usize = 12;

/// One line, its name and its cells.
struct Line {
    name: String,
    differs: bool,
    style: Style,
    cells: Vec<String>,
}

/// The tree with its figures, what is not as declared, and how much that is.
#[must_use]
pub fn screen(picture: &Picture, display: Display) -> String {
    let columns = Columns {
        use_of_cpu: picture.seen.values().any(|look| look.cpu.is_some()),
        score: display.width.is_none_or(|width| width >= WIDE),
    };
    let lines: Vec<Line> =
        picture.rows().iter().map(|row| columns.line(picture, row, display.unicode)).collect();
    let widest = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let [above, below] = columns.head();
    let taken = MARK + below.chars().count();
    let space = display.width.map_or(usize::MAX, |width| width.saturating_sub(taken));
    let name_width = widest.min(space.max(NARROWEST_NAME));
    let mut text = String::new();
    for (name, head) in [("", above), ("unit", below)] {
        let line = format!("{:MARK$}{name:name_width$}{head}", "");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{DIM}{}{DIM:#}", line.trim_end());
    }
    for line in &lines {
        let (mark, style) = if line.differs { ("!", BAD) } else { ("", line.style) };
        let name = cut(&line.name, name_width, display.unicode);
        let padding = " ".repeat(name_width - name.chars().count());
        let cells = format!("{padding}{}", line.cells.concat());
        let _ = write!(text, "{BAD}{mark:MARK$}{BAD:#}{style}{name}{style:#}");
        let _ = writeln!(text, "{}", cells.trim_end());
    }
    text.push_str(&super::share::no_shares(&picture.tree));
    text.push_str(&inactive(&picture.status.units, display));
    text.push_str(&differences(&picture.status));
    text
}

/// The declared services and slices that do not run, in one paragraph.
fn inactive(units: &[UnitStatus], display: Display) -> String {
    let inactive = units.iter().filter(|unit| !unit.active);
    let names: Vec<String> = inactive.map(|unit| shown(&unit.name).to_string()).collect();
    if names.is_empty() {
        return String::new();
    }
    let line = format!("inactive: {}", names.join(" "));
    format!("\n{}\n", display.width.map_or(line.clone(), |width| cut(&line, width, display.unicode)))
}

/// Which columns there are beside the name.
struct Columns {
    use_of_cpu: bool,
    score: bool,
}

impl Columns {
    /// What stands above the name and the cells, in two lines: columns that belong together, and each
    /// with its width.
    fn head(&self) -> [String; 2] {
        let used = self.use_of_cpu.then_some(("used", 6));
        let score = self.score.then_some(("score", 6));
        let groups: [(&str, Vec<(&str, usize)>); 4] = [
            ("cpu", [("weight", 7), ("share", 6)].into_iter().chain(used).collect()),
            ("pressure %", vec![("cpu", 4), ("mem", 4), ("io", 4)]),
            ("memory", vec![("used", 6), ("", BAR + 1), ("of", 6)]),
            ("oom", score.into_iter().chain([("rank", 5)]).collect()),
        ];
        let mut lines = [String::new(), String::new()];
        let [above, below] = &mut lines;
        for (group, columns) in groups {
            let width = columns.iter().map(|(_, width)| width).sum::<usize>() - 1;
            // Writing to a string cannot fail.
            let _ = write!(above, " {group:^width$}");
            for (name, width) in columns {
                let _ = write!(below, "{name:>width$}");
            }
        }
        lines
    }

    fn line(&self, picture: &Picture, row: &Row, unicode: bool) -> Line {
        let branches = branches(&row.ends, unicode);
        match row.what {
            What::Folded(count) => {
                let more = if unicode { "…" } else { "..." };
                let name = format!("{branches}{more} {} more", thousands(count as u64));
                Line { name, differs: false, style: DIM, cells: Vec::new() }
            }
            What::Cgroup(id) => {
                let unit = picture.unit(id);
                let name = format!("{branches}{}", name(picture, id, unit));
                let differs = unit.is_some_and(UnitStatus::differs);
                Line { name, differs, style: Style::new(), cells: self.cells(picture, id, unicode) }
            }
        }
    }

    fn cells(&self, picture: &Picture, id: Id, unicode: bool) -> Vec<String> {
        let cgroup = &picture.tree[id];
        let look = picture.seen.get(&id).copied().unwrap_or_default();
        let mut cells = vec![
            format!(" {:>6}", weight(cgroup)),
            format!(" {:>5}", or_dash(look.figures.share.map(percent))),
        ];
        if self.use_of_cpu {
            cells.push(format!(" {:>5}", or_dash(look.cpu.map(percent))));
        }
        let pressure = look.usage.pressure;
        cells.extend([pressure.cpu, pressure.memory, pressure.io].map(stalls));
        cells.extend(memory(picture, id, &look, unicode));
        let oom = look.figures.oom;
        if self.score {
            cells.push(format!(" {:>5}", oom.map(|oom| oom.score.to_string()).unwrap_or_default()));
        }
        cells.push(format!(" {:>4}", rank(oom)));
        cells
    }
}

/// The weight that a cgroup has.
pub(super) fn weight(cgroup: &Cgroup) -> String {
    match cgroup.cpu {
        Some(cpu) if cpu.weight == 0 => "idle".to_owned(),
        Some(cpu) => cpu.weight.to_string(),
        None => "-".to_owned(),
    }
}

/// Its place in the kill order: nothing where it has no process of its own.
pub(super) fn rank(oom: Option<OomRank>) -> String {
    match oom.map(|oom| oom.rank) {
        None => String::new(),
        Some(None) => "-".to_owned(),
        Some(Some(rank @ ..=999)) => format!("#{rank}"),
        Some(Some(_)) => ">999".to_owned(),
    }
}

/// To be printed; the slice of a user has its user's name beside its own.
pub(super) fn name(picture: &Picture, id: Id, unit: Option<&UnitStatus>) -> String {
    let name = picture.tree.name(id);
    match unit.and_then(|unit| unit.user.as_ref()) {
        _ if id == Tree::ROOT => "machine".to_owned(),
        Some(user) => format!("{} ({})", shown(&name), shown(user)),
        None => shown(&name).to_string(),
    }
}

fn branches(ends: &[bool], unicode: bool) -> String {
    let [through, nothing, fork, end] =
        if unicode { ["│ ", "  ", "├─", "└─"] } else { ["| ", "  ", "|-", "`-"] };
    let Some((last, above)) = ends.split_last() else { return String::new() };
    let mut text: String = above.iter().map(|end| if *end { nothing } else { through }).collect();
    text.push_str(if *last { end } else { fork });
    text
}

fn stalls(stalls: Option<Stalls>) -> String {
    let Some(stalls) = stalls else { return "   -".to_owned() };
    let style = if stalls.some.avg10 >= MUCH_PRESSURE { BAD } else { Style::new() };
    format!(" {style}{:>3.0}{style:#}", stalls.some.avg10)
}

/// What is used, how much of it is protected, and of how much: the ceiling, or the RAM.
fn memory(picture: &Picture, id: Id, look: &Sample, unicode: bool) -> [String; 3] {
    let Some(memory) = MemoryUse::of(picture, id, look) else {
        return [format!(" {:>5}", "-"), " ".repeat(BAR + 1), " ".repeat(6)];
    };
    let MemoryUse { used, protected, whole, is_limited } = memory;
    let of = if is_limited || id == Tree::ROOT { short(whole) } else { String::new() };
    let style = if used >= whole { BAD } else { Style::new() };
    [
        format!(" {style}{:>5}{style:#}", short(used)),
        format!(" {}", bar(used, protected, whole, BAR, unicode)),
        format!(" {of:>5}"),
    ]
}

/// Bytes that a cgroup uses, and of how many.
pub(super) struct MemoryUse {
    pub(super) used: u64,
    /// How much is protected, used or not.
    pub(super) protected: u64,
    /// The ceiling, or the RAM.
    pub(super) whole: u64,
    /// Whether it is a ceiling.
    pub(super) is_limited: bool,
}

impl MemoryUse {
    pub(super) fn of(picture: &Picture, id: Id, look: &Sample) -> Option<Self> {
        let used = if id == Tree::ROOT {
            picture.memory_used
        } else {
            picture.tree[id].memory.map(|memory| memory.current)
        };
        let protected = look.figures.protection.map_or(0, |protection| protection.min.max(protection.low));
        let ram = picture.machine.ram;
        let ceiling = look.figures.ceiling.map_or(u64::MAX, |ceiling| ceiling.of_memory());
        Some(Self { used: used?, protected, whole: ceiling.min(ram), is_limited: ceiling <= ram })
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// `9,990`
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
