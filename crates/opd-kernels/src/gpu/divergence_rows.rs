use candle_core::Tensor;

use super::{Arg, Gpu, Grid, Module, accumulator, empty, launch, launch::module, suffix};
use crate::{Divergence, Result, cpu::divergence_rows::STATISTICS};

static MODULE: Module = module!("divergence_rows");

const OP: &str = "divergence";

/// Most threads of a block; as in the kernels. Blocks this small leave room for another on the same processor, whose
/// reads go on while the first adds up.
const THREADS: usize = 256;

/// A divergence as the kernels know it: the number of its measure, and the parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(usize, f64);

impl Kind {
    /// The total variation distance.
    pub(crate) const TOTAL_VARIATION: Self = Self(5, 0.0);
}

impl From<Divergence> for Kind {
    fn from(divergence: Divergence) -> Self {
        match divergence {
            Divergence::Jsd { beta } if beta > 0.0 && beta < 1.0 => Self(2, beta),
            Divergence::SkewForwardKl { alpha } if alpha > 0.0 => Self(3, alpha),
            Divergence::SkewReverseKl { alpha } if alpha > 0.0 => Self(4, 1.0 - alpha),
            Divergence::ForwardKl | Divergence::SkewForwardKl { .. } => Self(0, 0.0),
            Divergence::Jsd { beta: 0.0 } => Self(0, 0.0),
            Divergence::ReverseKl | Divergence::SkewReverseKl { .. } | Divergence::Jsd { .. } => {
                Self(1, 0.0)
            }
        }
    }
}

/// Rows of logits of two models over one vocabulary; all contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) student: &'a Tensor,
    pub(crate) teacher: &'a Tensor,
    pub(crate) ids: &'a Tensor,
    pub(crate) kind: Kind,
    pub(crate) temperature: f64,
}

impl Rows<'_> {
    fn scalars(&self) -> Result<[Arg<'_>; 5]> {
        let (rows, width) = self.student.dims2()?;
        let Kind(kind, beta) = self.kind;
        let temperature = Arg::Float(self.temperature);
        Ok([Arg::Int(rows), Arg::Int(width), temperature, Arg::Int(kind), Arg::Float(beta)])
    }

    fn grid(&self) -> Result<Grid> {
        let (rows, width) = self.student.dims2()?;
        let grid = Grid::rows(rows, width);
        Ok(Grid { threads: grid.threads.min(THREADS), ..grid })
    }

    /// Statistics `[10, T]` in f32: divergence, entropy, log-probs of the id under both, then what the
    /// backward reads.
    pub(crate) fn forward(&self, gpu: &Gpu) -> Result<Tensor> {
        let (rows, dtype) = (self.student.dims()[0], self.student.dtype());
        let out = empty((STATISTICS, rows), accumulator(dtype), self.student.device())?;
        let kernel = format!("divergence_forward_{}", suffix(OP, "student", dtype)?);
        let mut args = vec![
            Arg::Read(self.student),
            Arg::Read(self.teacher),
            Arg::Read(self.ids),
            Arg::Write(&out),
        ];
        args.extend(self.scalars()?);
        launch(gpu, OP, &MODULE, &kernel, self.grid()?, &args)?;
        Ok(out)
    }

    /// Gradient of the student's logits, into `out`, which may share their memory.
    pub(crate) fn backward(
        &self,
        gpu: &Gpu,
        saved: &Tensor,
        upstream: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let from = suffix(OP, "student", self.student.dtype())?;
        let kernel = match self.student.dtype() == out.dtype() {
            true => format!("divergence_backward_{from}"),
            false => format!("divergence_backward_{from}_{}", suffix(OP, "out", out.dtype())?),
        };
        let mut args = vec![
            Arg::Read(self.student),
            Arg::Read(self.teacher),
            Arg::Read(self.ids),
            Arg::Read(saved),
            Arg::Read(upstream),
            Arg::Write(out),
        ];
        args.extend(self.scalars()?);
        launch(gpu, OP, &MODULE, &kernel, self.grid()?, &args)
    }
}
