use std::ops::Range;

use opd_kernels::Span;

use super::{families::Family, kept::Recalled};

/// Tokens of one round, and the cache rows that they have.
#[derive(Debug, Default)]
pub(crate) struct Layout<'a> {
    /// Tokens to compute.
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// The cache row of each.
    pub(crate) rows: Vec<usize>,
    pub(crate) members: Vec<Member>,
    /// What was computed before, by the first cache row that it gets.
    pub(crate) recalled: Vec<(usize, Recalled)>,
    /// Cache rows in use.
    pub(crate) n_rows: usize,
    segments: Vec<Segment>,
    placed: Option<Placed<'a>>,
}

/// Where an item's tokens are.
#[derive(Debug)]
pub(crate) struct Member {
    /// Index of the item.
    pub(crate) item: usize,
    prefix: Part,
    rest: Part,
    /// Tokens that were computed for another sequence.
    pub(crate) shared: usize,
}

/// Tokens that follow each other.
#[derive(Clone, Debug)]
struct Part {
    /// Cache rows.
    rows: Range<usize>,
    /// How many of them were computed before.
    recalled: usize,
    /// Place of the next one among the tokens to compute.
    computed: usize,
}

/// The beginning of a family.
#[derive(Clone, Debug)]
struct Placed<'a> {
    tokens: &'a [u32],
    part: Part,
}

/// Tokens to compute that follow each other, behind the cache rows of `prefix`.
#[derive(Debug)]
struct Segment {
    prefix: Range<usize>,
    tokens: Range<usize>,
    first_row: usize,
}

impl Member {
    /// Place of the item's token `t` among those to compute.
    pub(crate) fn place(&self, t: usize) -> usize {
        match t.checked_sub(self.prefix.rows.len()) {
            None => self.prefix.computed + t - self.prefix.recalled,
            Some(t) => self.rest.computed + t,
        }
    }

    /// Cache rows of the tokens before the item's own.
    pub(crate) fn prefix_rows(&self) -> Range<usize> {
        self.prefix.rows.clone()
    }
}

/// Tokens of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// A round that holds a family takes no further one beyond this.
    pub(crate) families: usize,
    /// Families that are larger are cut here, between their members.
    pub(crate) most: usize,
}

/// Rounds that hold as many tokens as the budget, or one sequence.
pub(crate) fn layouts<'a>(
    fed: &[&'a [u32]],
    families: &[Family],
    budget: Budget,
) -> Vec<Layout<'a>> {
    let mut layouts: Vec<Layout<'a>> = Vec::new();
    for family in families {
        let tokens = family.tokens(fed);
        let mut begun = false;
        for (place, &item) in family.members.iter().enumerate() {
            let (prefix, rest) = fed[item].split_at(family.prefix);
            if prefix.is_empty() && rest.is_empty() {
                continue;
            }
            // Members of one family follow each other: its prefix is the one placed last.
            let resident = |layout: &Layout<'_>| place > 0 && layout.holds(prefix);
            let room = layouts.last().is_some_and(|layout| {
                let prefix = if resident(layout) { 0 } else { prefix.len() };
                let (tokens, most) = match begun {
                    true => (prefix + rest.len(), budget.most),
                    false => (tokens, budget.families),
                };
                layout.n_rows + tokens <= most
            });
            begun = true;
            if !room {
                layouts.push(Layout::default());
            }
            if let Some(layout) = layouts.last_mut() {
                let resident = place > 0 && layout.holds(prefix);
                layout.place(item, prefix, rest, family.recalled.as_ref(), resident);
            }
        }
    }
    layouts
}

impl<'a> Layout<'a> {
    fn holds(&self, prefix: &[u32]) -> bool {
        self.placed.as_ref().is_some_and(|placed| placed.tokens == prefix)
    }

    fn place(
        &mut self,
        item: usize,
        prefix: &'a [u32],
        rest: &'a [u32],
        recalled: Option<&Recalled>,
        resident: bool,
    ) {
        let placed = match self.placed.take().filter(|_| resident) {
            Some(placed) => placed,
            None => Placed { tokens: prefix, part: self.push(prefix, 0, 0..0, recalled) },
        };
        let before = placed.part.clone();
        self.placed = Some(placed);
        let shared = if resident { prefix.len() } else { before.recalled };
        let rest = self.push(rest, prefix.len(), before.rows.clone(), None);
        self.members.push(Member { item, prefix: before, rest, shared });
    }

