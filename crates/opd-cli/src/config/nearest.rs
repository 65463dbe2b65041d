use strsim::damerau_levenshtein;

/// The known path that is most like `path`, by edits of its last part.
///
/// A key of the same name in another table is nearer than a similar one in the same table.
pub(crate) fn nearest<'a>(path: &str, known: &'a [String]) -> Option<&'a str> {
    let (table, name) = split(path);
    let distance = |candidate: &str| {
        let (its_table, its_name) = split(candidate);
        let elsewhere = usize::from(its_table != table);
        (2 * damerau_levenshtein(name, its_name) + elsewhere, damerau_levenshtein(path, candidate))
    };
    known.iter().map(String::as_str).min_by_key(|candidate| distance(candidate))
}

/// Table and name: `objective.clip` and `dual`.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use opd_train::config::TrainConfig;

    use super::*;
    use crate::config::Shape;

    #[test]
    fn slips_are_understood() {
        let known = Shape::of::<TrainConfig>().paths();
        let cases = [
            ("step", "steps"),
            ("lr", "optimizer.lr"),
            ("optimiser", "optimizer"),
            ("optimizer.weigth_decay", "optimizer.weight_decay"),
            ("rollout.temprature", "rollout.temperature"),
            ("evaluation.temprature", "evaluation.temperature"),
            ("optimizer.temperature", "rollout.temperature"),
        ];
        for (slip, expected) in cases {
            assert_eq!(nearest(slip, &known), Some(expected), "{slip}");
        }
    }
}
