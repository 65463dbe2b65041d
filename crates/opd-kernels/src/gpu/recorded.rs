use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use crate::Result;

/// Gradients of two arguments; `None` for one that is not part of the graph.
type Gradients2 = (Option<Tensor>, Option<Tensor>);

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

/// `$type`, once for each `$argument`.
macro_rules! each {
    ($argument:ident, $type:ty) => {
        $type
    };
}

/// An op whose value was computed before.
macro_rules! recorded {
    (
        $(#[$doc:meta])*
        $name:ident is $op:ident of $($argument:ident)+: $gradients:ty => $all:ty
    ) => {
        $(#[$doc])*
        pub(crate) struct $name<F> {
            pub(crate) name: &'static str,
            pub(crate) value: Tensor,
            pub(crate) backward: F,
        }

        impl<F> $op for $name<F>
        where
            F: Fn($(each!($argument, &Tensor),)+ &Tensor, &Tensor) -> Result<$gradients>,
        {
            fn name(&self) -> &'static str {
                self.name
            }

            fn cpu_fwd(
                &self,
                $(_: each!($argument, &CpuStorage), _: each!($argument, &Layout)),+
            ) -> candle_core::Result<(CpuStorage, Shape)> {
                cpu_copy(&self.value)
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(
                &self,
                $(
                    _: each!($argument, &candle_core::CudaStorage),
                    _: each!($argument, &Layout)
                ),+
            ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
                cuda_copy(&self.value)
            }

            fn bwd(
                &self,
                $($argument: &Tensor,)+
                value: &Tensor,
                gradient: &Tensor,
            ) -> candle_core::Result<$all> {
                Ok((self.backward)($($argument,)+ value, gradient)?.into())
            }
        }
    };
}

recorded! {
    /// Puts a value that was computed outside the graph into it, with a backward of its own, which gets
    /// the argument, the value and its gradient.
    Recorded1 is CustomOp1 of argument: Tensor => Option<Tensor>
}

recorded! {
    /// As [`Recorded1`], of two arguments.
    Recorded2 is CustomOp2 of first second: Gradients2 => Gradients2
}

recorded! {
    /// As [`Recorded1`], of three arguments.
    Recorded3 is CustomOp3 of first second third: Gradients3 => Gradients3
}
