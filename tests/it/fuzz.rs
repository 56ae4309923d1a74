//! The fuzz targets on a stable toolchain: over the committed corpora, over those with a byte changed,
//! and over random bytes. `fuzz/README.md` says how to let them run for longer.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use proptest::prelude::*;

/// Whatever the corpus of `target` holds, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut all: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn no_corpus_breaks_a_law() {
    for (name, run) in targets::TARGETS {
        let all = corpus(name);
        assert!(all.len() >= 5, "{name} has only {} inputs", all.len());
        for (file, bytes) in all {
            // The name is in the output of a panic, which is what a law broken is.
            println!("{file}");
            run(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_input_breaks_a_law(
        target in 0..targets::TARGETS.len(),
        input in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6),
    ) {
        let (name, run) = targets::TARGETS[target];
        let all = corpus(name);
        let mut bytes = all[input.index(all.len())].1.clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        run(&bytes);
    }

    #[test]
    fn no_random_bytes_break_a_law(
        target in 0..targets::TARGETS.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        targets::TARGETS[target].1(&bytes);
    }
}
