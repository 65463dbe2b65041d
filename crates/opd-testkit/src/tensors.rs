use candle_core::{DType, Device, Shape, Tensor};

/// A CPU tensor of these values, row by row.
pub fn tensor(values: &[f64], dims: impl Into<Shape>, dtype: DType) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// The values of a tensor, row by row.
pub fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
