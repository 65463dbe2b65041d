/// A server's address without the path of its scoring form, which users of other trainers write
/// too.
///
/// ```
/// assert_eq!(opd_teacher::base_url("http://10.0.0.5:30000/generate"), "http://10.0.0.5:30000");
/// ```
pub fn base_url(url: &str) -> &str {
    let url = url.trim().trim_end_matches('/');
    let forms = ["/generate", "/v1/completions", "/v1"];
    forms.into_iter().find_map(|form| url.strip_suffix(form)).unwrap_or(url)
}
