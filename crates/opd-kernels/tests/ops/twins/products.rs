use candle_core::Tensor;
use opd_kernels::{
    embedding, linear, linear_acc, linear_grad_input, linear_grad_weight, linear_grad_weight_acc,
    reference, scatter_add_rows,
};
use proptest::prelude::*;

use super::{dtypes, exact, laid, layouts, near, twin_gradients};
use crate::ids;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn linears(
        rows in 1usize..140, inner in 1usize..300, outer in 1usize..70,
        dtype in dtypes(), layout in layouts(), other in layouts(), seed in 1u64..99,
    ) {
        let (x, w, dy) = (
            exact(&[rows, inner], seed),
            exact(&[outer, inner], seed + 100),
            exact(&[rows, outer], seed + 200),
        );
        let (x_at, w_at, dy_at) =
            (laid(&x, dtype, layout), laid(&w, dtype, other), laid(&dy, dtype, layout));
        let y = linear(&x_at, &w_at).unwrap();
        near(&y, &reference::linear(&x, &w).unwrap(), inner as f64)?;
        let want = twin_gradients(&[&x, &w], &dy, |of| reference::linear(&of[0], &of[1]).unwrap());
        let dw = linear_grad_weight(&dy_at, &x_at).unwrap();
        near(&linear_grad_input(&dy_at, &w_at).unwrap(), &want[0], outer as f64)?;
        near(&dw, &want[1], rows as f64)?;

        // What is added to is written in place: it is contiguous, or rows of something wider.
        let before = exact(&[outer, inner], seed + 300);
        let acc = before.to_dtype(dtype).unwrap().copy().unwrap();
        linear_grad_weight_acc(&dy_at, &x_at, &acc).unwrap();
        near(&acc, &(&before + &want[1]).unwrap(), rows as f64)?;
        let before = exact(&[rows, outer + 3], seed + 400);
        let acc = before.to_dtype(dtype).unwrap().copy().unwrap();
        linear_acc(&x_at, &w_at, &acc, 2).unwrap();
        let product = reference::linear(&x, &w).unwrap();
        let product = product.pad_with_zeros(1, 2, 1).unwrap();
        near(&acc, &(&before + product).unwrap(), inner as f64)?;
    }

    #[test]
    fn tables(
        vocab in 1usize..9, width in 1usize..40, places in prop::collection::vec(0u32..9, 1..60),
        dtype in dtypes(), layout in layouts(), seed in 1u64..99,
    ) {
        let places: Vec<u32> = places.into_iter().map(|id| id % vocab as u32).collect();
        let (rows, places) = (exact(&[places.len(), width], seed), ids(&places));
        let table = exact(&[vocab, width], seed + 100);
        let want = reference::embedding(&table, &places).unwrap();
        near(&embedding(&laid(&table, dtype, layout), &places).unwrap(), &want, 0.0)?;
        let sums: Tensor = table.to_dtype(dtype).unwrap().copy().unwrap();
        scatter_add_rows(&sums, &places, &laid(&rows, dtype, layout)).unwrap();
        let want = reference::scatter_add_rows(&table, &places, &rows).unwrap();
        near(&sums, &want, 0.0)?;
    }
}
