use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::{
    Error, Result,
    cpu::{self, Element, dispatch, vector},
    gpu,
    logprob::{check_device, check_temperature, matrix},
};

/// Logits whose weights are summed before the sum is added to those of others; `PART` of
/// `cuda/draw_rows.cu`.
pub(crate) const BLOCK: usize = 256;

/// What [`draw`] chose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// `log softmax(logits / temperature)` of it, in nats.
    pub logprob: f64,
}

/// The token that a number of `0..1` falls on, if those below 1 are shared out among the ids in order,
/// to each as much as its probability: `softmax(logits / temperature)`.
///
/// `uniform` is in `0..1`, `temperature` above 0. `None` if a logit is NaN or infinity, or all are
/// `-inf`. Weights are in f32, within 2 units in the last place, and sums in f64.
pub fn draw(logits: &[f32], temperature: f64, uniform: f64) -> Option<Drawn> {
    let mut sums = vec![0.0; logits.len().div_ceil(BLOCK)];
    let max = dispatch(
        #[inline(always)]
        || greatest(logits),
    )?;
    // A difference of 0 stays 0, and one of -inf stays that, whatever the temperature.
    let scale = ((1.0 / temperature) as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    dispatch(
        #[inline(always)]
        || {
            for (sum, block) in sums.iter_mut().zip(logits.chunks(BLOCK)) {
                *sum = f64::from(vector::sum_by(block.len(), |i| weight(block[i], max, scale)));
            }
        },
    );
    let total: f64 = sums.iter().sum();
    let target = uniform * total;
    let mut before = 0.0;
    // The last block with any weight: where rounding has left the sums short of the target.
    let mut chosen = (0, 0.0);
    for (block, sum) in sums.iter().enumerate() {
        if *sum > 0.0 {
            chosen = (block, before);
        }
        before += sum;
        if before > target {
            break;
        }
    }
    let (block, mut sum) = chosen;
    let first = block * BLOCK;
    let mut id = first;
    for (i, &logit) in logits[first..].iter().take(BLOCK).enumerate() {
        let weight = f64::from(weight(logit, max, scale));
        if weight > 0.0 {
            id = first + i;
        }
        sum += weight;
        if sum > target {
            break;
        }
    }
    let above = (f64::from(logits[id]) - f64::from(max)) / temperature;
    Some(Drawn { id: id as u32, logprob: (above - total.ln()).min(0.0) })
}

/// The likeliest token, ties by the lowest id; `None` if a logit is NaN or infinity, or all are `-inf`.
pub fn likeliest(logits: &[f32]) -> Option<u32> {
    let max = dispatch(
        #[inline(always)]
        || greatest(logits),
    )?;
    logits.iter().position(|&logit| logit == max).map(|id| id as u32)
}

/// [`draw`] for each row of `logits` `[T, V]`, by its number of `uniforms`: the ids alone.
///
/// On a GPU a kernel draws and the ids come to the CPU, not the logits; weights are within a few units
/// in the last place, so a number next to a border between two ids may fall on the other one.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], and [`Error::Setting`] for a temperature that is
/// not above 0.
pub fn draw_rows(logits: &Tensor, temperature: f64, uniforms: &[f64]) -> Result<Vec<Option<u32>>> {
    const OP: &str = "draw_rows";
    check_temperature(OP, temperature)?;
    let (rows, _) = matrix(OP, "logits", logits)?;
    if uniforms.len() != rows {
        let (expected, got) = (format!("[{rows}]"), vec![uniforms.len()]);
        return Err(Error::Shape { op: OP, what: "uniforms", expected, got });
    }
    of_rows(OP, logits, Some((temperature, uniforms)), |row, logits| {
        draw(logits, temperature, uniforms[row]).map(|drawn| drawn.id)
    })
}

/// [`likeliest`] of each row of `logits` `[T, V]`. On a GPU only the ids come to the CPU.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`].
pub fn likeliest_rows(logits: &Tensor) -> Result<Vec<Option<u32>>> {
    of_rows("likeliest_rows", logits, None, |_, logits| likeliest(logits))
}

/// What `choose` says of each row in f32 on the CPU, or what a GPU's kernel does.
fn of_rows(
    op: &'static str,
    logits: &Tensor,
    drawn: Option<(f64, &[f64])>,
    choose: impl Fn(usize, &[f32]) -> Option<u32> + Sync,
) -> Result<Vec<Option<u32>>> {
    check_device(op, logits)?;
    let (rows, vocab) = matrix(op, "logits", logits)?;
    if rows * vocab == 0 {
        return Ok(vec![None; rows]);
    }
    let logits = logits.contiguous()?;
    if let Some(gpu) = gpu::of(&logits) {
        return gpu::draw_rows::forward(&gpu, op, &logits, drawn);
    }
    let logits = logits.to_dtype(DType::F32)?;
    let values = cpu::view::<f32>(op, &logits)?;
    let rows = values.par_chunks_exact(vocab).enumerate();
    Ok(rows.map(|(row, logits)| choose(row, logits)).collect())
}

#[inline(always)]
fn weight(logit: f32, max: f32, scale: f32) -> f32 {
    Element::exp((logit - max) * scale)
}

/// The greatest logit, unless one is NaN or infinity, or all are `-inf`.
#[inline(always)]
fn greatest(logits: &[f32]) -> Option<f32> {
    let (mut max, mut sound) = (f32::NEG_INFINITY, true);
    for block in logits.chunks(BLOCK) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = block.as_chunks::<16>();
        for values in whole {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        let of_lanes = lanes.iter().chain(rest);
        max = of_lanes.fold(max, |max, &value| if value > max { value } else { max });
        sound &= block.iter().fold(true, |sound, &value| sound & (value < f32::INFINITY));
    }
    (sound && max.is_finite()).then_some(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use candle_core::{Device, Tensor};

    use super::{draw, draw_rows, likeliest, likeliest_rows};
    use crate::Error;

    /// In f64, in the order of the ids.
    fn plainly(logits: &[f32], temperature: f64, uniform: f64) -> (usize, f64) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |x: &f32| ((f64::from(*x) - f64::from(max)) / temperature).exp();
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let id = weights.iter().position(|weight| {
            sum += weight;
            sum > uniform * total
        });
        let id = id.unwrap_or(logits.len() - 1);
        (id, (weights[id] / total).ln())
    }

    proptest! {
        #[test]
        fn it_is_the_plain_walk(
            logits in proptest::collection::vec(-12.0f32..12.0, 1..1500),
            temperature in 0.3f64..3.0,
            uniform in 0.0f64..1.0,
        ) {
            let got = draw(&logits, temperature, uniform).unwrap();
            let (id, logprob) = plainly(&logits, temperature, uniform);
            // Where the number falls next to a border, rounding decides the side.
            let near = |by: f64| plainly(&logits, temperature, (uniform + by).clamp(0.0, 1.0)).0;
            let id_of = got.id as usize;
            prop_assert!(id_of == id || id_of == near(1e-6) || id_of == near(-1e-6));
            if id_of == id {
                prop_assert!((got.logprob - logprob).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn ids_without_weight_are_never_drawn() {
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[300] = -5.0;
        logits[700] = -5.0;
        let id = |uniform| draw(&logits, 1.0, uniform).unwrap().id;
        assert_eq!([0.0, 0.4999, 0.5001, 1.0 - f64::EPSILON].map(id), [300, 300, 700, 700]);
        for temperature in [1e-300, 1e-3, 1e300] {
            let certain = draw(&[f32::NEG_INFINITY, 0.0, -2000.0], temperature, 0.4).unwrap();
            assert_eq!(certain.id, 1, "{temperature}");
        }
        assert_eq!(draw(&[-2000.0, 0.0], 1e-3, 0.999).unwrap().logprob, 0.0);
    }

    #[test]
    fn logits_that_are_no_distribution_draw_nothing() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for n in [1, 17, 600] {
            for bad in [nan, inf] {
                let mut logits = vec![0.0; n];
                logits[n / 2] = bad;
                assert_eq!(draw(&logits, 1.0, 0.5), None);
            }
            assert_eq!(draw(&vec![-inf; n], 1.0, 0.5), None);
        }
        assert_eq!(draw(&[], 1.0, 0.5), None);
    }

    #[test]
    fn rows_are_chosen_one_by_one() {
        let rows = [vec![0.0f32, 3.0, 3.0], vec![f32::NAN, 0.0, 0.0], vec![-1.0, -2.0, -0.5]];
        let logits = Tensor::new(rows.to_vec(), &Device::Cpu).unwrap();
        assert_eq!(likeliest_rows(&logits).unwrap(), [Some(1), None, Some(2)]);
        let uniforms = [0.9, 0.9, 0.1];
        let want: Vec<Option<u32>> = rows
            .iter()
            .zip(uniforms)
            .map(|(row, uniform)| draw(row, 0.7, uniform).map(|drawn| drawn.id))
            .collect();
        assert_eq!(draw_rows(&logits, 0.7, &uniforms).unwrap(), want);
        assert!(matches!(draw_rows(&logits, 0.0, &uniforms), Err(Error::Setting { .. })));
        assert!(matches!(draw_rows(&logits, 1.0, &[0.5]), Err(Error::Shape { .. })));
        let none = logits.narrow(0, 0, 0).unwrap();
        assert!(draw_rows(&none, 1.0, &[]).unwrap().is_empty());
        assert_eq!(likeliest(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(likeliest(&[f32::INFINITY, 0.0]), None);
    }
}
