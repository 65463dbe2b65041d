use candle_core::Tensor;

use crate::{
    EncodedMatrix, Error, Result, WeightRef,
    cpu::{self, Stored, by_stored, with_rooms},
    gpu, shape,
};

const OP: &str = "embedding";

/// Rows of `weight` `[V, H]` named by `ids` `[T]` (u32): `[T, H]`.
///
/// # Errors
///
/// [`Error::TokenId`] naming the first id outside the vocabulary, [`Error::Shape`] or
/// [`Error::DType`].
pub fn embedding<'a>(weight: impl Into<WeightRef<'a>>, ids: &Tensor) -> Result<Tensor> {
    let weight = match weight.into() {
        WeightRef::Tensor(weight) => weight,
        WeightRef::Encoded(weight) => return decoded(weight, ids),
    };
    let (vocab, width) = matrix("weight", weight)?;
    shape::indices(OP, "ids", ids)?;
    let (weight, ids) = (weight.contiguous()?, ids.contiguous()?);
    if let Some(gpu) = gpu::of(&weight) {
        return gpu::rows::gather(&gpu, OP, &weight, &ids);
    }
    by_stored!(OP, weight, S => {
        let (table, ids) = (cpu::view::<S>(OP, &weight)?, cpu::view::<u32>(OP, &ids)?);
        cpu::check_ids(OP, &ids, vocab)?;
        let (table, ids): (&[S], &[u32]) = (&table, &ids);
        let mut out = vec![S::default(); ids.len() * width];
        cpu::for_rows(&mut out, width, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                row.copy_from_slice(&table[ids[first + i] as usize * width..][..width]);
            }
        });
        cpu::tensor(out, (ids.len(), width))
    })
}

/// The same rows of a matrix as its file has it, in f32.
fn decoded(weight: &EncodedMatrix, ids: &Tensor) -> Result<Tensor> {
    shape::indices(OP, "ids", ids)?;
    let &[vocab, width] = weight.dims();
    let ids = ids.contiguous()?;
    let ids = cpu::view::<u32>(OP, &ids)?;
    cpu::check_ids(OP, &ids, vocab)?;
    let ids: &[u32] = &ids;
    let mut out = vec![0.0; ids.len() * width];
    cpu::for_rows(&mut out, width, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let id = ids[first + i] as usize;
            weight.decode(id..id + 1, 0..width, row);
        }
    });
    cpu::tensor(out, (ids.len(), width))
}

/// Adds row `t` of `rows` `[T, H]` to row `ids[t]` of `sums` `[V, H]`, in place, in the order
/// of `t`: the gradient of [`embedding`]. Sums of bf16 and f16 are rounded once, at the end.
///
/// # Errors
///
/// As [`embedding`].
pub fn scatter_add_rows(sums: &Tensor, ids: &Tensor, rows: &Tensor) -> Result<()> {
    let (vocab, width) = matrix("sums", sums)?;
    shape::indices(OP, "ids", ids)?;
    shape::expect(OP, "rows", rows, &[ids.elem_count(), width], "[T, H]")?;
    shape::same_dtype(OP, "sums", sums, rows.dtype())?;
    let (ids, rows) = (ids.contiguous()?, rows.contiguous()?);
    shape::distinct(OP, ("sums", sums), &[("rows", &rows)])?;
    if let Some(gpu) = gpu::of(sums) {
        return gpu::rows::scatter_add(&gpu, OP, sums, &ids, &rows);
    }
    by_stored!(OP, rows, S => {
        let (ids, rows) = (cpu::view::<u32>(OP, &ids)?, cpu::view::<S>(OP, &rows)?);
        cpu::check_ids(OP, &ids, vocab)?;
        cpu::update::<S>(OP, sums, |sums| {
            add_rows(sums, &ids, &rows, width);
            Ok(())
        })
    })
}

/// Rows of one id are added one after the other, so that a sum is rounded to its dtype once.
fn add_rows<S: Stored>(sums: &mut [S], ids: &[u32], rows: &[S], width: usize) {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&place| ids[place]);
    with_rooms::<S, 2, _>(width, |[sum_room, row_room]| {
        for places in order.chunk_by(|&a, &b| ids[a] == ids[b]) {
            let sums = &mut sums[ids[places[0]] as usize * width..][..width];
            S::update(sums, sum_room, |sums| {
                for place in places {
                    let row = S::read(&rows[place * width..][..width], row_room);
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += *value;
                    }
                }
            });
        }
    });
}

fn matrix(what: &'static str, tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[vocab, width] if width > 0 => Ok((vocab, width)),
        got => Err(Error::Shape {
            op: OP,
            what,
            expected: "[V, H] with H above 0".into(),
            got: got.to_vec(),
        }),
    }
}
