//! What resource settings take, and which values systemd refuses: its `load-fragment.c`, `cgroup.c`,
//! `parse-util.c`, `percent-util.c`, `time-util.c`, `cpu-set-util.c` and `rlimit-util.c`.
//!
//! A comment behind a value is a part of it, and quotes are, but where several words are taken.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::escape::CONTROLLERS;
use super::span::{SECOND, span};
use super::{
    Amount, Bandwidth, CPU_QUOTA, CPU_WEIGHT, CpuQuota, CpuWeight, IO_READ_BANDWIDTH_MAX, IO_WEIGHT,
    IO_WRITE_BANDWIDTH_MAX, Memory, OomScoreAdj, Percent, Property, SettingValue, SliceName, TASKS_MAX,
    Tasks, Weight,
};

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// 1 to 10000, or this word.
    Weight {
        /// The word.
        or: &'static str,
    },
    /// Bytes, percent or `infinity`.
    Memory {
        /// Whether nothing is an amount too.
        zero: bool,
    },
    /// A number of tasks from 1, percent or `infinity`.
    Tasks,
    /// More than nothing of a CPU, in percent, which may be over 100.
    Quota,
    /// A part of the whole.
    Part,
    /// A number from 0, or `infinity`.
    Count,
    /// A number, or, where `none`, nothing.
    Integer {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
        /// Whether it may be empty.
        none: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or nothing.
    WordOrNone(&'static [&'static str]),
    /// One of these words, or the number of one.
    WordOrNumber(&'static [&'static str]),
    /// One of these words, or a boolean.
    WordOrBoolean(&'static [&'static str]),
    /// A boolean.
    Boolean,
    /// A boolean, or nothing.
    BooleanOrNone,
    /// Numbers and ranges of CPUs or nodes, or this word.
    Cpus {
        /// The word.
        or: &'static str,
    },
    /// A time.
    Span,
    /// A time, or nothing.
    SpanOrNone,
    /// A time of at least a second.
    SpanFrom1s,
    /// A device and a weight.
    DeviceWeight,
    /// A device and a rate.
    DeviceLimit,
    /// A device and a time.
    DeviceLatency,
    /// A boolean, or the names of controllers.
    Controllers,
    /// Words of which at least one is a controller's name.
    SomeControllers,
    /// The name of a cgroup.
    CgroupName,
    /// The name of a slice.
    Slice,
    /// A resource limit in bytes, soft and hard.
    LimitOfBytes,
    /// One that is a number.
    LimitOfCount,
    /// One that is a time.
    LimitOfTime,
    /// One that is a nice level.
    LimitOfNice,
    /// Anything: it is not looked at.
    Any,
}

const WEIGHTS: RangeInclusive<u64> = 1..=10_000;
/// systemd has sets of no more: `cpu_set_add`.
const MOST_CPUS: u64 = 8192;
/// Words that 257 does not know and 262 does.
const NEW_WORDS: [&str; 4] = ["ext", "preferred-many", "weighted-interleave", NEW_CONTROLLER];
/// From this version on they are taken to be known: no earlier one is told.
const NEW: u16 = 258;
/// The controller that 258 has besides.
const NEW_CONTROLLER: &str = "bpf-bind-network-interface";
const BOOLEANS: [&str; 12] = ["1", "yes", "y", "true", "t", "on", "0", "no", "n", "false", "f", "off"];
/// Suffixes of bytes, the largest first, which is the order that they must have: `parse_size`.
const SIZES: [(&str, u32); 8] =
    [("E", 6), ("P", 5), ("T", 4), ("G", 3), ("M", 2), ("K", 1), ("B", 0), ("", 0)];
/// What `%` stands before in the name of a slice: `unit_cgroup_printf` and the specifiers of the machine.
const SPECIFIERS: &str = "aAbBgGHijlmMnNopquUvwW%";
/// The same for a path: also directories and the instance's own name.
const PATH_SPECIFIERS: &str = "aAbBCdDEfgGhHiIjJlLmMnNopPqsStTuUvVwWyY%";

