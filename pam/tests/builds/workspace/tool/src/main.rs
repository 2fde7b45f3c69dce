//! Counts the words of a text.

fn main() {
    println!("{}", count::words(text::TEXT));
}
