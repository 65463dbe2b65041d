//! Where texts can be cut between tokens, for the kinds of tokenizers that models have.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use opd_models::Tokenizer;
use opd_testkit::{write_byte_fallback, write_byte_level};
use proptest::prelude::*;

fn tokenizer(write: impl FnOnce(&Path)) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    Tokenizer::load(dir.path()).unwrap()
}

fn byte_level() -> Tokenizer {
    let merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ã", "©"), ("ð", "Ł")];
    tokenizer(|dir| write_byte_level(dir, &merges))
}

fn byte_fallback() -> Tokenizer {
    tokenizer(|dir| write_byte_fallback(dir, &["▁the", "▁", "the", "t", "h", "e", "a", "é"]))
}

/// The pieces that the cuts leave.
fn pieces(tokenizer: &Tokenizer, context: &str, text: &str) -> Vec<String> {
    let context = tokenizer.encode(context).unwrap();
    let ids = tokenizer.encode_continuation(text).unwrap();
    let spelled = tokenizer.spell(&context, &ids);
    let mut from = 0;
    let piece = |&(_, to): &(usize, usize)| {
        let piece = spelled.text[from..to].to_owned();
        from = to;
        piece
    };
    spelled.cuts.iter().map(piece).collect()
}

#[test]
fn bytes_of_a_character_are_not_cut_apart() {
    let tokenizer = byte_level();
    assert_eq!(pieces(&tokenizer, "", "the é"), ["t", "he", " ", "é"]);
    // A smiley is four bytes: two in one token, two alone.
    let ids = tokenizer.encode_continuation("a🙂b").unwrap();
    assert_eq!(ids.len(), 5);
    assert_eq!(tokenizer.spell(&[], &ids).cuts, [(1, 1), (4, 5), (5, 6)]);
    // ê is two bytes without a merge.
    assert_eq!(pieces(&tokenizer, "", "êe"), ["ê", "e"]);
}

#[test]
fn half_a_character_ends_the_text() {
    let tokenizer = byte_level();
    let mut ids = tokenizer.encode_continuation("a🙂").unwrap();
    ids.pop();
    let spelled = tokenizer.spell(&[], &ids);
    assert_eq!((spelled.text.as_str(), spelled.cuts.as_slice()), ("a", &[(1, 1)][..]));
    ids.extend(tokenizer.encode_continuation("b").unwrap());
    assert_eq!(tokenizer.spell(&[], &ids), spelled, "and what follows it is no text either");
}

#[test]
fn special_tokens_are_no_text() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode_continuation("he").unwrap();
    let ended = [&ids[..], &[0], &ids].concat();
    assert_eq!(tokenizer.spell(&[], &ended), tokenizer.spell(&[], &ids));
    assert_eq!(tokenizer.spell(&[0], &ids), tokenizer.spell(&[], &ids));
    assert!(tokenizer.is_special(0) && !tokenizer.is_special(1) && !tokenizer.is_special(9999));
}

#[test]
fn a_response_keeps_its_leading_space() {
    let tokenizer = byte_fallback();
    let ids = tokenizer.encode("a the the").unwrap();
    let spelled = tokenizer.spell(&ids[..2], &ids[2..]);
    assert_eq!(spelled.text, " the the");
    assert_eq!(spelled.cuts, [(1, 4), (2, 8)]);
    // A character in no token is its bytes.
    let ids = tokenizer.encode("aü").unwrap();
    let spelled = tokenizer.spell(&ids[..2], &ids[2..]);
    assert_eq!((spelled.text.as_str(), spelled.cuts.as_slice()), ("ü", &[(2, 2)][..]));
}

#[test]
fn pairs_are_cut_between_prompt_and_response() {
    for tokenizer in [byte_level(), byte_fallback()] {
        let (prompt, response) = tokenizer.encode_pair("the", " the").unwrap();
        assert_eq!(prompt, tokenizer.encode("the").unwrap());
        assert_eq!([prompt, response].concat(), tokenizer.encode("the the").unwrap());
    }
    // `he` would be one token across the border.
    let tokenizer = byte_level();
    let (prompt, response) = tokenizer.encode_pair("h", "e").unwrap();
    assert_eq!((prompt.len(), response.len()), (1, 1));
}

proptest! {
    #[test]
    fn texts_come_back_whole(text in "[^\\pC\u{fffd}]{0,20}") {
        let tokenizer = byte_level();
        let ids = tokenizer.encode_continuation(&text).unwrap();
        let spelled = tokenizer.spell(&[], &ids);
        prop_assert_eq!(&spelled.text, &text);
        let end = (!ids.is_empty()).then_some((ids.len(), text.len()));
        prop_assert_eq!(spelled.cuts.last().copied(), end);
    }

    #[test]
    fn any_ids_are_spelled_as_far_as_they_are_text(
        ids in prop::collection::vec(0u32..265, 0..20),
    ) {
        let tokenizer = byte_level();
        let spelled = tokenizer.spell(&[], &ids);
        let mut last = (0, 0);
        for &(tokens, bytes) in &spelled.cuts {
            prop_assert!(tokens > last.0 && bytes > last.1);
            let prefix = tokenizer.decode(&ids[..tokens]).unwrap();
            prop_assert_eq!(&prefix, &spelled.text[..bytes]);
            last = (tokens, bytes);
        }
        prop_assert_eq!(last.1, spelled.text.len());
    }
}
