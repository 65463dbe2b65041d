use opd_data::Example;

const PROMPT: &str = "{prompt}";
const LABEL: &str = "{label}";

/// What the teacher is asked where it is told more than the student; `None` where the example
/// lacks what is needed.
///
/// That is the example's own field, or `template` with the example's prompt in place of
/// `{prompt}` and its label in place of `{label}`.
pub(crate) fn teacher_prompt(example: &Example, template: Option<&str>) -> Option<String> {
    let Some(mut rest) = template else { return example.teacher_prompt.clone() };
    let mut filled = String::new();
    loop {
        let found = [(PROMPT, Some(&example.prompt)), (LABEL, example.label.as_ref())]
            .into_iter()
            .filter_map(|(name, text)| Some((rest.find(name)?, name, text)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, name, text)) = found else { break };
        filled.push_str(&rest[..at]);
        filled.push_str(text?);
        rest = &rest[at + name.len()..];
    }
    Some(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(label: Option<&str>) -> Example {
        Example { prompt: "2+2 {label}".into(), label: label.map(Into::into), ..Example::default() }
    }

    #[test]
    fn a_template_is_filled_once() {
        let of = |template| teacher_prompt(&example(Some("{prompt}")), Some(template)).unwrap();
        assert_eq!(of("{prompt}"), "2+2 {label}", "what is filled in is not filled again");
        assert_eq!(of("hint: {label}\n{prompt}"), "hint: {prompt}\n2+2 {label}");
        assert_eq!(of("{\"x\": {prompt}} {label}{label}"), "{\"x\": 2+2 {label}} {prompt}{prompt}");
    }

    #[test]
    fn a_missing_label_is_missing_where_it_is_needed() {
        assert_eq!(teacher_prompt(&example(None), Some("{prompt} {label}")), None);
        let plain = teacher_prompt(&example(None), Some("think: {prompt}"));
        assert_eq!(plain.unwrap(), "think: 2+2 {label}");
    }

    #[test]
    fn without_a_template_it_is_the_examples_own() {
        let own = Some("with a hint".to_owned());
        let example = Example { teacher_prompt: own.clone(), ..Example::default() };
        assert_eq!(teacher_prompt(&example, None), own);
    }
}
