use candle_core::{DType, Tensor};

use super::{Arg, Gpu, Grid, Module, empty, launch, launch::module, suffix};
use crate::{AdamWStep, Result};

static MODULE: Module = module!("values");

/// Values whose squares one block sums.
const SQUARES_PER_BLOCK: usize = 16 * 1024;

fn run(gpu: &Gpu, op: &'static str, name: &str, n: usize, args: &[Arg<'_>]) -> Result<()> {
    launch(gpu, op, &MODULE, name, Grid::values(n), args)
}

/// `silu(gate) * up` of a contiguous `[T, 2F]`.
pub(crate) fn swiglu(gpu: &Gpu, gate_up: &Tensor) -> Result<Tensor> {
    const OP: &str = "swiglu";
    let (rows, both) = gate_up.dims2()?;
    let width = both / 2;
    let out = empty((rows, width), gate_up.dtype(), gate_up.device())?;
    let name = format!("swiglu_{}", suffix(OP, "gate_up", gate_up.dtype())?);
    let args = [Arg::Read(gate_up), Arg::Write(&out), Arg::Int(rows * width), Arg::Int(width)];
    run(gpu, OP, &name, rows * width, &args)?;
    Ok(out)
}

/// Gradient of [`swiglu`]; both contiguous.
pub(crate) fn swiglu_backward(gpu: &Gpu, gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    const OP: &str = "swiglu";
    let (rows, width) = dy.dims2()?;
    let out = empty(gate_up.shape(), gate_up.dtype(), gate_up.device())?;
    let name = format!("swiglu_backward_{}", suffix(OP, "gate_up", gate_up.dtype())?);
    let args = [
        Arg::Read(gate_up),
        Arg::Read(dy),
        Arg::Write(&out),
        Arg::Int(rows * width),
        Arg::Int(width),
    ];
    run(gpu, OP, &name, rows * width, &args)?;
    Ok(out)
}

/// One step over contiguous tensors of one dtype; the gradient is contiguous.
pub(crate) fn adamw(
    gpu: &Gpu,
    [parameter, first_moment, second_moment]: [&Tensor; 3],
    gradient: &Tensor,
    settings: &AdamWStep,
) -> Result<()> {
    const OP: &str = "adamw";
    let power = i32::try_from(settings.step).unwrap_or(i32::MAX);
    let scalars = [
        settings.beta1,
        1.0 - settings.beta1,
        settings.beta2,
        1.0 - settings.beta2,
        1.0 - settings.lr * settings.weight_decay,
        settings.lr / (1.0 - settings.beta1.powi(power)),
        1.0 / (1.0 - settings.beta2.powi(power)).sqrt(),
        settings.eps,
        settings.gradient_scale,
    ];
    let n = gradient.elem_count();
    let name = format!("adamw_{}", suffix(OP, "parameter", parameter.dtype())?);
    let mut args = vec![
        Arg::Write(parameter),
        Arg::Read(gradient),
        Arg::Write(first_moment),
        Arg::Write(second_moment),
        Arg::Int(n),
    ];
    args.extend(scalars.map(Arg::Float));
    run(gpu, OP, &name, n, &args)
}

/// `sums += values`.
pub(crate) fn add_assign(gpu: &Gpu, sums: &Tensor, values: &Tensor) -> Result<()> {
    const OP: &str = "add_assign";
    let n = values.elem_count();
    let name = format!("add_assign_{}", suffix(OP, "values", values.dtype())?);
    run(gpu, OP, &name, n, &[Arg::Write(sums), Arg::Read(values), Arg::Int(n)])
}

/// `average = decay average + (1 - decay) values`.
pub(crate) fn moving_average(
    gpu: &Gpu,
    average: &Tensor,
    values: &Tensor,
    decay: f64,
) -> Result<()> {
    const OP: &str = "moving_average";
    let n = values.elem_count();
    let name = format!("moving_average_{}", suffix(OP, "values", values.dtype())?);
    let args = [
        Arg::Write(average),
        Arg::Read(values),
        Arg::Int(n),
        Arg::Float(decay),
        Arg::Float(1.0 - decay),
    ];
    run(gpu, OP, &name, n, &args)
}

/// Sum of the squares of a contiguous tensor's values.
pub(crate) fn sum_of_squares(gpu: &Gpu, tensor: &Tensor) -> Result<f64> {
    const OP: &str = "sum_of_squares";
    let n = tensor.elem_count();
    let blocks = n.div_ceil(SQUARES_PER_BLOCK);
    let parts = empty(blocks, DType::F64, tensor.device())?;
    let name = format!("sum_of_squares_{}", suffix(OP, "tensor", tensor.dtype())?);
    let args = [Arg::Read(tensor), Arg::Write(&parts), Arg::Int(n), Arg::Int(SQUARES_PER_BLOCK)];
    let grid = Grid { blocks: (blocks, 1), threads: 256, shared: 0 };
    launch(gpu, OP, &MODULE, &name, grid, &args)?;
    Ok(parts.to_vec1::<f64>()?.into_iter().sum())
}
