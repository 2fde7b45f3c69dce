//! Every text of `fuzz/corpus` goes through its parser again: `fuzz/run` looks for more of them.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unnecessary_debug_formatting
)]

#[path = "../fuzz/parsers/mod.rs"]
mod parsers;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_parser_takes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, parser) in parsers::PARSERS {
        let texts = fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut count = 0;
        for file in texts {
            parser.parse(&fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 3, "{name} has {count}");
    }
}

#[test]
fn every_corpus_has_a_parser() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let directories: BTreeSet<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let parsers: BTreeSet<_> = parsers::PARSERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(directories, parsers);
    assert!(directories.iter().all(|name| parsers::named(name).is_some()));
}
