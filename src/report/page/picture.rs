//! The cgroup tree as a picture: the area is what each is due, the colour what it uses of that.
#![forbid(unsafe_code)]

use super::markup::Markup;
use crate::effect::UnitStatus;
use crate::effect::screen::{Picture, Sample};
use crate::effect::tiles::{HEADING, Part, Tile, Tiles, tiles};
use crate::effect::treemap::Rectangle;
use crate::report::bars::{cut, percent};
use crate::report::screen::{name, thousands};
use crate::text::counted;

/// The colours of both pictures, wherever they are.
pub(super) const STYLE: &str = include_str!("picture.css");

/// What a tile's colour says, the least first: of what it is due, so much is used.
const LEVELS: [(&str, f64, &str); 5] = [
    ("u0", 0.01, "uses nothing"),
    ("u1", 0.25, "under 25 %"),
    ("u2", 0.5, "under 50 %"),
    ("u3", 1.0, "under 100 %"),
    ("u4", f64::INFINITY, "all it is due, or more"),
];
const UNKNOWN: &str = "un";
/// In percent of the time, from here on it is worth a word.
const SOME_PRESSURE: f64 = 1.0;
/// In the picture's own units, which are CSS's pixels where it has its full width.
const LINE: f64 = 15.0;
/// Of a name, which is bold.
const CHARACTER: f64 = 7.6;
const IN_LEGEND: f64 = 6.9;
const PADDING: f64 = 6.0;
const SWATCH: f64 = 14.0;

/// How wide the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A screen of a computer, or paper.
    Wide,
    /// A telephone.
    Narrow,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    fn size(self) -> (f64, f64) {
        match self {
            Self::Wide => (1120.0, 560.0),
            Self::Narrow => (360.0, 480.0),
        }
    }

    /// What it shows.
    pub(super) fn tiles(self, picture: &Picture) -> Tiles {
        let (width, height) = self.size();
        tiles(picture, Rectangle { x: 0.0, y: 0.0, width, height })
    }
}

/// What is not seen in it, in a sentence.
pub(super) fn left_out(all: &Tiles) -> String {
    if all.folded == 0 {
        return "Each cgroup has its tile.".to_owned();
    }
    let [folded, of] = [all.folded, all.all].map(|count| thousands(count as u64));
    let are = if all.folded == 1 { "is" } else { "are" };
    format!(
        "Of {of} cgroups {folded} {are} too small to be seen, or due nothing, and have no tile of their own."
    )
}

/// The picture of the form's tiles and its legend, with `style` inside where nothing around it has one.
pub(super) fn write(markup: &mut Markup, picture: &Picture, form: Form, all: &Tiles, with_style: bool) {
    let (width, height) = form.size();
    let (legend, below) = legend(form, picture, all);
    let view = format!("0 0 {width} {}", height + below);
    let class = format!("picture {}", form.name());
    let [title_id, description_id] = ["title", "description"].map(|part| format!("{}-{part}", form.name()));
    let labelled = format!("{title_id} {description_id}");
    let attributes = [
        ("xmlns", "http://www.w3.org/2000/svg"),
        ("class", class.as_str()),
        ("viewBox", &view),
        ("role", "img"),
        ("aria-labelledby", &labelled),
    ];
    markup.element("svg", &attributes, |svg| {
        svg.line("title", &[("id", &title_id)], "What each cgroup is due of the CPUs, and uses of that");
        let description = format!(
            "Among neighbours, the area of a tile is its part of the CPU time when everything is busy; its colour is how \
             much of that it uses. {}",
            left_out(all)
        );
        svg.line("desc", &[("id", &description_id)], &description);
        if with_style {
            svg.element("style", &[], |style| style.literal(STYLE));
            svg.empty("rect", &[("class", "paper"), ("width", "100%"), ("height", "100%")]);
        }
        for tile in &all.tiles {
            write_tile(svg, picture, tile);
        }
        write_legend(svg, &legend);
    });
}

