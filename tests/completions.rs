//! The packaged shell completions are those of the command as it is.
#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use fairslice::cli::Arguments;

/// Set to write the files anew.
const UPDATE: &str = "UPDATE_COMPLETIONS";

#[test]
fn completions_are_up_to_date() {
    for (shell, name) in [
        (Shell::Bash, "bash/fairslice"),
        (Shell::Zsh, "zsh/_fairslice"),
        (Shell::Fish, "fish/fairslice.fish"),
    ] {
        let mut text = Vec::new();
        generate(shell, &mut Arguments::command(), "fairslice", &mut text);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions").join(name);
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&file, &text).expect("writing a completion");
        }
        let packaged = fs::read(&file).unwrap_or_default();
        assert!(
            packaged == text,
            "{} is out of date: run {UPDATE}=1 cargo test --test completions",
            file.display()
        );
    }
}
