//! Says whether another build of the same round ran at the same time as this one.
//!
//! `round` holds a directory and a number of milliseconds: each build script leaves its mark in the
//! directory, and waits that long for the other's. It is empty where nothing is to be met.

use std::time::{Duration, Instant};
use std::{fs, process, thread};

fn main() {
    println!("cargo::rerun-if-changed=round");
    let round = fs::read_to_string("round").unwrap();
    let Some((place, patience)) = round.split_once(' ') else { return };
    let deadline = Instant::now() + Duration::from_millis(patience.parse().unwrap());
    let mark = format!("{place}/{}", process::id());
    fs::write(&mark, "").unwrap();
    let met = || fs::read_dir(place).unwrap().count() > 1;
    while !met() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    if met() {
        println!("cargo::warning=met");
    } else {
        // Who comes now comes too late.
        fs::remove_file(&mark).unwrap();
        println!("cargo::warning=alone");
    }
}
