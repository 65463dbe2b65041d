use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use crate::Result;

/// Puts a value that was computed outside the graph into it, with a backward of its own, which gets
/// the argument, the value and its gradient.
pub(crate) struct Recorded1<F> {
    pub(crate) name: &'static str,
    pub(crate) value: Tensor,
    pub(crate) backward: F,
}

/// As [`Recorded1`], of two arguments.
pub(crate) struct Recorded2<F> {
    pub(crate) name: &'static str,
    pub(crate) value: Tensor,
    pub(crate) backward: F,
}

/// As [`Recorded1`], of three arguments.
pub(crate) struct Recorded3<F> {
    pub(crate) name: &'static str,
    pub(crate) value: Tensor,
    pub(crate) backward: F,
}

/// Gradients of two arguments; `None` for one that is not part of the graph.
pub(crate) type Gradients2 = (Option<Tensor>, Option<Tensor>);

/// As [`Gradients2`], of three.
type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// A copy of the value as an op's result: the statistics of rows, small beside what they are of.
fn cpu_copy(value: &Tensor) -> candle_core::Result<(CpuStorage, Shape)> {
    let value = value.contiguous()?;
    let (storage, layout) = value.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => {
            use candle_core::backend::BackendStorage;
            Ok((storage.try_clone(layout)?, value.shape().clone()))
        }
        _ => Err(candle_core::Error::Msg("a value and its argument are on two devices".into())),
    }
}

#[cfg(feature = "cuda")]
fn cuda_copy(value: &Tensor) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
    let value = value.contiguous()?;
    let (storage, layout) = value.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cuda(storage) => {
            use candle_core::backend::BackendStorage;
            Ok((storage.try_clone(layout)?, value.shape().clone()))
        }
        _ => Err(candle_core::Error::Msg("a value and its argument are on two devices".into())),
    }
}

impl<F> CustomOp1 for Recorded1<F>
where
    F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        cpu_copy(&self.value)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda_copy(&self.value)
    }

    fn bwd(
        &self,
        argument: &Tensor,
        value: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        Ok(Some((self.backward)(argument, value, gradient)?))
    }
}

impl<F> CustomOp2 for Recorded2<F>
where
    F: Fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<Gradients2>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        cpu_copy(&self.value)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda_copy(&self.value)
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        value: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Gradients2> {
        Ok((self.backward)(first, second, value, gradient)?)
    }
}

impl<F> CustomOp3 for Recorded3<F>
where
    F: Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<Gradients3>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        cpu_copy(&self.value)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda_copy(&self.value)
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        third: &Tensor,
        value: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Gradients3> {
        Ok((self.backward)([first, second, third], value, gradient)?)
    }
}