/// What `takes` takes, if `value` in a file of `unit` is none of it.
#[must_use]
pub fn refused(takes: Takes, value: &str, unit: &str, version: Option<u16>) -> Option<String> {
    let is_new = |word: &str| NEW_WORDS.contains(&word) && version.is_some_and(|version| version < NEW);
    (value.split_whitespace().any(is_new) || !is_right(takes, value, unit)).then(|| expected(takes))
}

/// The value that systemd reads in the text of a weight or limit, as far as a policy can have the same.
#[must_use]
pub fn setting(property: Property, text: &str) -> Option<SettingValue> {
    let weight = || Weight::new(unsigned(text)?);
    let relative = || match text {
        "infinity" => Some(Amount::Infinity),
        _ => Percent::from_permyriad(part(text)?).map(Amount::Percent),
    };
    Some(match property {
        CPU_WEIGHT if text == "idle" => SettingValue::Cpu(CpuWeight::Idle),
        CPU_WEIGHT => SettingValue::Cpu(CpuWeight::Weight(weight()?)),
        IO_WEIGHT => SettingValue::Io(weight()?),
        CPU_QUOTA => {
            let whole = permyriad(text).filter(|quota| quota % 100 == 0)?;
            SettingValue::Quota(CpuQuota::parse(&format!("{}%", whole / 100))?)
        }
        IO_READ_BANDWIDTH_MAX | IO_WRITE_BANDWIDTH_MAX => SettingValue::Bandwidth(bandwidth(text)?),
        TASKS_MAX => {
            let amount = relative().or_else(|| unsigned(text).map(Amount::Absolute))?;
            SettingValue::Tasks(Tasks::new(amount)?)
        }
        _ => {
            let bytes = || size(text, 1024).filter(|_| !text.contains('.')).map(Amount::Absolute);
            // Of a percentage, systemd reads a leading zero as octal.
            let amount = || relative().map(Memory).or_else(|| Memory::parse(text));
            SettingValue::Memory(amount().or_else(|| bytes().map(Memory))?)
        }
    })
}

/// A quota of one CPU's time, `80.00%`, in µs for each second.
#[must_use]
pub fn quota(text: &str) -> Option<u64> {
    permyriad(text).map(|quota| quota * 100)
}

/// A device and a rate, `/srv 100M`, in powers of 1000; or `infinity`.
#[must_use]
pub fn bandwidth(text: &str) -> Option<Bandwidth> {
    let (path, rate) = text.trim().split_once(char::is_whitespace)?;
    let rate = match rate.trim() {
        "infinity" => u64::MAX,
        rate => size(rate, 1000).filter(|_| !rate.contains('.'))?,
    };
    Bandwidth::new(path, rate)
}

/// The same of an OOM score.
#[must_use]
pub fn score(text: &str) -> Option<OomScoreAdj> {
    OomScoreAdj::new(signed(text)?)
}

