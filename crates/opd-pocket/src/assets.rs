/// One embedded file: its path below the job's directory, and its bytes.
pub(crate) type Asset = (&'static str, &'static [u8]);

/// Every embedded file, as ordinary Hugging Face model directories.
///
/// `cargo run --release --example make_pocket` makes the weights.
pub(crate) const ASSETS: &[Asset] = &[
    ("pairs_teacher/config.json", include_bytes!("../assets/pairs_teacher/config.json")),
    (
        "pairs_teacher/generation_config.json",
        include_bytes!("../assets/pairs_teacher/generation_config.json"),
    ),
    (
        "pairs_teacher/model.safetensors",
        include_bytes!("../assets/pairs_teacher/model.safetensors"),
    ),
    ("pairs_teacher/tokenizer.json", include_bytes!("../assets/pairs_teacher/tokenizer.json")),
    (
        "pairs_teacher/tokenizer_config.json",
        include_bytes!("../assets/pairs_teacher/tokenizer_config.json"),
    ),
    ("student/config.json", include_bytes!("../assets/student/config.json")),
    ("student/generation_config.json", include_bytes!("../assets/student/generation_config.json")),
    ("student/model.safetensors", include_bytes!("../assets/student/model.safetensors")),
    ("student/tokenizer.json", include_bytes!("../assets/student/tokenizer.json")),
    ("student/tokenizer_config.json", include_bytes!("../assets/student/tokenizer_config.json")),
    ("teacher/config.json", include_bytes!("../assets/teacher/config.json")),
    ("teacher/generation_config.json", include_bytes!("../assets/teacher/generation_config.json")),
    ("teacher/model.safetensors", include_bytes!("../assets/teacher/model.safetensors")),
    ("teacher/tokenizer.json", include_bytes!("../assets/teacher/tokenizer.json")),
    ("teacher/tokenizer_config.json", include_bytes!("../assets/teacher/tokenizer_config.json")),
];
