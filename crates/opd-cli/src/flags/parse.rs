/// A number that is finite and above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        Ok(_) => Err("it must be finite and above 0".to_owned()),
        Err(_) => Err("it must be a number, e.g. 0.7".to_owned()),
    }
}
