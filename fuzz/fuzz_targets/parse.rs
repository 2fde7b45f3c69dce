//! One parser, named by `FAIRSLICE_PARSER`: see `fuzz/run`.
#![no_main]

#[path = "../parsers/mod.rs"]
mod parsers;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static PARSER: OnceLock<parsers::Parser> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let parser = PARSER.get_or_init(|| {
        let name = std::env::var("FAIRSLICE_PARSER").expect("FAIRSLICE_PARSER names the parser");
        parsers::named(&name).unwrap_or_else(|| panic!("no parser {name:?} in fuzz/parsers"))
    });
    parser.parse(bytes);
});