    fn push(
        &mut self,
        tokens: &[u32],
        position: usize,
        prefix: Range<usize>,
        recalled: Option<&Recalled>,
    ) -> Part {
        let rows = self.n_rows..self.n_rows + tokens.len();
        self.n_rows = rows.end;
        let n = recalled.map_or(0, |recalled| recalled.n);
        self.recalled.extend(recalled.map(|recalled| (rows.start, recalled.clone())));
        let first_row = rows.start + n;
        let computed = self.tokens.len();
        self.tokens.extend_from_slice(&tokens[n..]);
        self.positions.extend((position + n..position + tokens.len()).map(|p| p as u32));
        self.rows.extend(first_row..rows.end);
        let prefix = if n > 0 { rows.start..first_row } else { prefix };
        if n < tokens.len() {
            self.segments.push(Segment { prefix, tokens: computed..self.tokens.len(), first_row });
        }
        Part { rows, recalled: n, computed }
    }

    /// What `tokens` of those to compute attend to; the rows before them are in the cache.
    pub(crate) fn spans(&self, tokens: &Range<usize>) -> Vec<Span> {
        let within = self.segments.iter().filter_map(|segment| {
            let first = segment.tokens.start.max(tokens.start);
            let end = segment.tokens.end.min(tokens.end);
            (first < end).then(|| Span {
                queries: first - tokens.start..end - tokens.start,
                prefix: segment.prefix.clone(),
                keys: segment.first_row..segment.first_row + end - segment.tokens.start,
            })
        });
        within.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::families::families, Budget, layouts};

    fn even(tokens: usize) -> Budget {
        Budget { families: tokens, most: tokens }
    }

    #[test]
    fn rounds_keep_the_budget_and_place_each_prefix_once_in_each() {
        let prompt: Vec<u32> = (0..10).collect();
        let sequences: Vec<Vec<u32>> =
            (0..5).map(|i| [&prompt[..], &[20 + i, 30 + i, 40 + i]].concat()).collect();
        let fed: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let lengths = |budget| -> Vec<usize> {
            let layouts = layouts(&fed, &families(&fed, true), even(budget));
            layouts.iter().map(|layout| layout.tokens.len()).collect()
        };
        assert_eq!(lengths(100), [25]);
        assert_eq!(lengths(20), [19, 16]);
        assert_eq!(lengths(1), [13; 5]);
        let one = &layouts(&fed, &families(&fed, true), even(100))[0];
        assert_eq!(one.members.iter().map(|m| m.shared).collect::<Vec<_>>(), [0, 10, 10, 10, 10]);
        for member in &one.members {
            let tokens: Vec<u32> = (0..13).map(|t| one.tokens[member.place(t)]).collect();
            let positions: Vec<u32> = (0..13).map(|t| one.positions[member.place(t)]).collect();
            assert_eq!(tokens, sequences[member.item]);
            assert_eq!(positions, (0..13).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn families_are_kept_whole_beyond_their_budget() {
        let sequences: Vec<Vec<u32>> =
            (0..6).map(|i| [&[i / 2; 8][..], &[20 + i, 30 + i]].concat()).collect();
        let fed: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let lengths = |families_, most| -> Vec<usize> {
            let budget = Budget { families: families_, most };
            let layouts = layouts(&fed, &families(&fed, true), budget);
            layouts.iter().map(|layout| layout.tokens.len()).collect()
        };
        assert_eq!(lengths(24, 24), [24, 12]);
        assert_eq!(lengths(12, 24), [12, 12, 12]);
        assert_eq!(lengths(5, 24), [12, 12, 12]);
        assert_eq!(lengths(5, 11), [10; 6]);
    }

    #[test]
    fn parts_of_a_round_see_all_before_them() {
        let sequences = [[1, 2, 3, 4, 5], [1, 2, 3, 6, 7]];
        let fed: Vec<&[u32]> = sequences.iter().map(|s| &s[..]).collect();
        let layout = &layouts(&fed, &families(&fed, true), even(10))[0];
        let spans = layout.spans(&(2..6));
        let shown: Vec<_> =
            spans.iter().map(|s| (s.queries.clone(), s.prefix.clone(), s.keys.clone())).collect();
        assert_eq!(shown, [(0..1, 0..0, 0..3), (1..3, 0..3, 3..5), (3..4, 0..3, 5..6)]);
    }
}