fn write_tile(svg: &mut Markup, picture: &Picture, tile: &Tile) {
    let Rectangle { x, y, width, height } = tile.place;
    let [x, y, w, h] = [x, y, width, height].map(|length| format!("{length:.1}"));
    svg.element("svg", &[("x", &x), ("y", &y), ("width", &w), ("height", &h)], |inside| match tile.what {
        Part::Cgroup(id) => {
            let look = picture.seen.get(&id).copied().unwrap_or_default();
            let unit = picture.unit(id);
            let differs = unit.is_some_and(UnitStatus::differs);
            let name = name(picture, id, unit);
            inside.line("title", &[], &told(&name, tile.share, &look, differs));
            let fill = if tile.is_open { "open" } else { level(&look, tile.share) };
            rectangle(inside, fill, differs);
            let name = if differs { format!("! {name}") } else { name };
            if tile.is_open {
                let share = percent(tile.share);
                let space = width - wide(&share, CHARACTER) - 3.0 * PADDING;
                label(inside, "heading", &name, space, PADDING, HEADING - 6.0);
                if space > 0.0 {
                    let right = format!("{:.1}", width - PADDING);
                    let y = format!("{:.1}", HEADING - 6.0);
                    inside.line("text", &[("class", "share end"), ("x", &right), ("y", &y)], &share);
                }
            } else {
                let class = format!("on-{fill}");
                labels(inside, &class, tile.place, &[&name, &percent(tile.share), &used(&look, tile.share)]);
                foot(inside, tile.place, &look);
            }
        }
        Part::Folded(count) => {
            let text = format!("{} more", thousands(count as u64));
            let told = format!(
                "{} too small to be seen, due {} together",
                counted(count, "cgroup", "cgroups"),
                percent(tile.share)
            );
            inside.line("title", &[], &told);
            rectangle(inside, "folded", false);
            labels(inside, "on-folded", tile.place, &[&text, &percent(tile.share)]);
        }
        Part::Nobody => {
            let told = format!("{} that limits keep from all of them", percent(tile.share));
            inside.line("title", &[], &told);
            rectangle(inside, "nobody", false);
            labels(inside, "on-folded", tile.place, &["nobody’s", &percent(tile.share), "limits"]);
        }
    });
}

fn rectangle(svg: &mut Markup, fill: &str, differs: bool) {
    let class = if differs { format!("tile {fill} differs") } else { format!("tile {fill}") };
    svg.empty("rect", &[("class", &class), ("width", "100%"), ("height", "100%")]);
}

/// As many lines as there is space for.
fn labels(svg: &mut Markup, class: &str, place: Rectangle, lines: &[&str]) {
    let mut y = LINE;
    for (at, line) in lines.iter().enumerate() {
        if y + 5.0 > place.height {
            return;
        }
        let kind = if at == 0 { "name" } else { "share" };
        label(svg, &format!("{kind} {class}"), line, place.width - 2.0 * PADDING, PADDING, y);
        y += LINE;
    }
}

/// How wide a text is at most, of characters that are so wide.
fn wide(text: &str, character: f64) -> f64 {
    text.chars().fold(0.0, |sum, _| sum + character)
}

/// Text that is cut where it is too long; nothing where next to nothing would be left.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few characters")]
fn label(svg: &mut Markup, class: &str, text: &str, space: f64, x: f64, y: f64) {
    let characters = (space.max(0.0) / CHARACTER) as usize;
    if characters < 3 {
        return;
    }
    let [x, y] = [x, y].map(|at| format!("{at:.1}"));
    svg.line("text", &[("class", class), ("x", &x), ("y", &y)], &cut(text, characters, true));
}

