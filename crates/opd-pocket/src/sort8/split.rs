use super::order::mix;

/// Which use a prompt is kept for.
///
/// ```text
/// bucket = mix(the eight digits in ASCII, as a little-endian u64) mod 10
/// 0: test    1: validation    2 to 9: train
/// mix(z): z = (z xor (z >> 30)) * 0xbf58476d1ce4e5b9
///         z = (z xor (z >> 27)) * 0x94d049bb133111eb
///         z xor (z >> 31)                              (all modulo 2^64)
/// ```
///
/// Source of `mix`: the output function of SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Eight tenths of the prompts: the only ones that a model is trained on.
    Train,
    /// One tenth, to choose settings on.
    Validation,
    /// One tenth, to report results on.
    Test,
}

impl Split {
    /// The split of a prompt; `None` for anything but eight digits and `=`.
    pub fn of(prompt: &str) -> Option<Self> {
        let (digits, rest) = prompt.as_bytes().split_first_chunk()?;
        let is_prompt = rest == b"=" && digits.iter().all(u8::is_ascii_digit);
        is_prompt.then(|| Self::of_digits(*digits))
    }

    /// How many of the 10^8 prompts are in this split.
    pub fn n_prompts(self) -> usize {
        match self {
            Self::Train => 79_999_064,
            Self::Validation => 10_001_731,
            Self::Test => 9_999_205,
        }
    }

    /// The split of eight ASCII digits.
    pub(super) fn of_digits(digits: [u8; 8]) -> Self {
        match mix(u64::from_le_bytes(digits)) % 10 {
            0 => Self::Test,
            1 => Self::Validation,
            _ => Self::Train,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sort8::{example::ascii_digits, order::PROMPTS};

    #[test]
    fn counts() {
        let mut counts = [0; 3];
        for number in 0..PROMPTS {
            counts[Split::of_digits(ascii_digits(number)) as usize] += 1;
        }
        let splits = [Split::Train, Split::Validation, Split::Test];
        assert_eq!(counts, splits.map(Split::n_prompts));
    }

    #[test]
    fn only_prompts_have_a_split() {
        for text in
            ["", "=", "1234567=", "123456789=", "12345678", "1234567a=", "12345678==", "１2345="]
        {
            assert_eq!(Split::of(text), None, "{text}");
        }
        assert!(Split::of("12345678=").is_some());
    }
}
