use super::kept::{Kept, Recalled};

/// Sequences that begin with the same tokens, which are computed once.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Tokens in common.
    pub(crate) prefix: usize,
    /// Indices of the sequences.
    pub(crate) members: Vec<usize>,
    /// What was computed before of the tokens in common.
    pub(crate) recalled: Option<Recalled>,
}

impl Family {
    fn new(prefix: usize, members: Vec<usize>) -> Self {
        Self { prefix, members, recalled: None }
    }

    fn alone(member: usize) -> Self {
        Self::new(0, vec![member])
    }

    /// Tokens to hold.
    pub(crate) fn tokens(&self, sequences: &[&[u32]]) -> usize {
        let rest = self.members.iter().map(|&member| sequences[member].len() - self.prefix);
        self.prefix + rest.sum::<usize>()
    }

    /// Tokens to compute.
    pub(crate) fn to_compute(&self, sequences: &[&[u32]]) -> usize {
        self.tokens(sequences) - self.recalled.as_ref().map_or(0, |recalled| recalled.n)
    }

    /// Looks for the beginning that no member has a question to; `starts` are the first rows
    /// that they have one to. A sequence alone has all before it in common with itself.
    pub(crate) fn recall(&mut self, sequences: &[&[u32]], starts: &[usize], kept: &Kept) {
        let Some(&first) = self.members.first() else { return };
        if let [alone] = self.members[..] {
            self.prefix = starts[alone].min(sequences[alone].len());
        }
        let unasked = self.members.iter().map(|&member| starts[member]).min().unwrap_or(0);
        self.recalled = kept.recall(&sequences[first][..self.prefix.min(unasked)]);
    }
}

/// Cuts `sequences` into families with the fewest tokens to compute, among the cuts of their
/// sorted order; a family has one prefix.
pub(crate) fn families(sequences: &[&[u32]], share: bool) -> Vec<Family> {
    if !share {
        return (0..sequences.len()).map(Family::alone).collect();
    }
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&i| (sequences[i], i));
    // common[i]: tokens that the sorted sequences i and i + 1 begin with in common.
    let common: Vec<usize> =
        order.windows(2).map(|pair| in_common(sequences[pair[0]], sequences[pair[1]])).collect();
    // best[n]: most tokens saved among the first n, and where their last family begins.
    let mut best = vec![(0usize, 0usize)];
    for n in 1..=order.len() {
        let mut choice = (best[n - 1].0, n - 1);
        let mut prefix = usize::MAX;
        for first in (0..n - 1).rev() {
            prefix = prefix.min(common[first]);
            if prefix == 0 {
                break;
            }
            let saved = best[first].0 + (n - 1 - first) * prefix;
            if saved >= choice.0 {
                choice = (saved, first);
            }
        }
        best.push(choice);
    }
    let mut families = Vec::new();
    let mut end = order.len();
    while end > 0 {
        let first = best[end].1;
        let prefix = common[first..end - 1].iter().copied().min().unwrap_or(0);
        families.push(Family::new(prefix, order[first..end].to_vec()));
        end = first;
    }
    families.reverse();
    families
}

/// Tokens that both begin with.
pub(crate) fn in_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::families;

    fn found(sequences: &[&[u32]]) -> Vec<(usize, Vec<usize>)> {
        let families = families(sequences, true).into_iter();
        families.map(|family| (family.prefix, family.members)).collect()
    }

    #[test]
    fn groups_share_their_prompt_and_not_less_with_all() {
        let sequences: [&[u32]; 6] =
            [&[9, 1, 2, 3, 4], &[9, 5, 6, 7], &[9, 1, 2, 3, 5], &[9, 5, 6, 8], &[2], &[9, 5, 6]];
        let expected = [(0, vec![4]), (4, vec![0, 2]), (3, vec![5, 1, 3])];
        assert_eq!(found(&sequences), expected);
        assert_eq!(families(&sequences, false).len(), 6);
        assert!(families(&[], true).is_empty());
    }

    #[test]
    fn equal_sequences_are_computed_once() {
        let sequences: [&[u32]; 3] = [&[1, 2], &[1, 2], &[1, 2]];
        assert_eq!(found(&sequences), [(2, vec![0, 1, 2])]);
    }

    /// Tokens to compute with the best cut of `sequences`, tried one by one.
    fn fewest(sequences: &[&[u32]]) -> usize {
        if sequences.is_empty() {
            return 0;
        }
        let cut = |n: usize| {
            let prefix = match n {
                1 => 0,
                _ => (0..)
                    .take_while(|&t| {
                        let first = sequences[0].get(t);
                        first.is_some() && sequences[..n].iter().all(|s| s.get(t) == first)
                    })
                    .count(),
            };
            let rest: usize = sequences[..n].iter().map(|s| s.len() - prefix).sum();
            prefix + rest + fewest(&sequences[n..])
        };
        (1..=sequences.len()).map(cut).min().unwrap()
    }

    proptest! {
        #[test]
        fn every_sequence_is_in_one_family_and_no_cut_is_cheaper(
            sequences in prop::collection::vec(prop::collection::vec(0u32..2, 0..6), 0..8),
        ) {
            let mut sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let found = families(&sequences, true);
            let mut members: Vec<usize> =
                found.iter().flat_map(|family| family.members.clone()).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..sequences.len()).collect::<Vec<_>>());
            for family in &found {
                let first = &sequences[family.members[0]][..family.prefix];
                prop_assert!(family.members.iter().all(|&i| sequences[i].starts_with(first)));
            }
            let tokens: usize = found.iter().map(|family| family.tokens(&sequences)).sum();
            sequences.sort();
            prop_assert_eq!(tokens, fewest(&sequences));
        }
    }
}
