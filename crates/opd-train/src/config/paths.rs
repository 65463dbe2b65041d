use std::{
    io,
    path::{Path, PathBuf},
};

use super::TrainConfig;

impl TrainConfig {
    /// Every path that a run reads from, and the journal that it keeps.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let data = &mut self.data;
        let teacher = self.distillation.iter_mut().flat_map(|d| {
            let given = [&mut d.teacher, &mut d.tokenizer, &mut d.api_key_file, &mut d.journal];
            given.into_iter().flatten()
        });
        let teachers = self.teachers.iter_mut().flat_map(|teacher| {
            [&mut teacher.path, &mut teacher.tokenizer, &mut teacher.api_key_file]
                .into_iter()
                .flatten()
        });
        // The files of training stand last: how many there are does not move the others.
        std::iter::once(&mut self.student.path)
            .chain(data.validation.as_mut())
            .chain(data.test.as_mut())
            .chain(&mut data.eval_sets)
            .chain(self.sft.data.as_mut())
            .chain(self.reward.api_key_file.as_mut())
            .chain(self.student.reference.as_mut())
            .chain(self.student.lora.as_mut().and_then(|lora| lora.adapter.as_mut()))
            .chain(self.objective.critic.path.as_mut())
            .chain(teacher)
            .chain(teachers)
            .chain(&mut data.train)
    }

    /// Every path of a model, a critic's or a tokenizer's that a run reads from.
    pub fn models_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let teacher = self.distillation.iter_mut();
        let teacher =
            teacher.flat_map(|d| [&mut d.teacher, &mut d.tokenizer].into_iter().flatten());
        let teachers = self.teachers.iter_mut();
        let teachers = teachers.flat_map(|t| [&mut t.path, &mut t.tokenizer].into_iter().flatten());
        std::iter::once(&mut self.student.path)
            .chain(self.student.reference.as_mut())
            .chain(self.objective.critic.path.as_mut())
            .chain(teacher)
            .chain(teachers)
    }

    /// As the file of the run in `run` has it: paths inside of `run` are relative to it, so that
    /// the directory may be moved; all others are absolute, so that they hold from anywhere.
    ///
    /// # Errors
    ///
    /// If the working directory is not known.
    pub fn stored_in(&self, run: &Path) -> io::Result<Self> {
        let mut config = self.clone();
        let run = std::path::absolute(run)?;
        for path in config.paths_mut() {
            let whole = std::path::absolute(&*path)?;
            *path = match whole.strip_prefix(&run) {
                Ok(inside) if !inside.as_os_str().is_empty() => inside.to_owned(),
                _ => whole,
            };
        }
        Ok(config)
    }

    /// What [`Self::stored_in`] stored, with whole paths again.
    #[must_use]
    pub fn read_from(mut self, run: &Path) -> Self {
        for path in self.paths_mut() {
            *path = run.join(&*path);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DistillationConfig;

    fn config(student: &str, train: &str, teacher: &str) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.student.path = student.into();
        config.data.train = train.into();
        let teacher = Some(teacher.into());
        config.distillation = Some(DistillationConfig { teacher, ..Default::default() });
        config
    }

    #[test]
    fn paths_inside_the_run_move_with_it() {
        let whole = config("/runs/a/inputs/student", "/runs/ab/train.jsonl", "/models/teacher");
        let stored = whole.stored_in(Path::new("/runs/a")).unwrap();
        assert_eq!(stored, config("inputs/student", "/runs/ab/train.jsonl", "/models/teacher"));
        let moved = stored.read_from(Path::new("/b"));
        assert_eq!(moved, config("/b/inputs/student", "/runs/ab/train.jsonl", "/models/teacher"));
    }

    #[test]
    fn other_paths_hold_from_anywhere() {
        let stored =
            config("student", "data/train.jsonl", "/t").stored_in(Path::new("run")).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(stored.student.path, here.join("student"));
        assert_eq!(stored.data.train.paths(), [here.join("data/train.jsonl")]);
    }
}
