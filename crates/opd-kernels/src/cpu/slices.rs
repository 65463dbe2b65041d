use std::{
    marker::PhantomData,
    ops::{Deref, Range},
};

use candle_core::{Device, Shape, Storage, Tensor, WithDType};

use crate::{Error, Result};

struct View<G, T> {
    storage: G,
    range: Range<usize>,
    dtype: PhantomData<T>,
}

impl<G: Deref<Target = Storage>, T: WithDType> Deref for View<G, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Storage::Cpu(storage) = &*self.storage else { return &[] };
        T::cpu_storage_as_slice(storage).map_or(&[], |values| &values[self.range.clone()])
    }
}

/// The values of a contiguous CPU tensor of dtype `T`, in row-major order.
pub(crate) fn view<'a, T: WithDType>(
    op: &'static str,
    tensor: &'a Tensor,
) -> Result<impl Deref<Target = [T]> + 'a> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        return Err(Error::Device { op, device: format!("{:?}", tensor.device()) });
    };
    T::cpu_storage_as_slice(cpu)?;
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op }.into());
    };
    Ok(View { storage, range: start..end, dtype: PhantomData })
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
