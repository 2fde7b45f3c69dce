//! What can be typed: the completions that the package installs, in the shells themselves, and the manual page.
#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::panic)]

use std::env;
use std::path::Path;
use std::process::Command;

use clap::{Command as Definition, CommandFactory as _};
use fairslice::cli::Arguments;

/// What a shell makes of `fairslice ex` and a Tab, with `PACKAGED` the file that the package has for it.
fn completed(shell: &str, packaged: &str, script: &str) -> String {
    let command = Path::new(env!("CARGO_BIN_EXE_fairslice"));
    let directories = [command.parent().expect("a directory"), Path::new("/usr/bin"), Path::new("/bin")];
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions").join(packaged);
    let output = Command::new(shell)
        .args(["-c", script])
        .env_clear()
        .env("HOME", env::temp_dir())
        .env("PATH", env::join_paths(directories).expect("names without a colon"))
        .env("PACKAGED", packaged)
        .output()
        .unwrap_or_else(|error| panic!("{shell}: {error}: tests/prepare test installs it"));
    assert!(output.status.success(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn bash_completes_a_command() {
    let script = r#"source "$PACKAGED"; COMP_WORDS=(fairslice ex) COMP_CWORD=1
        _fairslice fairslice ex fairslice; echo "${COMPREPLY[@]}"; complete -p fairslice"#;
    let text = completed("bash", "fairslice.bash", script);
    let (words, defined) = text.split_once('\n').expect("two lines");
    assert_eq!(words, "explain export");
    assert!(defined.ends_with(" -F _fairslice fairslice\n"), "{defined}");
}

#[test]
fn fish_completes_a_command() {
    let words =
        completed("fish", "fairslice.fish", r#"source "$PACKAGED"; complete -C "fairslice ex" | cut -f 1"#);
    assert_eq!(words, "explain\nexport\n");
}

#[test]
fn zsh_completes_a_command() {
    // Called as the completion system calls it, in the place of what it is to ask.
    let script = r#"_arguments() { print asked; return 1 }
        fpath=("${PACKAGED:h}" $fpath); autoload -Uz _fairslice; compdef() { print compdef }
        _fairslice; whence -w _fairslice"#;
    let text = completed("zsh", "_fairslice", script);
    assert!(text.contains("asked"), "{text}");
    assert!(text.contains("_fairslice: function"), "{text}");
}

/// The commands and options of `definition` and below that `page` does not name.
fn left_out(page: &str, definition: &Definition, way: &str) -> Vec<String> {
    let commands = definition.get_subcommands().filter(|command| !command.is_hide_set());
    let below = commands.flat_map(|command| {
        let way = format!("{way}{} ", command.get_name());
        let own = (!page.contains(way.trim_end())).then(|| way.trim_end().to_owned());
        own.into_iter().chain(left_out(page, command, &way)).collect::<Vec<_>>()
    });
    let options = definition.get_arguments().filter(|option| !option.is_hide_set());
    let options = options.filter_map(|option| Some(format!("--{}", option.get_long()?)));
    options
        .filter(|option| !page.contains(option))
        .map(|option| format!("{way}{option}"))
        .chain(below)
        .collect()
}

#[test]
fn the_manual_page_names_every_command_and_option() {
    let page = include_str!("../man/fairslice.1").replace("\\-", "-");
    let page = ["\\fB", "\\fI", "\\fR"].iter().fold(page, |page, font| page.replace(font, ""));
    assert_eq!(left_out(&page, &Arguments::command(), ""), Vec::<String>::new());
}
