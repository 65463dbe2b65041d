use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use super::Stored;
use crate::{Error, Result};

struct Update<T, F>
where
    F: FnOnce(&mut [T]) -> Result<()>,
{
    op: &'static str,
    body: RefCell<Option<F>>,
    dtype: std::marker::PhantomData<fn(T)>,
}

impl<T: Stored, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Update<T, F> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let got = storage_dtype(storage);
        let values = T::slice_mut(storage).ok_or(Error::DType {
            op: self.op,
            what: "tensor changed in place",
            got,
            remedy: "give all tensors one dtype",
        })?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(candle_core::Error::RequiresContiguous { op: self.op });
        };
        match self.body.borrow_mut().take() {
            Some(body) => Ok(body(&mut values[start..end])?),
            None => Ok(()),
        }
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Calls `body` with the values of a contiguous CPU tensor, to be changed in place.
///
/// The tensor must not be part of a graph whose backward reads it.
pub(crate) fn update<T: Stored>(
    op: &'static str,
    tensor: &Tensor,
    body: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    let update = Update { op, body: RefCell::new(Some(body)), dtype: std::marker::PhantomData };
    Ok(tensor.inplace_op1(&update)?)
}
