use candle_core::{DType, Device, Result, Tensor, Var};
use opd_kernels::{
    CrossVocabulary, Divergence, DivergenceOutput, Head, Products, Projection, RowQuery, Softmax,
    TokenOptions, divergence, draw_rows, likeliest_rows, linear_cross_vocabulary,
    linear_divergence, linear_divergence_loss, linear_row_logprobs, linear_row_loss,
    linear_support_logprobs, linear_token_logprobs, linear_token_scores, linear_total_variation,
    row_divergence_loss, row_loss, token_logprobs, token_scores,
};

use super::{At, Work, with_gradients};

const VOCAB: usize = 151_936;
const KINDS: [Divergence; 5] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::Jsd { beta: 0.5 },
    Divergence::SkewForwardKl { alpha: 0.1 },
    Divergence::SkewReverseKl { alpha: 0.1 },
];

fn sum(tokens: &DivergenceOutput) -> Result<Tensor> {
    tokens.divergence.sum_all()? + tokens.student_entropy.sum_all()?
}

pub(super) const KERNELS: [(&str, Work); 15] = [
    ("token_logprobs", |at| {
        let logits = at.var(&[16, VOCAB], 1, 8.0)?;
        let out = token_logprobs(&logits, &at.ids(16, VOCAB)?, 0.9)?;
        with_gradients(vec![out.logprobs, out.lse, out.entropy], &[&logits])
    }),
    ("token_scores", |at| {
        let logits = at.var(&[16, VOCAB], 1, 8.0)?;
        let named = at.ids(16 * 8, VOCAB)?.reshape((16, 8))?;
        let softmax = Softmax { temperature: 0.9, soft_cap: Some(30.0) };
        let options =
            TokenOptions { softmax, entropy: true, named: Some(&named), ..TokenOptions::default() };
        let out = token_scores(&logits, &at.ids(16, VOCAB)?, &options)?;
        let parts = [Some(out.logprobs), Some(out.lse), out.entropy, out.named];
        let mut all = with_gradients(parts.into_iter().flatten().collect(), &[&logits])?;
        // Ranks are those of the rounded logits on either side.
        let options = TokenOptions { argmax: true, top_k: 20, ..TokenOptions::default() };
        let out = token_scores(&logits, &at.ids(16, VOCAB)?, &options)?;
        all.extend(out.top.into_iter().flat_map(|top| [top.ids, top.logprobs]));
        Ok(all.into_iter().chain(out.argmax).collect())
    }),
    ("row_loss", |at| {
        // Rows that start between multiples of 16 bytes.
        let logits = at.tensor(&[32, 50_257], 1, 8.0)?;
        let out = row_loss(logits, &at.ids(32, 50_257)?, 0.9, |row| row.logprobs.sum_all())?;
        Ok(vec![out.loss, out.tokens.logprobs, out.gradient])
    }),
    ("draw_rows, likeliest_rows", |at| {
        let logits = at.tensor(&[64, VOCAB], 1, 8.0)?;
        let uniforms: Vec<f64> = (0..64).map(|i| f64::from(i * 37 % 64) / 64.0).collect();
        let drawn = draw_rows(&logits, 0.9, &uniforms)?.into_iter();
        let ids = drawn.chain(likeliest_rows(&logits)?).map(|id| id.map_or(-1.0, f64::from));
        Ok(vec![Tensor::new(ids.collect::<Vec<f64>>(), &Device::Cpu)?])
    }),
    ("linear_row_loss of f32 rounded to bf16", |at| {
        let Models { hidden, head, ids, .. } = models(at)?;
        let [hidden, head] = [hidden, head].map(|var| Var::from_tensor(&var.to_dtype(DType::F32)?));
        let (hidden, head) = (hidden?, head?);
        let head = Head { products: Products::Bf16, ..Head::from(&head) };
        let out = linear_row_loss(&hidden, head, &ids, 1.0, |_, row| row.logprobs.sum_all())?;
        let gradients = out.hidden_gradient.into_iter().chain(out.head_gradient);
        Ok([out.tokens.logprobs].into_iter().chain(gradients).collect())
    }),
    ("divergence", |at| {
        let (student, teacher) = (at.var(&[8, VOCAB], 1, 6.0)?, at.tensor(&[8, VOCAB], 2, 6.0)?);
        let ids = at.ids(8, VOCAB)?;
        let mut all = Vec::new();
        for kind in KINDS {
            let out = divergence(&student, &teacher, &ids, kind, 1.1)?;
            all.extend(with_gradients(vec![out.divergence, out.student_entropy], &[&student])?);
        }
        Ok(all)
    }),
    ("row_divergence_loss", |at| {
        let (width, ids) = (50_257, at.ids(16, 50_257)?);
        let teacher = at.tensor(&[16, width], 2, 6.0)?;
        let mut all = Vec::new();
        for kind in KINDS {
            let student = at.tensor(&[16, width], 1, 6.0)?;
            let out = row_divergence_loss(student, &teacher, &ids, kind, 1.1, sum)?;
            all.extend([out.loss, out.tokens.divergence, out.gradient]);
        }
        Ok(all)
    }),
    ("linear_token_logprobs", |at| {
        let Models { hidden, head, ids, .. } = &models(at)?;
        let out = linear_token_logprobs(hidden, head, ids, 1.0)?;
        with_gradients(vec![out.logprobs, out.entropy], &[hidden, head])
    }),
    ("linear_token_scores, with a bias", |at| {
        let Models { hidden, head, ids, .. } = &models(at)?;
        let bias = at.var(&[LINEAR_VOCAB], 5, 1.0)?;
        let biased = Head::new(head, Products::Full).with_bias(&bias);
        let out = linear_token_scores(hidden, biased, ids, &TokenOptions::default())?;
        with_gradients(vec![out.logprobs], &[hidden, head, &bias])
    }),
    ("linear_row_loss", |at| {
        let Models { hidden, head, ids, .. } = &models(at)?;
        let loss = linear_row_loss(hidden, head, ids, 1.0, |_, row| row.logprobs.sum_all())?;
        with_gradients(vec![loss.loss], &[hidden, head])
    }),
    ("linear_divergence, linear_divergence_loss", |at| {
        let models = models(at)?;
        let (student, teacher) = models.both();
        let mut all = Vec::new();
        for kind in KINDS {
            let out = linear_divergence(student, teacher, &models.ids, kind, 1.0)?;
            all.extend(with_gradients(vec![out.divergence], &[&models.hidden, &models.head])?);
            let loss = |_, tokens: &DivergenceOutput| sum(tokens);
            let out = linear_divergence_loss(student, teacher, &models.ids, kind, 1.0, loss)?;
            all.extend(with_gradients(vec![out.loss], &[&models.hidden, &models.head])?);
        }
        Ok(all)
    }),
    ("linear_total_variation", |at| {
        // So few ids that no two probabilities are as near as rounding: the gradient jumps there.
        let models = models_of(at, 320)?;
        let (student, teacher) = models.both();
        let out = linear_total_variation(student, teacher, &models.ids, 1.0)?;
        with_gradients(vec![out.divergence], &[&models.hidden, &models.head])
    }),
    ("linear_support_logprobs", |at| {
        let Models { hidden, head, .. } = &models(at)?;
        let chosen = at.ids(ROWS * 8, LINEAR_VOCAB)?.reshape((ROWS, 8))?;
        let out = linear_support_logprobs(hidden, head, &chosen, 1.0)?;
        with_gradients(vec![out.logprobs, out.entropy], &[hidden, head])
    }),
    ("linear_row_logprobs", |at| {
        let Models { hidden, head, .. } = &models(at)?;
        let query = RowQuery { temperature: 0.7, ids: &[3, 36], top: 0, rank: false };
        let answers = linear_row_logprobs(hidden, head, &vec![query; ROWS])?;
        let all: Vec<f32> = answers.into_iter().flat_map(|answer| answer.logprobs).collect();
        Ok(vec![Tensor::from_vec(all, ROWS * 2, &Device::Cpu)?])
    }),
    ("linear_cross_vocabulary", |at| {
        let models = models(at)?;
        let (student, teacher) = models.both();
        let counterparts = (0..LINEAR_VOCAB as u32).map(|id| (id % 3 > 0).then_some(id));
        let how = CrossVocabulary {
            counterparts: counterparts.collect(),
            ..CrossVocabulary::unmatched(LINEAR_VOCAB)
        };
        let out = linear_cross_vocabulary(student, teacher, &models.ids, &how, 1.0)?;
        with_gradients(vec![out.divergence], &[&models.hidden, &models.head])
    }),
];

const ROWS: usize = 300;
const LINEAR_VOCAB: usize = 8001;

struct Models {
    hidden: candle_core::Var,
    head: candle_core::Var,
    their_hidden: Tensor,
    their_head: Tensor,
    ids: Tensor,
}

impl Models {
    fn both(&self) -> (Projection<'_>, Projection<'_>) {
        let teacher = Projection::new(&self.their_hidden, &self.their_head);
        (Projection::new(&self.hidden, &self.head), teacher)
    }
}

fn models(at: &At<'_>) -> Result<Models> {
    models_of(at, LINEAR_VOCAB)
}

fn models_of(at: &At<'_>, vocab: usize) -> Result<Models> {
    Ok(Models {
        hidden: at.var(&[ROWS, 256], 1, 0.5)?,
        head: at.var(&[vocab, 256], 2, 0.5)?,
        their_hidden: at.tensor(&[ROWS, 128], 3, 0.5)?,
        their_head: at.tensor(&[vocab, 128], 4, 0.5)?,
        ids: at.ids(ROWS, vocab)?,
    })
}
