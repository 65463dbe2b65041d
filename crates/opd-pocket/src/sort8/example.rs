use super::{Split, order::Order};

/// The task's name in the `source` field of data rows.
pub const SOURCE: &str = "sort8";

/// A prompt with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Example {
    /// Eight digits and `=`.
    pub prompt: String,
    /// The eight digits in ascending order, without EOS.
    pub answer: String,
}

impl Example {
    fn of_digits(digits: [u8; 8]) -> Self {
        let mut sorted = digits;
        sorted.sort_unstable();
        let text = |digits: [u8; 8]| digits.map(char::from).iter().collect::<String>();
        Self { prompt: text(digits) + "=", answer: text(sorted) }
    }
}

/// The first `n` of [`examples`].
///
/// ```
/// use opd_pocket::sort8::{Split, prompts};
///
/// let examples = prompts(Split::Train, 0, 100);
/// assert_eq!(examples, prompts(Split::Train, 0, 100));
/// assert!(examples.iter().all(|example| Split::of(&example.prompt) == Some(Split::Train)));
/// ```
pub fn prompts(split: Split, seed: u64, n: usize) -> Vec<Example> {
    examples(split, seed).take(n).collect()
}

/// All examples of a split, each once, in an order given by `seed`.
///
/// Ends after [`Split::n_prompts`]. Orders of two seeds are unrelated, so that their beginnings
/// may share prompts.
pub fn examples(split: Split, seed: u64) -> impl Iterator<Item = Example> {
    Order::new(seed)
        .map(ascii_digits)
        .filter(move |&digits| Split::of_digits(digits) == split)
        .map(Example::of_digits)
}

/// The eight decimal digits of a number below 10^8, most significant first.
pub(super) fn ascii_digits(mut number: u32) -> [u8; 8] {
    let mut digits = [b'0'; 8];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}
