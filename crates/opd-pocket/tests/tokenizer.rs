//! The embedded tokenizers through the `tokenizers` crate.

use opd_pocket::sort8::{Split, prompts};
use tokenizers::Tokenizer;

const PAD: u32 = 0;
const EOS: u32 = 1;

fn tokenizers() -> [Tokenizer; 2] {
    ["student", "teacher"].map(|model| {
        let path = format!("{}/assets/{model}/tokenizer.json", env!("CARGO_MANIFEST_DIR"));
        Tokenizer::from_file(path).expect("an embedded file")
    })
}

#[test]
fn one_token_a_character() {
    for tokenizer in tokenizers() {
        assert_eq!(tokenizer.get_vocab_size(true), 13);
        let encoding = tokenizer.encode("83120975=", true).expect("a prompt");
        assert_eq!(encoding.get_ids(), [10, 5, 3, 4, 2, 11, 9, 7, 12]);
        assert_eq!(tokenizer.token_to_id("<pad>"), Some(PAD));
        assert_eq!(tokenizer.token_to_id("<eos>"), Some(EOS));
    }
}

#[test]
fn responses_decode_to_their_digits() {
    for tokenizer in tokenizers() {
        let decode = |ids: &[u32]| tokenizer.decode(ids, true).expect("known ids");
        assert_eq!(decode(&[2, 3, 4, 5, 7, 9, 10, 11, EOS]), "01235789");
        assert_eq!(decode(&[2, 3, EOS, PAD, PAD]), "01");
        assert_eq!(decode(&[EOS]), "");
        assert_eq!(tokenizer.decode(&[2, EOS], false).expect("known ids"), "0<eos>");
    }
}

#[test]
fn round_trip() {
    let [student, teacher] = tokenizers();
    for example in prompts(Split::Validation, 0, 200) {
        let ids = student.encode(&*example.prompt, true).expect("a prompt").get_ids().to_vec();
        assert_eq!(ids, teacher.encode(&*example.prompt, true).expect("a prompt").get_ids());
        assert_eq!(ids.len(), 9);
        assert_eq!(student.decode(&ids, true).expect("known ids"), example.prompt);
    }
}

#[test]
fn other_characters_are_refused() {
    for tokenizer in tokenizers() {
        for text in ["1a=", "1 2=", "1\n2"] {
            assert!(tokenizer.encode(text, true).is_err(), "{text:?}");
        }
    }
}

#[test]
fn pairs_of_digits_are_tokens_of_the_other_teacher() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pairs_teacher/tokenizer.json");
    let tokenizer = Tokenizer::from_file(path).expect("an embedded file");
    assert_eq!(tokenizer.get_vocab_size(true), 113);
    for (text, tokens) in [
        ("83120975=", vec!["83", "12", "09", "75", "="]),
        ("51200917=", vec!["5", "12", "00", "9", "17", "="]),
        ("01235789", vec!["01", "23", "57", "89"]),
        ("00112", vec!["00", "11", "2"]),
    ] {
        let encoding = tokenizer.encode(text, true).expect("digits");
        assert_eq!(encoding.get_tokens(), tokens);
        assert_eq!(tokenizer.decode(encoding.get_ids(), true).expect("known ids"), text);
    }
}