fn is_right(takes: Takes, value: &str, unit: &str) -> bool {
    if value.is_empty() {
        return empty_resets(takes);
    }
    let is_weight = |text: &str| unsigned(text).is_some_and(|weight| WEIGHTS.contains(&weight));
    match takes {
        Takes::Any => true,
        Takes::Weight { or } => value == or || is_weight(value),
        Takes::Memory { zero } => {
            let amount = part(value).or_else(|| size(value, 1024).filter(|bytes| *bytes < u64::MAX));
            value == "infinity" || amount.is_some_and(|amount| zero || amount > 0)
        }
        Takes::Tasks => {
            let count = || unsigned(value).is_some_and(|tasks| (1..u64::MAX).contains(&tasks));
            value == "infinity" || part(value).is_some() || count()
        }
        Takes::Quota => permyriad(value).is_some_and(|quota| quota > 0),
        Takes::Part => part(value).is_some(),
        Takes::Count => {
            value == "infinity" || unsigned(value).is_some_and(|count| u32::try_from(count).is_ok())
        }
        Takes::Integer { least, most, .. } => {
            signed(value).is_some_and(|number| (least..=most).contains(&number))
        }
        Takes::Word(words) | Takes::WordOrNone(words) => words.contains(&value),
        Takes::WordOrNumber(words) => words.contains(&value) || unsigned(value).is_some(),
        Takes::WordOrBoolean(words) => words.contains(&value) || is_boolean(value),
        Takes::Boolean | Takes::BooleanOrNone => is_boolean(value),
        Takes::Cpus { or } => value == or || are_cpus(value),
        Takes::Span | Takes::SpanOrNone => span(value, SECOND).is_some(),
        Takes::SpanFrom1s => span(value, SECOND).is_some_and(|span| (SECOND..u64::MAX).contains(&span)),
        Takes::DeviceWeight => of_device(value).is_some_and(is_weight),
        Takes::DeviceLimit => of_device(value)
            .is_some_and(|limit| limit == "infinity" || size(limit, 1000).is_some_and(|limit| limit > 0)),
        Takes::DeviceLatency => of_device(value).is_some_and(|latency| span(latency, SECOND).is_some()),
        Takes::Controllers => {
            is_boolean(value) || words(value).is_ok_and(|words| words.iter().all(|word| is_controller(word)))
        }
        Takes::SomeControllers => {
            words(value).unwrap_or_else(|before| before).iter().any(|word| is_controller(word))
        }
        Takes::CgroupName => {
            !value.contains('/')
                && ![".", ".."].contains(&value)
                && !value.starts_with(['_', '.'])
                && !value.starts_with("cgroup.")
        }
        Takes::Slice => {
            expanded(value, unit).is_some_and(|name| name == "-.slice" || SliceName::new(&name).is_ok())
        }
        Takes::LimitOfBytes => limit(value, |bytes| size(bytes, 1024)),
        Takes::LimitOfCount => limit(value, unsigned),
        // LimitRTTIME= is in µs without a unit, which is no other text.
        Takes::LimitOfTime => limit(value, |time| span(time, SECOND)),
        Takes::LimitOfNice => limit(value, nice),
    }
}

fn empty_resets(takes: Takes) -> bool {
    match takes {
        Takes::Integer { none, .. } => none,
        Takes::Word(_)
        | Takes::WordOrBoolean(_)
        | Takes::Boolean
        | Takes::Span
        | Takes::Slice
        | Takes::LimitOfBytes
        | Takes::LimitOfCount
        | Takes::LimitOfTime
        | Takes::LimitOfNice => false,
        _ => true,
    }
}

fn expected(takes: Takes) -> String {
    let or = |words: &[&str], other: &str| format!("{} or {other}", words.join(", "));
    match takes {
        Takes::Weight { or: "" } => "1 to 10000".to_owned(),
        Takes::Weight { or } => format!("1 to 10000, or \"{or}\""),
        Takes::Memory { .. } => "bytes with a suffix K, M, G or T, a percentage, or \"infinity\"".to_owned(),
        Takes::Tasks => "a number from 1, a percentage, or \"infinity\"".to_owned(),
        Takes::Quota => "a percentage of one CPU: \"150%\"".to_owned(),
        Takes::Part => "a percentage up to 100%".to_owned(),
        Takes::Count => "a number, or \"infinity\"".to_owned(),
        Takes::Integer { least, most, .. } => format!("{least} to {most}"),
        Takes::Word(words) | Takes::WordOrNone(words) => words.join(", "),
        Takes::WordOrNumber(words) => or(words, "the class's number"),
        Takes::WordOrBoolean(words) => or(words, "a boolean"),
        Takes::Boolean | Takes::BooleanOrNone => "yes or no".to_owned(),
        Takes::Cpus { or: "" } => "numbers and ranges: \"0-3 6\"".to_owned(),
        Takes::Cpus { or } => format!("numbers and ranges (\"0-3 6\"), or \"{or}\""),
        Takes::Span | Takes::SpanOrNone => "a time: \"100ms\"".to_owned(),
        Takes::SpanFrom1s => "a time of at least 1s".to_owned(),
        Takes::DeviceWeight => "a device and 1 to 10000: \"/dev/vda 200\"".to_owned(),
        Takes::DeviceLimit => "a device and a rate with a suffix K, M or G: \"/dev/vda 5M\"".to_owned(),
        Takes::DeviceLatency => "a device and a time: \"/dev/vda 25ms\"".to_owned(),
        Takes::Controllers => "yes, no, or controllers: \"cpu memory\"".to_owned(),
        Takes::SomeControllers => "controllers: \"cpu io\"".to_owned(),
        Takes::CgroupName => "the name of a cgroup".to_owned(),
        Takes::Slice => "the name of a slice, which ends in .slice, holds no @ and has one dash between two \
                         names"
            .to_owned(),
        Takes::LimitOfBytes => "bytes with a suffix K, M or G, or \"infinity\", one or SOFT:HARD".to_owned(),
        Takes::LimitOfCount => "a number or \"infinity\", one or SOFT:HARD".to_owned(),
        Takes::LimitOfTime => "a time or \"infinity\", one or SOFT:HARD".to_owned(),
        Takes::LimitOfNice => "a nice level with its sign, or 0 to 40, one or SOFT:HARD".to_owned(),
        Takes::Any => String::new(),
    }
}

