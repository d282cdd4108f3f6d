//! The kept inputs of the fuzz targets, and random ones: every input is borne, and no promise is broken.

use proptest::prelude::*;

use crate::fuzzed::{TARGETS, Target};
use crate::root;

/// The kept inputs of a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = root().join("tests/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn every_kept_input_is_borne() {
    for Target { name, call } in TARGETS {
        let inputs = kept(name);
        assert!(inputs.len() >= 8, "{name}: {} inputs", inputs.len());
        for input in inputs {
            call(&input);
            // and with its end missing, as a stream breaks off
            for cut in 0..input.len() {
                call(&input[..cut]);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_input_is_borne(input in prop::collection::vec(any::<u8>(), 0..200)) {
        for Target { call, .. } in TARGETS {
            call(&input);
        }
    }
}

/// So many random inputs a target where `TIDEGATE_CASES` does not say how many.
const CASES: u64 = 10_000_000;

/// For toolchains without cargo-fuzz: `cargo test --release --test it -- --ignored --nocapture random_inputs`.
#[test]
#[ignore = "takes minutes; tests/long runs it"]
fn random_inputs_are_borne() {
    let wanted = std::env::var("TIDEGATE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let only = std::env::var("TIDEGATE_TARGET").ok();
    for Target { name, call } in
        TARGETS.iter().filter(|target| only.as_ref().is_none_or(|only| target.name == only))
    {
        let inputs = kept(name);
        let start = tidegate::clock::monotonic();
        for case in 0..wanted {
            let input = changed(&inputs, &mut random);
            if std::panic::catch_unwind(|| call(&input)).is_err() {
                panic!("{name}, seed {seed}, case {case}: {}", input.escape_ascii());
            }
        }
        let took = (tidegate::clock::monotonic() - start).as_secs();
        eprintln!("{name}: {wanted} random inputs borne in {took} s");
    }
}

/// A few kept inputs one behind the other, with bytes changed, left out, doubled or put in.
fn changed(inputs: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.usize(1..4) {
        let kept = &inputs[random.usize(..inputs.len())];
        let skipped = if input.is_empty() { 0 } else { 1.min(kept.len()) }; // what the first byte chooses is chosen
        input.extend_from_slice(&kept[skipped..]);
    }
    for _ in 0..random.usize(..8) {
        let at = random.usize(..=input.len());
        let size = random.usize(..8).min(input.len() - at);
        match random.u8(..6) {
            0 => input.insert(at, random.u8(..)),
            1 => drop(input.drain(at..at + size)),
            2 => input.splice(at..at, input[at..at + size].to_vec()).for_each(drop),
            3 if size > 0 => input[at] ^= 1 << random.u8(..8),
            4 if size > 0 => input[at] = random.u8(..),
            _ => input
                .splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(size).collect::<Vec<u8>>())
                .for_each(drop),
        }
    }
    input
}
