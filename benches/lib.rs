//! Criterion benches: `cargo bench --bench NAME`.
