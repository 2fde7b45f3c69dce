//! The launcher in front of the commands of an `ExecStart=`: pure, from text to text.
//!
//! Wrapping inserts words and leaves the others as they are written, so that quotes, escapes,
//! specifiers and variables go on meaning what they mean. The rules are those of
//! `systemd.service(5)`, and of `config_parse_exec` in systemd's `load-fragment.c`,
//! `extract_first_word`, `cunescape_one` and `replace_env_argv`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::units::file::WHITESPACE;

/// One command of an `ExecStart=`.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// With the launcher in front.
    Wrapped {
        /// The command as an `ExecStart=` takes it.
        text: String,
        /// The file name of what systemd would have executed: it calls by that what the command prints.
        program: String,
    },
    /// It had the launcher in front already.
    Launched(String),
}

impl Command {
    /// The command as an `ExecStart=` takes it.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Wrapped { text, .. } | Self::Launched(text) => text,
        }
    }

    /// The file name of what systemd would have executed, with specifiers as they are written.
    #[must_use]
    pub fn program(&self) -> &str {
        match self {
            Self::Wrapped { program, .. } => program,
            Self::Launched(_) => launcher(),
        }
    }
}

/// One word of a line.
struct Word<'a> {
    /// As it is written.
    raw: &'a str,
    /// Without quotes and escapes; specifiers and variables as they are written.
    value: String,
}

/// The first word of a command: `PREFIXES` and `path`.
struct Head<'a> {
    /// `-`, `@`, `:`, `+`, `!`, `|`
    prefixes: &'a str,
    /// What is executed.
    path: &'a str,
    /// The same as it is written.
    raw: String,
}

/// `_PATH_BSHELL`, by which systemd calls whatever shell `|` stands for.
const SHELL: &str = "sh";

fn launcher() -> &'static str {
    file_name(paths::LAUNCHER)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Puts the launcher in front of every command of `line`, the value of one `ExecStart=`.
///
/// `find` says where a command lies that is named without a path.
///
/// # Errors
/// Says what cannot be wrapped so that it comes to the same.
pub fn wrap(line: &str, find: impl Fn(&str) -> Option<String>) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    let mut rest = line;
    while let Some((first, after)) = next_word(rest)? {
        if first.value == ";" {
            rest = after;
            continue;
        }
        let (arguments, next) = arguments(after)?;
        commands.push(wrap_one(&first, arguments, &find)?);
        rest = next;
    }
    Ok(commands)
}

/// The words of a list, such as that of `InaccessiblePaths=`.
///
/// # Errors
/// A quote is not closed.
pub fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((word, after)) = next_word(rest)? {
        words.push(word.value);
        rest = after;
    }
    Ok(words)
}

fn wrap_one(first: &Word, arguments: &str, find: impl Fn(&str) -> Option<String>) -> Result<Command> {
    let head = head(first)?;
    let whole = || format!("{}{arguments}", first.raw);
    if cannot_end_a_line(&whole()) {
        bail!("{:?} ends in an escaped space or half an escape: write it with quotes", whole());
    }
    if file_name(head.path) == launcher() {
        return Ok(Command::Launched(whole()));
    }
    if head.prefixes.contains('|') {
        return through_shell(&head, &whole(), arguments);
    }
    if head.path.is_empty() || head.path.ends_with('/') {
        bail!("{:?} names no command, and systemd takes no such line either", first.raw);
    }
    let expands = !head.prefixes.contains(':');
    let (mut argv0, arguments) = match next_word(arguments)? {
        _ if !head.prefixes.contains('@') => (None, arguments),
        Some((name, after)) => {
            if expands && is_variable(&name.value) {
                bail!(
                    "\"@\" takes its argv[0] from {}, which may become no word or several: write it as ${{…}}",
                    name.value
                );
            }
            (Some(name.raw), after)
        }
        None => bail!("\"@\" without an argv[0], and systemd takes no such line either"),
    };
    let (path, own_name) = command(&head, expands, find)?;
    if own_name {
        argv0 = argv0.or(Some(&head.raw));
    }
    let option = argv0.map(|name| format!(" --argv0 {name}")).unwrap_or_default();
    let prefixes = head.prefixes.replace('@', "");
    let text = format!("{prefixes}/{}{option} -- {path}{arguments}", paths::LAUNCHER);
    // The path comes last now, where there is nothing but an argv[0] behind it.
    if cannot_end_a_line(&text) {
        bail!("{:?} ends in an escaped space or half an escape: write it with quotes", first.raw);
    }
    Ok(Command::Wrapped { text, program: file_name(head.path).to_owned() })
}

