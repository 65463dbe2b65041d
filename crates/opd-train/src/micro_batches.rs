use opd_batch::RolloutBatch;

/// Cuts rows into runs whose forward computes at most `budget` tokens; a row alone may have
/// more.
///
/// A prompt counts once per run, however many of the run's rows share it.
pub fn micro_batches(batch: &RolloutBatch, rows: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut used = 0;
    let mut last_prompt: Option<&[u32]> = None;
    for &row in rows {
        let (Some(prompt), Some(response)) = (batch.prompts().row(row), batch.responses().row(row))
        else {
            continue;
        };
        let shared = last_prompt == Some(prompt);
        let more = response.len() - 1 + if shared { 0 } else { prompt.len() };
        match runs.last_mut() {
            Some(run) if used + more <= budget => {
                run.push(row);
                used += more;
            }
            _ => {
                runs.push(vec![row]);
                used = response.len() - 1 + prompt.len();
            }
        }
        last_prompt = Some(prompt);
    }
    runs
}

#[cfg(test)]
mod tests {
    use opd_batch::{Rollout, RolloutBatch};

    use super::micro_batches;

    fn batch(sizes: &[(u32, usize, usize)]) -> RolloutBatch {
        let rollouts = sizes.iter().map(|&(id, prompt, response)| Rollout {
            prompt: vec![id; prompt],
            response: vec![0; response],
            sampler_logprobs: vec![-1.0; response],
            ..Rollout::default()
        });
        RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
    }

    #[test]
    fn shared_prompts_count_once_and_no_row_is_lost() {
        let batch = batch(&[(1, 4, 3), (1, 4, 3), (1, 4, 3), (2, 4, 3), (3, 50, 2)]);
        let rows = [0, 1, 2, 3, 4];
        assert_eq!(micro_batches(&batch, &rows, 10), [vec![0, 1, 2], vec![3], vec![4]]);
        assert_eq!(micro_batches(&batch, &rows, 1), [[0], [1], [2], [3], [4]]);
        assert_eq!(micro_batches(&batch, &rows, 1000), [rows.to_vec()]);
    }
}