fn is_boolean(value: &str) -> bool {
    BOOLEANS.iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn is_controller(word: &str) -> bool {
    CONTROLLERS.contains(&word) || word == NEW_CONTROLLER
}

/// `safe_atou64`: also hexadecimal, octal and binary.
fn unsigned(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let digits_of = |prefixes: [&str; 2], radix| {
        prefixes.iter().find_map(|prefix| Some((digits.strip_prefix(prefix)?, radix)))
    };
    let bases = digits_of(["0x", "0X"], 16)
        .or_else(|| digits_of(["0b", "0B"], 2))
        .or_else(|| digits_of(["0o", "0O"], 8));
    let octal = || digits.strip_prefix('0').filter(|rest| !rest.is_empty()).map(|rest| (rest, 8));
    let (digits, radix) = bases.or_else(octal).unwrap_or((digits, 10));
    // A sign may stand once.
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// `safe_atoi`.
pub(super) fn signed(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if negative && digits.starts_with('+') {
        return None;
    }
    let number = i64::try_from(unsigned(digits)?).ok()?;
    Some(if negative { -number } else { number })
}

/// Parts of ten thousand, of a percentage with two decimals, of `‰` with one, or of `‱`.
fn permyriad(text: &str) -> Option<u64> {
    let signs = [('%', 2), ('‰', 1), ('‱', 0)];
    let (number, places) =
        signs.iter().find_map(|(sign, places)| Some((text.strip_suffix(*sign)?, *places)))?;
    let (whole, decimals) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    if decimals.len() > places || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<places$}").parse().unwrap_or(0);
    let scale = if places == 2 {
        100
    } else if places == 1 {
        10
    } else {
        1
    };
    let all = unsigned(whole)?.checked_mul(scale)?.checked_add(decimals)?;
    i32::try_from(all).is_ok().then_some(all)
}

/// At most the whole.
fn part(text: &str) -> Option<u64> {
    permyriad(text).filter(|part| *part <= 10_000)
}

/// `parse_size`: numbers with or without decimals, each with a suffix, the larger ones first: `1G512M`.
fn size(text: &str, base: u64) -> Option<u64> {
    let mut sizes = SIZES.iter();
    let mut sum: u64 = 0;
    let mut rest = text;
    loop {
        let number = rest.trim_start();
        let digits = number.strip_prefix('+').unwrap_or(number);
        let (whole, after) =
            digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
        let whole: u64 = whole.parse().ok()?;
        let decimals = after.strip_prefix('.');
        let after = decimals.map_or(after, |text| text.trim_start_matches(|c: char| c.is_ascii_digit()));
        let has_decimals = decimals.is_some_and(|text| text.starts_with(|c: char| ('1'..='9').contains(&c)));
        let after = after.trim_start();
        let (suffix, power) = sizes.find(|(suffix, _)| after.starts_with(suffix))?;
        let factor = base.checked_pow(*power)?;
        // What the decimals come to does not decide, but whether the next whole number is too much.
        whole.checked_add(u64::from(has_decimals))?.checked_mul(factor)?;
        sum = sum
            .checked_add(whole.checked_mul(factor)?)?
            .checked_add(u64::from(has_decimals && factor > 1))?;
        rest = after.strip_prefix(suffix)?;
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// `RLIMIT_NICE`: a level with its sign, or what the kernel has.
fn nice(text: &str) -> Option<u64> {
    let level = if text.starts_with(['+', '-']) {
        20_i64.checked_sub(signed(text).filter(|nice| (-20..=19).contains(nice))?)?
    } else {
        signed(text)?
    };
    u64::try_from(level).ok().filter(|level| *level <= 40)
}

/// One limit, or a soft and a hard one.
fn limit(value: &str, amount: impl Fn(&str) -> Option<u64>) -> bool {
    let amount = |text: &str| if text == "infinity" { Some(u64::MAX) } else { amount(text) };
    match value.split_once(':') {
        None => amount(value).is_some(),
        Some((soft, hard)) => amount(soft).zip(amount(hard)).is_some_and(|(soft, hard)| soft <= hard),
    }
}

/// What follows the path of a device.
fn of_device(value: &str) -> Option<&str> {
    let (path, rest) = first_word(value)?;
    let is_normal = !path.split('/').any(|part| part == "..");
    let mut specifiers = path.split('%').skip(1).filter_map(|rest| rest.chars().next());
    let are_known =
        specifiers.all(|letter| PATH_SPECIFIERS.contains(letter) || !letter.is_ascii_alphanumeric());
    Some(rest).filter(|rest| is_normal && are_known && !rest.is_empty())
}

fn are_cpus(value: &str) -> bool {
    // What an instance is called stands in no file.
    let value = value.replace("%i", "0").replace("%I", "0");
    let Ok(words) = words(&value.replace(',', " ")) else { return false };
    words.iter().all(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let range = unsigned(first).zip(unsigned(last));
        range.is_some_and(|(first, last)| first <= last && last < MOST_CPUS)
    })
}

/// Words with or without quotes; where one does not end, those before it.
fn words(text: &str) -> Result<Vec<String>, Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((word, after)) = first_word(rest) else { return Err(words) };
        words.push(word);
        rest = after;
    }
    Ok(words)
}

