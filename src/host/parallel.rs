//! Thousands of small reads, on more than one CPU.
//!
//! rayon does it too, and panics where it cannot start a thread. Here that is no rarity: a slice that is at
//! its `TasksMax=` is what somebody looks for.
#![forbid(unsafe_code)]

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// So many reads are worth what starting a thread costs, and are done at a stretch.
const PART: usize = 64;
/// The kernel's locks leave little to win with more threads.
const MOST: usize = 8;

/// Both at once: the one on a thread of its own, for as long as it waits for somebody else. Where none can be
/// started, one after the other.
pub(crate) fn both<A: Send, B>(waits: &(impl Fn() -> A + Sync), works: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let waiting = thread::Builder::new().spawn_scoped(scope, waits).ok();
        let worked = works();
        let waited = waiting.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (waited.unwrap_or_else(waits), worked)
    })
}

/// What `each` makes of every part of `items`, in their order. Each thread takes the next part when it has
/// done one; where none can be started, this one does them all.
pub fn map<T: Sync, R: Send>(items: &[T], each: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    let parts: Vec<&[T]> = items.chunks(PART).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let taken = std::iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            Some((index, each(parts.get(index)?)))
        });
        taken.collect::<Vec<_>>()
    };
    let cpus = thread::available_parallelism().map_or(1, NonZero::get).min(MOST).min(parts.len());
    let mut done = thread::scope(|scope| {
        let others: Vec<_> =
            (1..cpus).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut done = work();
        done.extend(
            others.into_iter().flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))),
        );
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays() {
        for count in [0, 1, PART, PART + 1, 10_007] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = map(&items, |part| part.iter().map(|item| item * 2).collect());
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
