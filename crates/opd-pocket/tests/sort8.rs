//! The task against values computed by an independent NumPy script, and its laws.

use std::collections::HashSet;

use opd_pocket::sort8::{Example, Split, examples, prompts};
use proptest::prelude::*;

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

#[test]
fn splits_match_numpy() {
    let expected = [
        ("83120975=", Split::Train),
        ("00000000=", Split::Train),
        ("99999999=", Split::Train),
        ("27182818=", Split::Validation),
        ("21751368=", Split::Validation),
        ("90276923=", Split::Test),
        ("63142710=", Split::Test),
    ];
    for (prompt, split) in expected {
        assert_eq!(Split::of(prompt), Some(split), "{prompt}");
    }
}

#[test]
fn orders_match_numpy() {
    let expected = [
        (Split::Train, 1, ["64148367=", "93602804=", "51837267="]),
        (Split::Validation, 2, ["21751368=", "49825052=", "65756612="]),
        (Split::Test, 3, ["90276923=", "15822973=", "63142710="]),
    ];
    for (split, seed, expected) in expected {
        let examples = prompts(split, seed, 3);
        assert_eq!(examples.iter().map(|example| &*example.prompt).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_answer() {
    let example = examples(Split::Train, 1).next();
    let expected = Example { prompt: "64148367=".into(), answer: "13446678".into() };
    assert_eq!(example, Some(expected));
}

proptest! {
    #[test]
    fn examples_are_distinct_sorted_and_of_their_split(
        seed: u64,
        split in proptest::sample::select(&SPLITS),
        n in 0..2000_usize,
    ) {
        let examples = prompts(split, seed, n);
        prop_assert_eq!(examples.len(), n);
        prop_assert_eq!(examples.iter().map(|e| &e.prompt).collect::<HashSet<_>>().len(), n);
        for Example { prompt, answer } in &examples {
            prop_assert_eq!(Split::of(prompt), Some(split));
            prop_assert!(answer.as_bytes().is_sorted());
            for digit in '0'..='9' {
                prop_assert_eq!(prompt.matches(digit).count(), answer.matches(digit).count());
            }
        }
        prop_assert!(prompts(split, seed, n + 10).starts_with(&examples));
    }

    #[test]
    fn seeds_give_other_orders(seed: u64) {
        prop_assert_ne!(prompts(Split::Test, seed, 5), prompts(Split::Test, seed.wrapping_add(1), 5));
    }
}
