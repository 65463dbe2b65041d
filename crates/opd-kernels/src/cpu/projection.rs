//! Logits of a chunk of rows from hidden states and head, and the way back.

use std::{cell::OnceCell, ops::Range, sync::Arc};

use super::{
    bias,
    gemm::{
        DEPTHS, Gemm, Matrix, MatrixMut, PackedPairs, RowTiles, Tiles, Update, gemm, gemm_bf16,
        gemm_bf16_packed, gemm_encoded, gemm_encoded_columns, with_buffer,
    },
    part::Part,
    softmax::BLOCK,
};
use crate::{Products, encoded::PackedValues};

/// Logits of a chunk of whole rows, at most, beyond [`LEAST_ROWS`] rows.
const LOGITS_AT_ONCE: usize = 5 << 20;

/// Logits of a part of rows and vocabulary, or twice as many of the most rows: they, the hidden states and the
/// part of the head stay in the caches from one product to the next.
const PART_LOGITS: usize = 1 << 20;

/// Rows of such parts, at most: whole blocks of the products' depths, so that a sum over rows is the same
/// sum however many parts have them.
const ROWS_OF_PARTS: usize = 8 * DEPTHS;

/// Hidden values that are widened at a time for such parts, beyond one block of rows.
const WIDENED: usize = 1 << 20;

/// Ids asked of a row, beside its token, beyond which rows come whole: candidates of few rows are then kept at
/// one time, and what is asked is looked up once.
const MANY_IDS: usize = 64;

/// Fewer rows in a chunk than this would reread the head too often.
const LEAST_ROWS: usize = 64;

/// Rows beyond which a chunk gains nothing.
const MOST_ROWS: usize = 4096;

/// Rows of the products' tiles.
const TILE_ROWS: usize = 12;

