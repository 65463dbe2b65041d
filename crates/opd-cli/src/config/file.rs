use std::{fs, ops::Range, path::Path};

use opd_train::config::TrainConfig;
use toml::de::DeTable;

use crate::{
    config::{Shape, check::check},
    failure::Failure,
};

/// Reads a configuration; what it leaves out has its default.
///
/// A relative path that leads nowhere from here, but somewhere from the file's directory, is
/// taken from there: so the `config.toml` of a run can be given as it is.
///
/// Errors are bad usage, and name file, line, key, what was expected and what was found.
pub(crate) fn load(path: &Path) -> anyhow::Result<TrainConfig> {
    let name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--config {name}: cannot read it: {error}")))?;
    let mut config = parse(&name.to_string(), &text)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    for path in config.paths_mut() {
        let there = beside.join(&*path);
        if !path.as_os_str().is_empty() && !path.exists() && there.exists() {
            *path = there;
        }
    }
    Ok(config)
}

/// As [`load`], from text that came from the file `name`.
pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<TrainConfig> {
    let fault = |what: &str, span: Option<Range<usize>>| {
        Failure::usage(format!("{name}:{}: {what}", line(text, span)))
    };
    let table = DeTable::parse(text)
        .map_err(|error| fault(&format!("not TOML: {}", error.message()), error.span()))?;
    check(table.get_ref(), &Shape::of::<TrainConfig>())
        .map_err(|found| fault(&found.what, Some(found.span)))?;
    toml::from_str(text).map_err(|error| fault(error.message(), error.span()))
}

/// The line, from 1, on which a span starts.
fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse("job.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_overrides_defaults_and_nothing_else() {
        let text = "steps = 7\n[optimizer]\nlr = 1\n[objective.clip]\ndual = 3.0\n";
        let mut expected = TrainConfig { steps: 7, ..TrainConfig::default() };
        expected.optimizer.lr = 1.0;
        expected.objective.clip.dual = Some(3.0);
        assert_eq!(parse("job.toml", text).unwrap(), expected);
        assert_eq!(parse("job.toml", "").unwrap(), TrainConfig::default());
    }

    #[test]
    fn files_of_training_are_a_text_or_a_list() {
        let one = parse("job.toml", "[data]\ntrain = \"a.jsonl\"\n").unwrap();
        let list = parse("job.toml", "[data]\ntrain = [\"a.jsonl\"]\n").unwrap();
        assert_eq!(one, list);
        let two = parse("job.toml", "[data]\ntrain = [\"a.jsonl\", \"b.jsonl@[:3]\"]\n").unwrap();
        assert_eq!(two.data.train.to_string(), "a.jsonl, b.jsonl@[:3]");
        for config in [one, two] {
            assert_eq!(parse("job.toml", &toml::to_string(&config).unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn a_wrong_key_is_refused_at_every_level() {
        let shape = Shape::of::<TrainConfig>();
        let tables = shape.paths().into_iter().filter(|path| is_table(&shape, path));
        let tables: Vec<String> = tables.collect();
        assert!(tables.len() >= 10 && tables.contains(&"objective.clip".into()), "{tables:?}");
        for table in tables {
            let refused = refusal(&format!("[{table}]\nnonsense = 1\n"));
            let unknown = format!("job.toml:2: unknown key `{table}.nonsense`; the nearest known");
            assert!(refused.starts_with(&unknown), "{refused}");
        }
        let refused = refusal("\nstep = 3\n");
        assert_eq!(refused, "job.toml:2: unknown key `step`; the nearest known one is `steps`");
    }

    #[test]
    fn a_wrong_type_names_key_expected_and_got() {
        let cases = [
            (
                "steps = \"ten\"",
                "`steps` must be a whole number of at least 0; got the text \"ten\"",
            ),
            ("steps = 1.5", "`steps` must be a whole number of at least 0; got the number 1.5"),
            ("seed = -3", "`seed` must be a whole number of at least 0; got the whole number -3"),
            (
                "optimizer = 3",
                "`optimizer` must be a table: write [optimizer] and its keys below; got the whole number 3",
            ),
            ("name = true", "`name` must be text in quotes; got true"),
            ("[optimizer]\nlr = [1e-3]", "`optimizer.lr` must be a number; got a list"),
            (
                "[objective]\nwhiten = 1",
                "`objective.whiten` must be true or false; got the whole number 1",
            ),
            (
                "[objective]\naggregation = \"mean\"",
                "`objective.aggregation` must be one of \"sequence-mean-token-mean\", \"sequence-mean-token-sum\", \"token-mean\", \"token-sum\"; got the text \"mean\"",
            ),
            (
                "[data]\ntrain = 3",
                "`data.train` must be text in quotes, or a list of such texts; got the whole number 3",
            ),
            (
                "[data]\ntrain = [\"a\", 3]",
                "`data.train` must be text in quotes, or a list of such texts; got a list",
            ),
            (
                "[distillation]\nurls = \"x\"",
                "`distillation.urls` must be a list: [.., ..]; got the text \"x\"",
            ),
        ];
        for (text, expected) in cases {
            let line = text.lines().count();
            let refused = refusal(text);
            let same = sorted(&refused) == sorted(&format!("job.toml:{line}: {expected}"));
            assert!(same, "{refused}\nwas expected to be\n{expected}");
        }
    }

    #[test]
    fn what_is_not_toml_names_the_line() {
        let refused = refusal("steps = 3\nseed =\n");
        assert!(refused.starts_with("job.toml:2: not TOML: "), "{refused}");
    }

    /// Words in one order: that of an enum's names is not ours.
    fn sorted(text: &str) -> Vec<&str> {
        let mut words: Vec<_> = text.split([' ', ',', ';']).collect();
        words.sort_unstable();
        words
    }

    fn is_table(shape: &Shape, path: &str) -> bool {
        let found = path.split('.').try_fold(shape, |shape, name| match shape {
            Shape::Table(fields) => {
                fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape)
            }
            _ => None,
        });
        matches!(found, Some(Shape::Table(_)))
    }
}
