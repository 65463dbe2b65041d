use std::{io::ErrorKind, path::Path};

use opd_kernels::{EncodedMatrix, Weight};

use crate::{
    CausalLm, Error, Result,
    block::{Block, Matrix},
    lora::Adapter,
    weights::WeightFiles,
};

/// A matrix that is held for reading alone.
pub(crate) struct Encoded<'a> {
    /// Hugging Face name and rows of each tensor that is stacked in it.
    pub(crate) parts: Vec<(&'a str, usize)>,
    pub(crate) matrix: &'a EncodedMatrix,
    pub(crate) adapter: Option<&'a Adapter>,
}

impl CausalLm {
    /// The matrices that are held for reading alone.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = Encoded<'_>> {
        let tables = std::iter::once(&self.embedding).chain(&self.head).filter_map(|table| {
            let Weight::Encoded(matrix) = &table.values else { return None };
            let parts = vec![(table.name, matrix.dims()[0])];
            Some(Encoded { parts, matrix, adapter: None })
        });
        let layers = self.blocks.iter().flat_map(Block::all_matrices).filter_map(|of: &Matrix| {
            let Weight::Encoded(matrix) = &of.weight else { return None };
            let parts = of.parts.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
            Some(Encoded { parts, matrix, adapter: of.adapter.as_ref() })
        });
        tables.chain(layers)
    }

    /// Passes if something of the model is trained.
    pub(crate) fn check_trainable(&self) -> Result<()> {
        self.config.check_trainable()?;
        match self.lora {
            Some(_) => Ok(()),
            None => self.check_decoded("trained"),
        }
    }

    /// Passes if no matrix is held for reading alone, for what needs all of them as values.
    pub(crate) fn check_decoded(&self, action: &'static str) -> Result<()> {
        match self.encoded().next() {
            None => Ok(()),
            Some(encoded) => {
                let name = encoded.parts.first().map_or("", |(name, _)| name).to_owned();
                Err(Error::Encoded { path: self.source.clone(), name, action })
            }
        }
    }
}

/// Bytes that the weights of a model directory or GGUF file take with
/// [`CausalLm::load_encoded`](crate::CausalLm::load_encoded), from the headers of its files; `None`
/// where there is no file.
///
/// # Errors
///
/// Those of damaged files.
pub fn encoded_bytes(path: impl AsRef<Path>) -> Result<Option<u64>> {
    match WeightFiles::open(path.as_ref()) {
        Ok(files) => Ok(Some(files.encoded_bytes())),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
