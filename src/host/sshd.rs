//! Whether sshd opens PAM sessions: `UsePAM` of `sshd_config(5)`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::directory::names;
use crate::paths;

/// sshd's own limit on files that include one another.
const MOST_LEVELS: usize = 16;

/// What the configuration of sshd says of PAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsePam {
    /// Whether sshd opens a PAM session for a login.
    pub is_on: bool,
    /// The file and the line, counted from 1, that say so; `None` where sshd's own default holds, which
    /// is `no`.
    pub at: Option<(PathBuf, usize)>,
}

/// What holds; `None` where no sshd is configured.
///
/// sshd's files are read, as sshd does: the first line counts, and `UsePAM` cannot stand in a `Match` block.
#[must_use]
pub fn use_pam(root: &Path) -> Option<UsePam> {
    if !root.join(paths::SSHD_CONFIG).exists() {
        return None;
    }
    // sshd does not start with files that include one another without end.
    let at = find(root, Path::new(paths::SSHD_CONFIG), 0).unwrap_or_default();
    let is_on = at.as_ref().is_some_and(|(is_on, ..)| *is_on);
    Some(UsePam { is_on, at: at.map(|(_, file, line)| (file, line)) })
}

/// More files that include one another than sshd takes.
struct TooManyLevels;

/// Whether PAM is on, the file that says so, and the line.
type At = (bool, PathBuf, usize);

/// The first `UsePAM`, which is the one that counts, with its absolute file and its line.
fn find(root: &Path, file: &Path, level: usize) -> Result<Option<At>, TooManyLevels> {
    if level > MOST_LEVELS {
        return Err(TooManyLevels);
    }
    let Ok(text) = fs::read_to_string(root.join(file)) else { return Ok(None) };
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line
            .split(|c: char| c.is_whitespace() || c == '=')
            .map(|word| word.trim_matches('"'))
            .filter(|word| !word.is_empty())
            .collect();
        match words.split_first() {
            Some((key, _)) if key.eq_ignore_ascii_case("match") => return Ok(None),
            Some((key, patterns)) if key.eq_ignore_ascii_case("include") => {
                for included in patterns.iter().flat_map(|pattern| matching(root, pattern)) {
                    if let Some(found) = find(root, &included, level + 1)? {
                        return Ok(Some(found));
                    }
                }
            }
            Some((key, [value, ..])) if key.eq_ignore_ascii_case("usepam") => {
                let is_on = ["yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
                return Ok(Some((is_on, paths::absolute(file), index + 1)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The files that an `Include` stands for, sorted, relative to the root.
fn matching(root: &Path, pattern: &str) -> Vec<PathBuf> {
    // One that does not begin with a slash lies below /etc/ssh: joining an absolute path replaces that.
    let pattern = Path::new("/etc/ssh").join(pattern);
    let below = pattern.strip_prefix("/").unwrap_or(&pattern);
    let (Some(directory), Some(like)) = (below.parent(), below.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let wanted = |name: &String| {
        name.starts_with('.') == like.starts_with('.') && is_like(name.as_bytes(), like.as_bytes())
    };
    let names = names(&root.join(directory)).unwrap_or_default().into_iter();
    names.filter(wanted).map(|name| directory.join(name)).collect()
}

/// Whether a file name is what a pattern with `*` and `?` means: `glob(7)`.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    let (mut rest, mut left) = (name, pattern);
    // What follows the last star, and the name from where that was tried: no earlier star need be tried again.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (left.split_first(), rest.split_first()) {
            (None, None) => return true,
            (Some((b'*', behind)), _) => {
                star = Some((behind, rest));
                left = behind;
            }
            (Some((wanted, behind)), Some((found, after))) if *wanted == b'?' || wanted == found => {
                (left, rest) = (behind, after);
            }
            _ => {
                let Some((behind, (_, after))) = star.and_then(|(b, from)| Some((b, from.split_first()?)))
                else {
                    return false;
                };
                star = Some((behind, after));
                (left, rest) = (behind, after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    fn found(files: &[(&str, &str)]) -> Option<UsePam> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(root.path(), &format!("etc/ssh/{name}"), text);
        }
        use_pam(root.path())
    }

    fn at(is_on: bool, file: &str, line: usize) -> UsePam {
        UsePam { is_on, at: Some((PathBuf::from(file), line)) }
    }

    #[test]
    fn the_first_line_counts_and_files_are_included_where_they_stand() {
        let main = "# UsePAM no\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
        assert_eq!(found(&[("sshd_config", main)]), Some(at(true, "/etc/ssh/sshd_config", 3)));
        let off = [("sshd_config", main), ("sshd_config.d/50-x.conf", "\n usepam=no\n")];
        assert_eq!(found(&off), Some(at(false, "/etc/ssh/sshd_config.d/50-x.conf", 2)));
        let earlier = [off[0], off[1], ("sshd_config.d/10-y.conf", "UsePAM \"yes\"\n")];
        assert_eq!(found(&earlier), Some(at(true, "/etc/ssh/sshd_config.d/10-y.conf", 1)));
        let ignored = [("sshd_config", main), ("sshd_config.d/x.conf.bak", "UsePAM no\n")];
        assert_eq!(found(&ignored), Some(at(true, "/etc/ssh/sshd_config", 3)));
        let relative = [("sshd_config", "include more/?.conf\nUsePAM yes\n"), ("more/a.conf", "UsePAM no\n")];
        assert_eq!(found(&relative), Some(at(false, "/etc/ssh/more/a.conf", 1)));
    }

    #[test]
    fn a_match_block_ends_what_counts_and_the_default_is_off() {
        let default = Some(UsePam { is_on: false, at: None });
        assert_eq!(found(&[("sshd_config", "Match User alice\nUsePAM yes\n")]), default);
        // One in a file that is included ends with that file.
        let ended = [("sshd_config", "Include a\nUsePAM yes\n"), ("a", "Match all\nX11Forwarding no\n")];
        assert_eq!(found(&ended), Some(at(true, "/etc/ssh/sshd_config", 2)));
        assert_eq!(found(&[("sshd_config", "Include sshd_config sshd_config\nUsePAM yes\n")]), default);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_pattern_is_globs() {
        for (name, pattern, is) in [
            ("a.conf", "*.conf", true),
            ("a.conf.conf", "*.conf", true),
            ("a.conf.bak", "*.conf", false),
            ("", "*", true),
            ("", "?", false),
            ("abcbd", "a*b?", true),
            ("ab", "a*b*?", false),
            (&"a".repeat(200), &"*a".repeat(100), true),
            (&"a".repeat(200), &("*a".repeat(100) + "b"), false),
        ] {
            assert_eq!(is_like(name.as_bytes(), pattern.as_bytes()), is, "{name} {pattern}");
        }
    }
}
