use std::{
    marker::PhantomData,
    ops::{Deref, Range},
};

use candle_core::{
    CpuStorage, Device, Shape, Storage, StorageRef, Tensor, WithDType, op::BackpropOp,
};

use crate::{Error, Result};

/// The values of a CPU tensor, borrowed for as long as its storage is not written to.
pub(crate) struct View<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    dtype: PhantomData<T>,
}

impl<T: WithDType> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Storage::Cpu(storage) = &*self.storage else { return &[] };
        T::cpu_storage_as_slice(storage).map_or(&[], |values| &values[self.range.clone()])
    }
}

/// The values of a contiguous CPU tensor of dtype `T`, in row-major order.
pub(crate) fn view<'a, T: WithDType>(op: &'static str, tensor: &'a Tensor) -> Result<View<'a, T>> {
    let Some((start, end)) = tensor.layout().contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op }.into());
    };
    borrow(op, tensor, Some(start..end))
}

/// The values from a strided CPU tensor's first to the end of its storage.
pub(crate) fn strided_view<'a, T: WithDType>(
    op: &'static str,
    tensor: &'a Tensor,
) -> Result<View<'a, T>> {
    borrow(op, tensor, None)
}

fn borrow<'a, T: WithDType>(
    op: &'static str,
    tensor: &'a Tensor,
    range: Option<Range<usize>>,
) -> Result<View<'a, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        return Err(Error::Device { op, device: format!("{:?}", tensor.device()) });
    };
    let len = T::cpu_storage_as_slice(cpu)?.len();
    let range = range.unwrap_or(layout.start_offset()..len);
    // A view without values may start beyond the end of its storage.
    let range = if layout.shape().elem_count() == 0 { 0..0 } else { range };
    Ok(View { storage, range, dtype: PhantomData })
}

/// Passes if every token id is inside the vocabulary.
pub(crate) fn check_ids(op: &'static str, ids: &[u32], vocab: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab) {
        None => Ok(()),
        Some(position) => Err(Error::TokenId { op, position, id: ids[position], vocab }),
    }
}

/// A CPU tensor that takes over `values`.
pub(crate) fn tensor<T: WithDType>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// A CPU tensor that takes over a storage.
pub(crate) fn of_storage(storage: CpuStorage, shape: Shape) -> Tensor {
    Tensor::from_storage(Storage::Cpu(storage), shape, BackpropOp::none(), false)
}
