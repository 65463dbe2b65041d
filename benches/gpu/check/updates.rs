use candle_core::{DType, Tensor};
use opd_kernels::{
    AdamWStep, adamw_step, add_assign, advantages_and_returns, discounted_sums, moving_average,
    sum_of_squares,
};

use super::Work;

pub(super) const KERNELS: [(&str, Work); 4] = [
    ("adamw_step", |at| {
        let n = 300_001;
        let [p, g, m] =
            [at.tensor(&[n], 1, 1.0)?, at.tensor(&[n], 2, 1.0)?, at.tensor(&[n], 3, 1.0)?];
        // Far from what an f16 takes for zero.
        let (p, m, v) = (p.copy()?, m.copy()?, (g.sqr()? + 0.01)?);
        let step = AdamWStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            step: 4,
        };
        adamw_step(&p, &g, &m, &v, &step)?;
        Ok(vec![p, m, v])
    }),
    ("sum_of_squares", |at| {
        let g = at.tensor(&[3_000_001], 2, 1.0)?;
        Ok(vec![Tensor::new(sum_of_squares(&g)? as f32, at.device)?])
    }),
    ("add_assign, moving_average", |at| {
        let (a, b) = (at.tensor(&[1_000_003], 1, 1.0)?, at.tensor(&[1_000_003], 2, 1.0)?);
        let (sum, average) = (a.copy()?, a.copy()?);
        add_assign(&sum, &b)?;
        moving_average(&average, &b, 0.99)?;
        Ok(vec![sum, average])
    }),
    ("discounted_sums, advantages_and_returns", |at| {
        // Scans are in f32 whatever the model's dtype.
        let of = |seed| at.tensor(&[70_000], seed, 1.0)?.to_dtype(DType::F32);
        let (rewards, values) = (of(1)?, of(2)?);
        let starts: Vec<usize> = (0..=70).map(|i| i * 1000).collect();
        let (advantages, returns) = advantages_and_returns(&rewards, &values, &starts, 0.99, 0.95)?;
        Ok(vec![discounted_sums(&rewards, &starts, 0.98)?, advantages, returns])
    }),
];
