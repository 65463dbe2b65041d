use std::collections::{HashMap, VecDeque};

use opd_kernels::Span;

use crate::Request;

/// A prompt whose keys and values are in the cache, shared by the slots that answer it.
#[derive(Debug)]
struct Resident {
    region: usize,
    users: usize,
}

/// Which sequences are running, and where in the cache.
///
/// The cache is cut into prompt regions and response regions. A slot is a response region
/// with a running sequence; when it ends, the slot takes the next waiting request.
#[derive(Debug)]
pub(crate) struct Schedule<'a> {
    requests: &'a [Request],
    waiting: VecDeque<usize>,
    residents: HashMap<&'a [u32], Resident>,
    free_prompt_regions: Vec<usize>,
    free_slots: Vec<usize>,
    prompt_rows: usize,
    response_rows: usize,
    n_prompt_regions: usize,
}

/// A request that was given a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) request: usize,
    pub(crate) slot: usize,
    /// Whether the prompt still has to be computed.
    pub(crate) prefill: bool,
}

impl<'a> Schedule<'a> {
    pub(crate) fn new(
        requests: &'a [Request],
        max_sequences: usize,
        max_new_tokens: usize,
    ) -> Self {
        let slots = max_sequences.min(requests.len());
        let distinct: std::collections::HashSet<&[u32]> =
            requests.iter().map(|request| request.prompt.as_slice()).collect();
        let regions = slots.min(distinct.len());
        Self {
            requests,
            waiting: in_prompt_order(requests),
            residents: HashMap::new(),
            free_prompt_regions: (0..regions).rev().collect(),
            free_slots: (0..slots).rev().collect(),
            prompt_rows: requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0),
            response_rows: max_new_tokens - 1,
            n_prompt_regions: regions,
        }
    }

    pub(crate) fn n_cache_rows(&self) -> usize {
        self.n_prompt_regions * self.prompt_rows + self.free_slots.len() * self.response_rows
    }

    /// Gives free slots to waiting requests.
    pub(crate) fn admit(&mut self) -> Vec<Admission> {
        let mut admitted = Vec::new();
        while let Some(&request) = self.waiting.front() {
            let prompt = self.requests[request].prompt.as_slice();
            let prefill = !self.residents.contains_key(prompt);
            if self.free_slots.is_empty() || (prefill && self.free_prompt_regions.is_empty()) {
                break;
            }
            self.waiting.pop_front();
            let Some(slot) = self.free_slots.pop() else { break };
            if prefill {
                let Some(region) = self.free_prompt_regions.pop() else { break };
                self.residents.insert(prompt, Resident { region, users: 0 });
            }
            if let Some(resident) = self.residents.get_mut(prompt) {
                resident.users += 1;
            }
            admitted.push(Admission { request, slot, prefill });
        }
        admitted
    }

    /// Takes a slot back.
    pub(crate) fn release(&mut self, request: usize, slot: usize) {
        self.free_slots.push(slot);
        let prompt = self.requests[request].prompt.as_slice();
        if let Some(resident) = self.residents.get_mut(prompt) {
            resident.users -= 1;
            if resident.users == 0 {
                self.free_prompt_regions.push(resident.region);
                self.residents.remove(prompt);
            }
        }
    }

    /// Whether a prompt's keys and values are in the cache.
    pub(crate) fn is_resident(&self, prompt: &[u32]) -> bool {
        self.residents.contains_key(prompt)
    }

    /// Cache rows of a resident prompt.
    pub(crate) fn prompt_range(&self, request: usize) -> std::ops::Range<usize> {
        let prompt = self.requests[request].prompt.as_slice();
        let region = self.residents.get(prompt).map_or(0, |resident| resident.region);
        let start = region * self.prompt_rows;
        start..start + prompt.len()
    }

    /// Cache row of response token `token` of a slot.
    pub(crate) fn response_row(&self, slot: usize, token: usize) -> usize {
        self.n_prompt_regions * self.prompt_rows + slot * self.response_rows + token
    }

    /// What query row `query`, the response token `token` of a slot, attends to.
    pub(crate) fn span(&self, query: usize, request: usize, slot: usize, token: usize) -> Span {
        let start = self.response_row(slot, 0);
        Span {
            queries: query..query + 1,
            prefix: self.prompt_range(request),
            keys: start..start + token + 1,
        }
    }
}

/// Requests in order, but those with equal prompts next to the first of them.
fn in_prompt_order(requests: &[Request]) -> VecDeque<usize> {
    let mut first: HashMap<&[u32], usize> = HashMap::new();
    let mut keyed: Vec<(usize, usize)> = Vec::with_capacity(requests.len());
    for (i, request) in requests.iter().enumerate() {
        keyed.push((*first.entry(&request.prompt).or_insert(i), i));
    }
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, i)| i).collect()
}
