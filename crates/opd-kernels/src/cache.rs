use candle_core::Tensor;

use crate::{
    Error, Result,
    cpu::{self, by_stored},
    gpu, shape,
};

const OP: &str = "write_rows";

/// Copies row `i` of `source` `[n, ..]` over row `rows[i]` of `cache` `[R, ..]`, in place.
///
/// Rows of `source` may be strided, as the keys and values of a fused projection are.
///
/// # Errors
///
/// [`Error::Shape`] if the rows differ in shape, [`Error::Index`] for a row outside the cache,
/// [`Error::DType`], or [`Error::Shared`].
pub fn write_rows(cache: &Tensor, rows: &[usize], source: &Tensor) -> Result<()> {
    let (n_rows, width) = match cache.dims() {
        [n_rows, rest @ ..] => (*n_rows, rest.iter().product::<usize>()),
        [] => (0, 0),
    };
    let mut dims = cache.dims().to_vec();
    if let Some(first) = dims.first_mut() {
        *first = rows.len();
    }
    shape::expect(OP, "source", source, &dims, "[rows.len(), ..] with the cache's row shape")?;
    shape::same_dtype(OP, "source", source, cache.dtype())?;
    shape::distinct(OP, ("cache", cache), &[("source", source)])?;
    if let Some(index) = rows.iter().position(|&row| row >= n_rows) {
        let (what, got) = ("cache row", rows[index]);
        return Err(Error::Index { op: OP, what, index, got, len: n_rows });
    }
    let inner_contiguous = source.stride().get(1..).is_some_and(|strides| {
        let mut expected = 1;
        strides.iter().zip(&dims[1..]).rev().all(|(stride, dim)| {
            let fits = *stride == expected;
            expected *= dim;
            fits
        })
    });
    let source = if inner_contiguous { source.clone() } else { source.contiguous()? };
    if let Some(gpu) = gpu::of(cache) {
        return gpu::rows::write(&gpu, OP, cache, rows, &source, width);
    }
    by_stored!(OP, source, T => {
        let values = cpu::strided_view::<T>(OP, &source)?;
        let stride = source.stride().first().copied().unwrap_or(0);
        cpu::update::<T>(OP, cache, |cache| {
            for (i, row) in rows.iter().enumerate() {
                cache[row * width..][..width].copy_from_slice(&values[i * stride..][..width]);
            }
            Ok(())
        })
    })
}