/// The command as an argument of the launcher's, and whether its argv[0] is another then.
fn command(head: &Head, expands: bool, find: impl Fn(&str) -> Option<String>) -> Result<(String, bool)> {
    let Head { path, raw, .. } = head;
    if !path.contains('/') {
        // systemd searches directories of its own; the launcher would search the service's PATH.
        let found = find(path).with_context(|| {
            format!("the command {path:?} is in no directory that systemd searches: write its whole path")
        })?;
        if !found.chars().all(is_plain) {
            bail!("{found:?}, which {path:?} is, needs quoting: write its whole path into the unit");
        }
        return Ok((found, true));
    }
    if !path.starts_with(['/', '%']) {
        bail!("{path:?} is a relative path, and systemd takes no such line either");
    }
    if !expands || !path.contains('$') {
        return Ok((raw.clone(), false));
    }
    if raw.matches('$').count() != path.matches('$').count() {
        bail!("{raw} spells a \"$\" as an escape: write it as it is");
    }
    // In the path a "$" is a "$", in an argument it is one of two; and argv[0] is an argument.
    Ok((raw.replace('$', "$$"), path.contains("$$") || path.contains("${")))
}

/// `|`: systemd joins the words with spaces and hands them to the user's shell.
fn through_shell(head: &Head, whole: &str, arguments: &str) -> Result<Command> {
    let plain = |c: char| is_plain(c) || c == ' ';
    if !head.path.starts_with('/') || !head.raw.chars().chain(arguments.chars()).all(plain) {
        bail!(
            "{whole:?} is for a shell (\"|\"), and the launcher can only be put before one plain command with its path"
        );
    }
    let Head { prefixes, raw, .. } = head;
    let text = format!("{prefixes}/{} -- {raw}{arguments}", paths::LAUNCHER);
    Ok(Command::Wrapped { text, program: SHELL.to_owned() })
}

/// White space there would be cut off, and a backslash would join the next line.
fn cannot_end_a_line(text: &str) -> bool {
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    text.ends_with(WHITESPACE) || backslashes % 2 == 1
}

/// What stands for itself in a unit file and in a shell.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-+:,=@".contains(c)
}

/// A word that becomes as many words as the variable has.
fn is_variable(word: &str) -> bool {
    word.strip_prefix('$').is_some_and(|name| !name.starts_with(['{', '$']))
}

fn head<'a>(first: &'a Word) -> Result<Head<'a>> {
    let (prefixes, path) = first.value.split_at_checked(prefixes(&first.value)).unwrap_or_default();
    // systemd takes the quotes off before it looks for prefixes.
    let quote = first.raw.chars().next().filter(|c| ['"', '\''].contains(c));
    let raw = match (first.raw.strip_prefix(prefixes), quote) {
        (Some(raw), _) => Some(raw.to_owned()),
        (None, Some(quote)) => {
            let raw = first.raw.strip_prefix(quote).and_then(|raw| raw.strip_prefix(prefixes));
            raw.map(|raw| format!("{quote}{raw}"))
        }
        (None, None) => None,
    };
    let raw = raw.with_context(|| format!("the prefixes of {} are quoted or escaped", first.raw))?;
    Ok(Head { prefixes, path, raw })
}

/// How many characters before the path are prefixes: each once, `!` twice at most and not with `+`.
fn prefixes(word: &str) -> usize {
    let mut seen = String::new();
    for c in word.chars() {
        let taken = match c {
            '-' | '@' | ':' | '|' => !seen.contains(c),
            '+' => !seen.contains(['+', '!']),
            '!' => !seen.contains('+') && seen.matches('!').count() < 2,
            _ => false,
        };
        if !taken {
            break;
        }
        seen.push(c);
    }
    seen.len()
}

/// The arguments of a command as they are written, up to a word `;`, and what follows that.
fn arguments(text: &str) -> Result<(&str, &str)> {
    let mut rest = text;
    loop {
        let word = rest.trim_start_matches(WHITESPACE);
        if let Some(next) = separator(word, ";") {
            let length = text.len() - rest.len();
            return Ok((text.get(..length).unwrap_or(text), next));
        }
        rest = match separator(word, "\\;") {
            Some(after) => after,
            None => match next_word(word)? {
                Some((_, after)) => after,
                None => return Ok((text.trim_end_matches(WHITESPACE), "")),
            },
        };
    }
}

/// What follows `mark`, if that is a word of its own.
fn separator<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.strip_prefix(mark).filter(|after| after.is_empty() || after.starts_with(WHITESPACE))
}