/// A head `[V, H]`.
#[derive(Clone, Copy)]
pub(crate) enum HeadRows<'a, T> {
    /// Rows back to back.
    Values(&'a [T]),
    /// For logits of f32: widened or decoded where it is read.
    Tiles(&'a dyn Tiles),
}

/// Hidden states `[T, H]`.
#[derive(Clone, Copy)]
pub(crate) enum HiddenRows<'a, T> {
    /// Rows back to back.
    Values(&'a [T]),
    /// For logits of f32: some rows are widened at a time.
    Tiles(&'a dyn Tiles),
}

/// `hidden` `[T, H]` times the transpose of `head` `[V, H]`, and a bias `[V]`.
pub(crate) struct Projected<'a, T> {
    hidden: HiddenRows<'a, T>,
    head: HeadRows<'a, T>,
    bias: Option<&'a [T]>,
    pub(crate) width: usize,
    pub(crate) vocab: usize,
    rounded: Option<RoundedHead>,
}

/// A head whose products read values rounded to bf16: rounded once for all chunks, for each of the
/// two products that it is the right operand of.
#[derive(Default)]
struct RoundedHead {
    for_logits: OnceCell<Arc<PackedPairs>>,
    for_gradient: OnceCell<PackedPairs>,
}

/// Rows whose logits a fused head on the CPU holds at once, for a vocabulary of `vocab`, where it holds whole
/// rows; parts of more rows take less.
pub fn head_chunk_rows(vocab: usize) -> usize {
    let tiles = LOGITS_AT_ONCE / vocab.max(1) / TILE_ROWS;
    (tiles * TILE_ROWS).clamp(LEAST_ROWS, MOST_ROWS)
}

/// The chunks of `rows` rows over a vocabulary of `vocab`; their size depends on `vocab` alone.
pub(crate) fn chunks(rows: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    chunks_of(0..rows, vocab)
}

/// [`chunks`] of some rows.
pub(crate) fn chunks_of(rows: Range<usize>, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    cut(rows, head_chunk_rows(vocab))
}

fn cut(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = range;
    (start..end).step_by(size).map(move |first| first..(first + size).min(end))
}

impl<'a, T: Gemm> Projected<'a, T> {
    /// Rows of `width` hidden values, and a head of `vocab` rows as wide.
    pub(crate) fn new(
        hidden: HiddenRows<'a, T>,
        (head, products): (HeadRows<'a, T>, Products),
        bias: Option<&'a [T]>,
        (width, vocab): (usize, usize),
    ) -> Self {
        let rounded = (products == Products::Bf16).then(RoundedHead::default);
        Self { hidden, head, bias, width, vocab, rounded }
    }

    /// Whether logits come for a part of the vocabulary: a head that is packed is so as a whole.
    fn comes_by_part(&self, further: usize) -> bool {
        further <= MANY_IDS
            && self.rounded.is_none()
            && match self.head {
                HeadRows::Values(_) => true,
                HeadRows::Tiles(head) => head.as_read(Products::Full).is_none(),
            }
    }

    fn rows_of_parts(&self) -> usize {
        match self.hidden {
            HiddenRows::Values(_) => ROWS_OF_PARTS,
            HiddenRows::Tiles(_) => {
                (WIDENED / self.width.max(1) / DEPTHS * DEPTHS).clamp(DEPTHS, ROWS_OF_PARTS)
            }
        }
    }

    /// `rows` rows, cut into those whose [`Projected::parts`] follow each other. `further`: how many ids
    /// are asked of each row beside its token.
    pub(crate) fn rows_at_once(
        &self,
        rows: usize,
        further: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<T> {
        let size = match self.comes_by_part(further) {
            true => self.rows_of_parts(),
            false => head_chunk_rows(self.vocab),
        };
        cut(0..rows, size)
    }

    /// The parts of the logits of `rows`, first ids first. Many rows have few ids at a time: the head is then
    /// read once, and a piece of it that is copied serves them all.
    pub(crate) fn parts(
        &self,
        rows: Range<usize>,
        further: usize,
    ) -> impl Iterator<Item = Part> + use<T> {
        let ids = match self.comes_by_part(further) {
            true => (PART_LOGITS / rows.len().max(1) / BLOCK).max(1) * BLOCK,
            false => self.vocab.max(1),
        };
        cut(0..self.vocab, ids).map(move |ids| Part { rows: rows.clone(), ids })
    }

    /// Logits of `rows`, in `buffer`; any values there are overwritten.
    pub(crate) fn logits<'b>(&self, buffer: &'b mut Vec<T>, rows: Range<usize>) -> &'b mut [T] {
        self.part(buffer, &Part::of_rows(rows, self.vocab))
    }

    /// Logits of a part, in `buffer`; any values there are overwritten.
    pub(crate) fn part<'b>(&self, buffer: &'b mut Vec<T>, part: &Part) -> &'b mut [T] {
        buffer.resize(part.rows.len() * part.ids.len(), T::ZERO);
        self.set_part(buffer, part);
        buffer
    }

    /// Sets `out` to the logits of a part.
    pub(crate) fn set_part(&self, out: &mut [T], part: &Part) {
        self.with_hidden_rows(part.rows.clone(), |hidden| self.logits_of(out, hidden, part));
    }

    /// How many of `rows` rows have [`Projected::parts`] that the memory of the head's gradient can hold until
    /// that is written; 0 where one chunk holds as many.
    pub(crate) fn rows_held(&self, rows: usize) -> usize {
        let held = rows.min(self.width).min(self.rows_of_parts());
        if self.comes_by_part(0) && held > head_chunk_rows(self.vocab) { held } else { 0 }
    }

    fn logits_of(&self, buffer: &mut [T], hidden: &[T], part: &Part) {
        let n = part.rows.len();
        let left = T::as_f32(hidden).map(|hidden| Matrix::row_major(hidden, n, self.width));
        match (self.head, self.packed_for_logits(), left) {
            (_, Some(right), Some(left)) => {
                if let Some(logits) = T::as_f32_mut(buffer) {
                    gemm_bf16_packed(MatrixMut::row_major(logits, n, self.vocab), left, right);
                }
            }
            (HeadRows::Tiles(head), _, left) => {
                if let (Some(left), Some(logits)) = (left, T::as_f32_mut(buffer)) {
                    let logits = MatrixMut::row_major(logits, n, part.ids.len());
                    let rows = RowTiles { of: head, rows: part.ids.clone() };
                    gemm_encoded(Products::Full, logits, left, &rows);
                }
            }
            (HeadRows::Values(head), ..) => gemm(
                MatrixMut::row_major(buffer, n, part.ids.len()),
                Matrix::row_major(hidden, n, self.width),
                self.head_rows(head, part).t(),
                Update::Set,
            ),
        }
        if let Some(bias) = self.bias {
            bias::add_to_rows(buffer, &bias[part.ids.clone()]);
        }
    }

    /// The rows of the head that belong to a part.
    fn head_rows<'b>(&self, head: &'b [T], part: &Part) -> Matrix<'b, T> {
        let of_ids = &head[part.ids.start * self.width..part.ids.end * self.width];
        Matrix::row_major(of_ids, part.ids.len(), self.width)
    }

    /// The head as the product of logits reads it, if that reads it rounded.
    fn packed_for_logits(&self) -> Option<&PackedPairs> {
        let packed = &self.rounded.as_ref()?.for_logits;
        match self.head {
            HeadRows::Tiles(head) => {
                Some(packed.get_or_init(|| match head.as_read(Products::Bf16) {
                    Some(PackedValues::Bf16(packed)) => packed,
                    _ => Arc::new(PackedPairs::encoded(head)),
                }))
            }
            HeadRows::Values(head) => {
                let head = Matrix::row_major(T::as_f32(head)?, self.vocab, self.width);
                Some(packed.get_or_init(|| Arc::new(PackedPairs::new(head.t()))))
            }
        }
    }

    /// Gradient of the hidden states of a part's rows `[rows, H]`: set by the part with the first ids, to which
    /// the others add theirs.
    pub(crate) fn add_hidden_gradient(&self, out: &mut [T], dlogits: &[T], part: &Part) {
        let n = part.rows.len();
        let update = if part.ids.start == 0 { Update::Set } else { Update::Add };
        let head = match self.head {
            HeadRows::Values(head) => head,
            HeadRows::Tiles(head) => {
                let products = self.rounded.as_ref().map_or(Products::Full, |_| Products::Bf16);
                if let (Some(dlogits), Some(out)) = (T::as_f32(dlogits), T::as_f32_mut(out)) {
                    let dlogits = Matrix::row_major(dlogits, n, part.ids.len());
                    let out = MatrixMut::row_major(out, n, self.width);
                    let rows = RowTiles { of: head, rows: part.ids.clone() };
                    gemm_encoded_columns(products, out, dlogits, &rows, update);
                }
                return;
            }
        };
        if let (Some(rounded), Some(dlogits), Some(head)) =
            (&self.rounded, T::as_f32(dlogits), T::as_f32(head))
        {
            let head = Matrix::row_major(head, self.vocab, self.width);
            let right = rounded.for_gradient.get_or_init(|| PackedPairs::new(head));
            let left = Matrix::row_major(dlogits, n, self.vocab);
            if let Some(out) = T::as_f32_mut(out) {
                gemm_bf16_packed(MatrixMut::row_major(out, n, self.width), left, right);
            }
            return;
        }
        gemm(
            MatrixMut::row_major(out, n, self.width),
            Matrix::row_major(dlogits, n, part.ids.len()),
            self.head_rows(head, part),
            update,
        );
    }

    /// Gradient of the head's rows of a part's ids, in `out` `[V, H]`, which may be empty before the first
    /// rows: set by those, to which the others add theirs.
    pub(crate) fn add_head_gradient(&self, out: &mut Vec<T>, dlogits: &[T], part: &Part) {
        out.resize(self.vocab * self.width, T::ZERO);
        let out = &mut out[part.ids.start * self.width..part.ids.end * self.width];
        let update = if part.rows.start == 0 { Update::Set } else { Update::Add };
        self.with_hidden_rows(part.rows.clone(), |hidden| {
            self.head_gradient_of(out, dlogits, (hidden, part.rows.len()), update);
        });
    }

    fn head_gradient_of(
        &self,
        out: &mut [T],
        dlogits: &[T],
        (hidden, n): (&[T], usize),
        update: Update,
    ) {
        let ids = out.len() / self.width.max(1);
        if self.rounded.is_some()
            && let (Some(dlogits), Some(hidden)) = (T::as_f32(dlogits), T::as_f32(hidden))
            && let Some(out) = T::as_f32_mut(out)
        {
            let dlogits = Matrix::row_major(dlogits, n, ids).t();
            let hidden = Matrix::row_major(hidden, n, self.width);
            let out = MatrixMut::row_major(out, ids, self.width);
            return gemm_bf16(out, dlogits, hidden, update);
        }
        gemm(
            MatrixMut::row_major(out, ids, self.width),
            Matrix::row_major(dlogits, n, ids).t(),
            Matrix::row_major(hidden, n, self.width),
            update,
        );
    }

    /// Lends some rows of the hidden states as they are computed with.
    fn with_hidden_rows<R>(&self, rows: Range<usize>, work: impl FnOnce(&[T]) -> R) -> R {
        match self.hidden {
            HiddenRows::Values(hidden) => {
                work(&hidden[rows.start * self.width..rows.end * self.width])
            }
            HiddenRows::Tiles(hidden) => {
                with_buffer(rows.len() * self.width, |wide: &mut [T]| {
                    if let Some(wide) = T::as_f32_mut(wide) {
                        hidden.decode(rows, 0..self.width, wide);
                    }
                    work(wide)
                })
            }
        }
    }
}
