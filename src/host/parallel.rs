//! Thousands of small reads, on more than one CPU.
//!
//! rayon does it too, and panics where it cannot start a thread. Here that is no rarity: a slice that is at
//! its `TasksMax=` is what somebody looks for.
#![forbid(unsafe_code)]

use std::num::NonZero;
use std::thread;

/// What starting a thread costs is worth so many reads.
const WORTH_A_THREAD: usize = 64;
/// The kernel's locks leave little to win with more.
const MOST: usize = 8;

/// What `each` makes of every part of `items`, in their order, parts at the same time. Where no thread can
/// be started, one after the other.
pub(super) fn map<T: Sync, R: Send>(items: &[T], each: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    let part = items.len().div_ceil(cpus).max(WORTH_A_THREAD);
    let mut parts = items.chunks(part);
    let own = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        let each = &each;
        let start = |part| (part, thread::Builder::new().spawn_scoped(scope, move || each(part)));
        let others: Vec<_> = parts.map(start).collect();
        let mut all = each(own);
        for (part, thread) in others {
            all.extend(thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| each(part)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays() {
        for count in [0, 1, WORTH_A_THREAD, WORTH_A_THREAD + 1, 10_007] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = map(&items, |part| part.iter().map(|item| item * 2).collect());
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