/// The first word of `text`, and what follows it.
fn next_word(text: &str) -> Result<Option<(Word<'_>, &str)>> {
    let text = text.trim_start_matches(WHITESPACE);
    if text.is_empty() {
        return Ok(None);
    }
    let mut value = Vec::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = characters.next() {
        match quote {
            None if WHITESPACE.contains(&c) => {
                end = at;
                break;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == '\\' => {
                let (bytes, length) = escape(characters.as_str());
                value.extend(bytes);
                characters.by_ref().take(length).for_each(drop);
            }
            _ => value.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    if let Some(quote) = quote {
        bail!("a {quote} is not closed in {text:?}");
    }
    let (raw, after) = text.split_at_checked(end).unwrap_or((text, ""));
    #[allow(clippy::disallowed_methods, reason = "it is compared; what is written is as it was")]
    let value = String::from_utf8_lossy(&value).into_owned();
    Ok(Some((Word { raw, value }, after)))
}

/// What a backslash and the characters after it come to, and how many of them belong to it. Where
/// they are no escape, both stay as they are.
fn escape(after: &str) -> (Vec<u8>, usize) {
    if let Some(escape) = known_escape(after) {
        return escape;
    }
    let next: String = after.chars().take(1).collect();
    (format!("\\{next}").into_bytes(), next.chars().count())
}

fn known_escape(after: &str) -> Option<(Vec<u8>, usize)> {
    let kind = after.chars().next()?;
    let (start, digits, radix) = match kind {
        'x' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='7' => (0, 3, 8),
        _ => {
            let (_, byte) = ESCAPES.into_iter().find(|(escape, _)| *escape == kind)?;
            return Some((vec![byte], 1));
        }
    };
    let number = after.get(start..start + digits)?;
    let code = number.chars().try_fold(0_u32, |code, c| Some(code * radix + c.to_digit(radix)?))?;
    let bytes = match kind {
        _ if code == 0 => return None,
        'u' | 'U' => char::from_u32(code)?.to_string().into_bytes(),
        _ => vec![u8::try_from(code).ok()?],
    };
    Some((bytes, start + digits))
}

const ESCAPES: [(char, u8); 11] = [
    ('a', 7),
    ('b', 8),
    ('f', 12),
    ('n', b'\n'),
    ('r', b'\r'),
    ('t', b'\t'),
    ('v', 11),
    ('\\', b'\\'),
    ('"', b'"'),
    ('\'', b'\''),
    ('s', b' '),
];

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCHER: &str = "/usr/bin/fairslice-launch";

    fn nowhere(_: &str) -> Option<String> {
        None
    }

    fn wrapped(line: &str) -> Vec<String> {
        wrap(line, nowhere).unwrap().iter().map(|command| command.text().to_owned()).collect()
    }

    /// The words of a line as they are written: a splitter of its own, that knows quotes and
    /// backslashes and nothing else.
    fn split(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        let mut characters = line.chars();
        while let Some(c) = characters.next() {
            if quote.is_none() && c.is_ascii_whitespace() {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            word.push(c);
            match c {
                '\\' => word.extend(characters.next()),
                '"' | '\'' if quote == Some(c) => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                _ => {}
            }
        }
        words.extend(Some(word).filter(|word| !word.is_empty()));
        words
    }

    #[test]
    fn the_launcher_comes_after_the_prefixes() {
        for (line, expected) in [
            ("/bin/a", "L -- /bin/a"),
            ("-/bin/a x  y", "-L -- /bin/a x  y"),
            ("+:/bin/a $x", "+:L -- /bin/a $x"),
            ("!!-/bin/a", "!!-L -- /bin/a"),
            ("@/bin/a 'b c' d", "L --argv0 'b c' -- /bin/a d"),
            ("-@:/bin/a $b $c", "-:L --argv0 $b -- /bin/a $c"),
            ("@/bin/a $$b ${c}", "L --argv0 $$b -- /bin/a ${c}"),
            ("@/bin/a \\; c", "L --argv0 \\; -- /bin/a c"),
            ("\"-/bin/a b\" c", "-L -- \"/bin/a b\" c"),
            ("-\"/bin/a b\"", "-L -- \"/bin/a b\""),
            ("\"-\"/bin/a", "-L -- \"\"/bin/a"),
            ("%h/bin/a", "L -- %h/bin/a"),
            ("/opt/$a/b $c", "L -- /opt/$$a/b $c"),
            (":/opt/$a/b $c", ":L -- /opt/$a/b $c"),
            ("/opt/${a}/b", "L --argv0 /opt/${a}/b -- /opt/$${a}/b"),
            ("|/bin/a b", "|L -- /bin/a b"),
            ("@|-/bin/a", "@|-L -- /bin/a"),
            ("-/usr/bin/fairslice-launch -- /bin/a", "-L -- /bin/a"),
        ] {
            assert_eq!(wrapped(line), [expected.replace('L', LAUNCHER)], "{line}");
        }
    }

    #[test]
    fn a_line_can_hold_several_commands() {
        let line = "/bin/a \\; \";\" x; ; -/bin/b ;; ;\t; @/bin/c d ;";
        let expected = ["L -- /bin/a \\; \";\" x;", "-L -- /bin/b ;;", "L --argv0 d -- /bin/c"];
        assert_eq!(wrapped(line), expected.map(|line| line.replace('L', LAUNCHER)));
        assert!(wrapped("; ;").is_empty());
    }

    #[test]
    fn a_command_is_called_by_its_file_name() {
        let find = |name: &str| Some(format!("/usr/bin/{name}"));
        let line = "-@/opt/a%i/b-%i c ; \"/bin/d e\" f ; g ; |/bin/h ; +L -- /bin/i";
        let commands = wrap(&line.replace('L', LAUNCHER), find).unwrap();
        let names: Vec<_> = commands.iter().map(Command::program).collect();
        assert_eq!(names, ["b-%i", "d e", "g", "sh", "fairslice-launch"]);
    }

    #[test]
    fn a_command_without_a_path_is_looked_up() {
        let find = |name: &str| (name == "a").then(|| "/usr/bin/a".to_owned());
        let text = |line: &str| wrap(line, find).map(|commands| commands[0].text().to_owned());
        assert_eq!(text("-a b").unwrap(), format!("-{LAUNCHER} --argv0 a -- /usr/bin/a b"));
        assert_eq!(text("@a b c").unwrap(), format!("{LAUNCHER} --argv0 b -- /usr/bin/a c"));
        assert!(text("b").is_err());
        assert!(wrap("a", |_| Some("/opt/a b/a".to_owned())).is_err());
    }

    #[test]
    fn what_would_come_to_something_else_is_refused() {
        for (line, reason) in [
            ("@/bin/a $b", "may become no word"),
            ("@/bin/a \"$b\"", "may become no word"),
            ("@/bin/a", "without an argv[0]"),
            ("@/bin/a ; /bin/b", "without an argv[0]"),
            ("-", "names no command"),
            ("/bin/", "names no command"),
            ("bin/a", "relative path"),
            ("--/bin/a", "relative path"),
            ("a%i", "in no directory"),
            ("/bin/a \"b", "not closed"),
            ("/bin/a 'b\\' c", "not closed"),
            ("-\"@\"/bin/a b", "quoted or escaped"),
            ("\\x2d/bin/a", "quoted or escaped"),
            ("/opt/\\x24a", "as an escape"),
            ("/bin/a b\\", "half an escape"),
            ("@/bin/a\\  b", "half an escape"),
            ("| /bin/a", "shell"),
            ("|/bin/a $b", "shell"),
            ("|/bin/a && b", "shell"),
            ("|a", "shell"),
            ("|/bin/%i", "shell"),
        ] {
            let error = format!("{:#}", wrap(line, nowhere).expect_err(line));
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn words_are_systemds() {
        let line = "a 'b \"c' \"d\\\"e\\x41\\u00e9\\101\\n\\s\" f\\\\g\\q \"\" \\x00";
        let expected = ["a", "b \"c", "d\"eA\u{e9}A\n ", "f\\g\\q", "", "\\x00"];
        assert_eq!(words(line).unwrap(), expected);
        assert_eq!(words(" \t ").unwrap(), [""; 0]);
    }

    /// Whatever stands after the path stands there word for word, in lines put together at random.
    #[test]
    fn no_word_is_lost_or_changed() {
        const PIECES: [&str; 20] = [
            " ", " ", "\t", "\"", "'", "\\", "\\\\", "$", "${A}", "$B", "%i", "%%", ";", "é", "-x", "a", "/",
            "@", "--", "=",
        ];
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut compared = 0;
        for _ in 0..200_000 {
            let arguments: String = (0..random(12)).map(|_| PIECES[random(PIECES.len())]).collect();
            let named = random(2) == 0;
            let line = format!("{} {}", if named { "-@/bin/a name" } else { "-/bin/a" }, arguments.trim());
            let Ok(commands) = wrap(&line, nowhere) else { continue };
            let original = split(&line);
            // A word ";" ends the command.
            let Some(command) = commands.first().filter(|_| !original.contains(&";".to_owned())) else {
                continue;
            };
            let mut expected = vec![format!("-{LAUNCHER}")];
            if named {
                expected.extend(["--argv0".to_owned(), "name".to_owned()]);
            }
            expected.extend(["--".to_owned(), "/bin/a".to_owned()]);
            expected.extend_from_slice(&original[if named { 2 } else { 1 }..]);
            assert_eq!(split(command.text()), expected, "{line}");
            compared += 1;
        }
        assert!(compared > 50_000, "only {compared} lines could be compared");
    }
}
