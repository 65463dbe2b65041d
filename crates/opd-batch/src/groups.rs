use std::collections::HashMap;

/// Which rows of a batch answer the same prompt.
///
/// Members of a group need not be neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    members: Vec<Vec<usize>>,
    group_of: Vec<usize>,
}

impl Groups {
    /// Groups rows by id; groups are in the order of their first row.
    pub fn from_ids(ids: &[u32]) -> Self {
        let mut index_of = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let group_of = ids.iter().enumerate().map(|(row, id)| {
            let index = *index_of.entry(*id).or_insert(members.len());
            if index == members.len() {
                members.push(Vec::new());
            }
            members[index].push(row);
            index
        });
        let group_of = group_of.collect();
        Self { members, group_of }
    }

    /// Rows of each group.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[usize]> {
        self.members.iter().map(Vec::as_slice)
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Index of each row's group.
    pub fn group_of(&self) -> &[usize] {
        &self.group_of
    }

    /// Rows in the smallest group; 0 without groups.
    pub fn smallest(&self) -> usize {
        self.iter().map(<[_]>::len).min().unwrap_or(0)
    }
}
