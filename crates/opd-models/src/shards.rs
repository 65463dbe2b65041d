//! Weights over several files.

use crate::safetensors_file::Entry;

/// A weight file.
pub(crate) struct Shard<'a> {
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry<'a>>,
}

impl Shard<'_> {
    /// Bytes of its tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::bytes).sum()
    }
}

/// Cuts tensors, in their order, into files of at most `limit` bytes; a tensor of more has a file
/// of its own.
pub(crate) fn cut(entries: Vec<Entry<'_>>, limit: u64) -> Vec<Shard<'_>> {
    let mut shards: Vec<Vec<Entry<'_>>> = vec![Vec::new()];
    let mut held = 0;
    for entry in entries {
        let bytes = entry.bytes();
        if held > 0 && held + bytes > limit {
            shards.push(Vec::new());
            held = 0;
        }
        held += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(entry);
        }
    }
    let n = shards.len();
    let named =
        shards.into_iter().enumerate().map(|(i, entries)| Shard { name: name(i + 1, n), entries });
    named.collect()
}

fn name(i: usize, n: usize) -> String {
    format!("model-{i:05}-of-{n:05}.safetensors")
}

/// Whether a file is called as a shard is.
pub(crate) fn is_name(file: &str) -> bool {
    let numbers = file.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let Some((i, n)) = numbers.and_then(|numbers| numbers.split_once("-of-")) else {
        return false;
    };
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(i) && digits(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(values: usize) -> Entry<'static> {
        let values_of = Box::new(|| unreachable!("nothing is written"));
        Entry { name: String::new(), shape: vec![values], values: values_of }
    }

    fn sizes(values: &[usize], limit: u64) -> Vec<Vec<u64>> {
        let shards = cut(values.iter().map(|&n| entry(n)).collect(), limit);
        shards.iter().map(|shard| shard.entries.iter().map(Entry::bytes).collect()).collect()
    }

    #[test]
    fn files_hold_what_fits_and_at_least_one_tensor() {
        assert_eq!(sizes(&[2, 3, 4, 1, 9, 1], 20), [vec![8, 12], vec![16, 4], vec![36], vec![4]]);
        assert_eq!(sizes(&[2, 3], 20), [[8, 12]]);
        assert_eq!(sizes(&[2, 3], 0), [[8], [12]]);
    }

    #[test]
    fn names_are_those_of_transformers() {
        let shards = cut(vec![entry(1), entry(1)], 4);
        let names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        assert_eq!(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        assert!(names.into_iter().all(is_name));
        for other in ["model.safetensors", "model-1-of-2.safetensors", "model-00001-of-00002.bin"] {
            assert!(!is_name(other), "{other}");
        }
    }
}
