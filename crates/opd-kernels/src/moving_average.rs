use candle_core::Tensor;

use crate::{
    Error, Result,
    cpu::{self, CHUNK_VALUES, Element, Stored, by_stored, dispatch, with_rooms},
    gpu, shape,
};

const OP: &str = "moving_average";

/// One step of an exponential moving average, in place.
///
/// ```text
/// average = decay * average + (1 - decay) * values
/// ```
///
/// Both are of one shape and dtype; bf16 and f16 are rounded once a step, which small steps do not
/// survive: keep the average in f32. With `decay` 1 nothing changes, with 0 `average` becomes
/// `values`.
///
/// # Errors
///
/// [`Error::Setting`] for a `decay` outside 0..=1; [`Error::Shape`], [`Error::DType`] or
/// [`Error::Shared`].
pub fn moving_average(average: &Tensor, values: &Tensor, decay: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&decay) {
        let (what, expected) = ("decay", "from 0 to 1");
        return Err(Error::Setting { op: OP, what, expected, got: decay });
    }
    shape::expect(OP, "values", values, average.dims(), "the shape of the average")?;
    shape::same_dtype(OP, "values", values, average.dtype())?;
    let values = values.contiguous()?;
    shape::distinct(OP, ("average", average), &[("values", &values)])?;
    if let Some(gpu) = gpu::of(average) {
        return gpu::values::moving_average(&gpu, average, &values, decay);
    }
    by_stored!(OP, values, T => {
        let source = cpu::view::<T>(OP, &values)?;
        cpu::update::<T>(OP, average, |average| {
            run(average, &source, decay);
            Ok(())
        })
    })
}

fn run<S: Stored>(average: &mut [S], values: &[S], decay: f64) {
    use rayon::prelude::*;
    let chunks = average.par_chunks_mut(CHUNK_VALUES).zip(values.par_chunks(CHUNK_VALUES));
    chunks.for_each(|(average, values)| {
        with_rooms::<S, 2, _>(CHUNK_VALUES, |[average_room, room]| {
            dispatch(
                #[inline(always)]
                || {
                    let values = S::read(values, room);
                    S::update(
                        average,
                        average_room,
                        #[inline(always)]
                        |average| chunk(average, values, decay),
                    );
                },
            );
        });
    });
}

#[inline(always)]
fn chunk<T: Element>(average: &mut [T], values: &[T], decay: f64) {
    let (keep, take) = (T::of(decay), T::of(1.0 - decay));
    let n = average.len();
    let values = &values[..n];
    for i in 0..n {
        average[i] = keep * average[i] + take * values[i];
    }
}
