use std::{borrow::Cow, cell::RefCell, collections::HashMap, path::Path};

use candle_core::{DType, Tensor};
use safetensors::{Dtype, tensor::View};

use crate::{Error, Result, save::replace};

/// A tensor that is computed when it is written.
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Box<dyn Fn() -> Result<Tensor> + 'a>,
}

impl Entry<'_> {
    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * 4
    }
}

/// Writes tensors in f32, one at a time, and syncs the file; it appears whole or not at all.
pub(crate) fn write_safetensors(path: &Path, entries: Vec<Entry<'_>>) -> Result<()> {
    let fault = RefCell::new(None);
    let views =
        entries.iter().map(|entry| (entry.name.as_str(), Streamed { entry, fault: &fault }));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    replace(path, |aside| {
        let written = safetensors::serialize_to_file(views, Some(metadata), aside);
        match (fault.take(), written) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(()),
            (None, Err(safetensors::SafeTensorError::IoError(source))) => {
                Err(Error::Io { path: path.into(), action: "write", source })
            }
            (None, Err(other)) => {
                Err(Error::Weights { path: path.into(), what: other.to_string() })
            }
        }
    })
}

/// What the safetensors crate asks for bytes; the first error is kept beside.
struct Streamed<'a> {
    entry: &'a Entry<'a>,
    fault: &'a RefCell<Option<Error>>,
}

impl Streamed<'_> {
    fn values(&self) -> Result<Vec<u8>> {
        let tensor = (self.entry.values)()?;
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

impl View for Streamed<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values().unwrap_or_else(|error| {
            self.fault.borrow_mut().get_or_insert(error);
            vec![0; self.data_len()]
        }))
    }

    fn data_len(&self) -> usize {
        self.entry.bytes() as usize
    }
}