/// The first word without its quotes, and what follows; `None` where a quote does not end.
fn first_word(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            None if c.is_whitespace() => return Some((word, text.get(at..)?.trim_start())),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => word.push(c),
        }
    }
    quote.is_none().then_some((word, ""))
}

/// A slice's name with its specifiers replaced, by the unit's own name and else by a letter; `None` with one that
/// there is not. Of a template, or of a beginning of names, an instance is as good as another.
fn expanded(value: &str, unit: &str) -> Option<String> {
    let name: Cow<'_, str> = match unit.rsplit_once('.') {
        None => format!("x.{unit}").into(),
        Some((stem, kind)) if stem.ends_with(['-', '@']) => format!("{stem}i.{kind}").into(),
        Some(_) => unit.into(),
    };
    let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // A sign at the end stands for itself.
        let Some(specifier) = rest.next() else {
            text.push(c);
            break;
        };
        text.push_str(match specifier {
            '%' => "%",
            'n' => &name,
            'N' => stem,
            'p' => prefix,
            'i' => instance,
            'j' => prefix.rsplit('-').next().unwrap_or_default(),
            letter if SPECIFIERS.contains(letter) => "x",
            letter if letter.is_ascii_alphanumeric() => return None,
            // What can be none stands as it is.
            _ => "%",
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MEMORY_HIGH, MEMORY_MIN};

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        let read = |property, text: &str| setting(property, text).map(|value| value.to_string());
        for (property, text, value) in [
            (CPU_WEIGHT, "0100", "64"),
            (CPU_WEIGHT, "0x64", "100"),
            (CPU_WEIGHT, "idle", "idle"),
            (IO_WEIGHT, "50", "50"),
            (MEMORY_HIGH, "1G512M", "1536M"),
            (MEMORY_HIGH, "1 G", "1G"),
            (MEMORY_HIGH, "1.5G", "1536M"),
            (MEMORY_HIGH, "010", "10"),
            (MEMORY_HIGH, "010%", "8%"),
            (MEMORY_HIGH, "75‰", "7.5%"),
            (MEMORY_MIN, "0", "0"),
            (MEMORY_HIGH, "infinity", "infinity"),
            (TASKS_MAX, "010", "8"),
            (TASKS_MAX, "33%", "33%"),
            (CPU_QUOTA, "250%", "250%"),
            (IO_READ_BANDWIDTH_MAX, "/dev/vda  5M", "/dev/vda 5M"),
            (IO_READ_BANDWIDTH_MAX, "/srv 1500", "/srv 1500"),
            (CPU_QUOTA, "2500‰", "250%"),
        ] {
            assert_eq!(read(property, text).as_deref(), Some(value), "{text}");
        }
        for (property, text) in [
            (CPU_WEIGHT, ""),
            (CPU_WEIGHT, "10001"),
            (IO_WEIGHT, "idle"),
            (MEMORY_HIGH, "1.5G512M"),
            (TASKS_MAX, "0"),
            (CPU_QUOTA, "12.5%"),
            (IO_READ_BANDWIDTH_MAX, "/srv 1.5G"),
            (IO_READ_BANDWIDTH_MAX, "/a b 1M"),
        ] {
            assert_eq!(read(property, text), None, "{text}");
        }
        assert_eq!(score("-0x10"), OomScoreAdj::new(-16));
        assert_eq!(score("1001"), None);
    }

    #[test]
    fn values_are_refused_as_systemd_refuses_them() {
        let memory = Takes::Memory { zero: false };
        for (takes, right, wrong) in [
            (
                Takes::Weight { or: "idle" },
                &["1", "10000", "idle", ""][..],
                &["0", "10001", "100%", "high", "1.5"][..],
            ),
            (Takes::Weight { or: "" }, &["1", "10000"], &["0", "idle"]),
            (
                memory,
                &["512M", "1.5G", "1G512M", "512 M", "infinity", "50%", "68.75%", "4096", "1024B"],
                &["512MB", "512m", "512Mi", "1GiB", "0", "101%", "-1", "max", "half", "M"],
            ),
            (Takes::Memory { zero: true }, &["0", "512M"], &["512mb"]),
            (Takes::Tasks, &["1", "33%", "infinity", "0%"], &["0", "max", "-1"]),
            (Takes::Quota, &["20%", "400%", "12.5%"], &["2", "0%", "50 percent"]),
            (
                Takes::Integer { least: -1000, most: 1000, none: true },
                &["-1000", "1000", "0"],
                &["-1001", "1001", "low"],
            ),
            (Takes::WordOrNone(&["auto", "kill"]), &["auto", "kill"], &["yes", "Kill"]),
            (Takes::Slice, &["a.slice", "system-%p.slice", "-.slice"], &["a", "a-b", "a--b.slice", ""]),
        ] {
            for value in right {
                assert_eq!(refused(takes, value, "x.service", None), None, "{takes:?} {value}");
            }
            for value in wrong {
                assert!(refused(takes, value, "x.service", None).is_some(), "{takes:?} {value}");
            }
        }
    }

    #[test]
    fn a_slice_is_named_after_an_instance() {
        let is_right = |unit: &str, value: &str| refused(Takes::Slice, value, unit, None).is_none();
        assert!(is_right("tenant@.service", "tenant-%i.slice") && is_right("tenant@7.service", "%i.slice"));
        assert!(!is_right("tenant@.service", "tenant@%i.slice") && !is_right("tenant.service", "%i.slice"));
        assert!(is_right("local-.service", "%p.slice") && is_right("service", "%p.slice"));
    }
}