/// How long its tasks wait: a line at the foot of the tile, all of its width for all of the time.
fn foot(svg: &mut Markup, place: Rectangle, look: &Sample) {
    let worst = look.usage.pressure.worst();
    if worst < SOME_PRESSURE {
        return;
    }
    let y = format!("{:.1}", place.height - 6.0);
    let width = format!("{:.1}", place.width * worst / 100.0);
    svg.empty("rect", &[("class", "foot"), ("y", &y), ("width", &width), ("height", "6")]);
}

fn level(look: &Sample, share: f64) -> &'static str {
    let Some(used) = look.cpu else { return UNKNOWN };
    let of = |most: f64| used < most * share;
    LEVELS.iter().find(|(_, most, _)| of(*most)).map_or("u4", |(class, ..)| class)
}

fn used(look: &Sample, share: f64) -> String {
    look.cpu.map(|used| format!("uses {:.0} %", used / share * 100.0)).unwrap_or_default()
}

/// The same in words.
fn told(name: &str, share: f64, look: &Sample, differs: bool) -> String {
    let due = format!("{name}: due {} of the CPUs", percent(share));
    let used = look.cpu.map(|used| format!("uses {}", percent(used)));
    let pressure = look.usage.pressure;
    let stalls = [("CPU", pressure.cpu), ("memory", pressure.memory), ("I/O", pressure.io)];
    let waits = stalls.into_iter().filter_map(|(what, stalls)| {
        let percent = stalls?.some.avg10;
        (percent >= SOME_PRESSURE).then(|| format!("waits for {what} {percent:.0} % of the time"))
    });
    let differs = differs.then(|| "not as declared".to_owned());
    [due].into_iter().chain(used).chain(waits).chain(differs).collect::<Vec<_>>().join(", ")
}

/// An entry of the legend: a class of what is drawn, what it says, and where it stands.
struct Entry {
    class: &'static str,
    text: &'static str,
    x: f64,
    y: f64,
}

/// The entries of what there is in the picture, line by line, and how high they are.
fn legend(form: Form, picture: &Picture, all: &Tiles) -> (Vec<Entry>, f64) {
    let (width, top) = form.size();
    let levels = LEVELS.iter().map(|(class, _, text)| (*class, *text));
    let is_unknown = picture.seen.values().any(|look| look.cpu.is_none());
    let is_folded = all.tiles.iter().any(|tile| matches!(tile.what, Part::Folded(_)));
    let others = [
        (is_unknown, UNKNOWN, "use not known"),
        (true, "foot", "tasks wait: part of 10 s"),
        (true, "differs", "! not as declared"),
        (is_folded, "folded", "too small to be seen"),
    ];
    let others = others.into_iter().filter(|(is_there, ..)| *is_there).map(|(_, class, text)| (class, text));
    let (mut x, mut y) = (0.0, top + 12.0);
    let mut entries = Vec::new();
    for (class, text) in levels.chain(others) {
        let taken = SWATCH + wide(text, IN_LEGEND) + 20.0;
        if x + taken > width {
            (x, y) = (0.0, y + 22.0);
        }
        entries.push(Entry { class, text, x, y });
        x += taken;
    }
    (entries, y + 22.0 - top)
}

fn write_legend(svg: &mut Markup, entries: &[Entry]) {
    for Entry { class, text, x, y } in entries {
        let (height, down) = if *class == "foot" { (6.0, 8.0) } else { (SWATCH, 0.0) };
        let [left, text_x] = [x + 1.0, x + SWATCH + 6.0].map(|x| format!("{x:.1}"));
        let [top, text_y] = [y + down, y + 12.0].map(|y| format!("{y:.1}"));
        let [width, height] = [SWATCH, height].map(|length| length.to_string());
        let class = format!("tile {class}");
        let place = [("x", left.as_str()), ("y", &top), ("width", &width), ("height", &height)];
        svg.empty("rect", &[&[("class", class.as_str())], place.as_slice()].concat());
        svg.line("text", &[("class", "legend"), ("x", &text_x), ("y", &text_y)], text);
    }
}
