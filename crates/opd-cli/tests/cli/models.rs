use std::{fs, path::PathBuf};

use candle_core::{DType, Device};
use opd_models::CausalLm;

use crate::command::Workplace;

/// A model of random weights with the bundled task's tokenizer, so small that it runs at once.
pub(crate) fn digits(work: &Workplace, name: &str, seed: u64) -> PathBuf {
    let layout = opd_pocket::materialize_with(&work.path("bundle"), SIZES).unwrap();
    let dir = work.path(name);
    fs::create_dir_all(&dir).unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        fs::copy(layout.student.join(file), dir.join(file)).unwrap();
    }
    CausalLm::random(&dir, seed, DType::F32, &Device::Cpu).unwrap().save(&dir).unwrap();
    dir
}

/// The bundled student.
pub(crate) fn student(work: &Workplace) -> PathBuf {
    opd_pocket::materialize_with(&work.path("bundle"), SIZES).unwrap().student
}

/// Prompts of the bundled task.
pub(crate) fn prompts(work: &Workplace) -> PathBuf {
    opd_pocket::materialize_with(&work.path("bundle"), SIZES).unwrap().train
}

const SIZES: opd_pocket::DataSizes = opd_pocket::DataSizes { train: 12, validation: 6, test: 8 };
