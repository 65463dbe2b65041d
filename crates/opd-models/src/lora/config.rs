use crate::{Error, Result};

/// A linear layer of every block that can have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraTarget {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// What attention writes to the residual stream.
    OProj,
    /// The gate of the feed-forward.
    GateProj,
    /// What the gate lets through.
    UpProj,
    /// What the feed-forward writes to the residual stream.
    DownProj,
}

/// What stands for every target, as in `peft`.
pub const ALL_LINEAR: &str = "all-linear";

impl LoraTarget {
    /// Every linear layer of a block.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// Its name in the Hugging Face layout.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }

    /// The targets of these names, each once; `all-linear` is all of them, and so is an empty
    /// list.
    ///
    /// # Errors
    ///
    /// [`Error::Lora`] naming the first that is unknown.
    pub fn of_names<S: AsRef<str>>(names: &[S]) -> Result<Vec<Self>> {
        let mut targets = Vec::new();
        for name in names {
            let name = name.as_ref();
            let found =
                Self::ALL.into_iter().filter(|target| name == ALL_LINEAR || name == target.name());
            let before = targets.len();
            targets.extend(found);
            if targets.len() == before {
                return Err(Error::Lora { what: unknown(name) });
            }
        }
        if names.is_empty() {
            targets.extend(Self::ALL);
        }
        targets.sort();
        targets.dedup();
        Ok(targets)
    }
}

fn unknown(name: &str) -> String {
    let known = LoraTarget::ALL.map(LoraTarget::name).join(", ");
    format!("target module `{name}` is unknown; there are {known} and {ALL_LINEAR}")
}

/// Low-rank adapters on linear layers whose weights are frozen.
///
/// ```text
/// y = W x + b + scale * up (down x)
/// scale = alpha / rank,   with rsLoRA alpha / sqrt(rank)
/// ```
///
/// `down` is `[rank, K]` (`lora_A` in `peft`), `up` is `[N, rank]` (`lora_B`).
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>; rsLoRA: Kalajdzievski 2023,
/// <https://arxiv.org/abs/2312.03732>.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Columns of `up`.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Which layers have an adapter.
    pub targets: Vec<LoraTarget>,
    /// Whether the scale falls with the root of the rank.
    pub rslora: bool,
}

impl LoraConfig {
    /// What an adapter's product is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Lora { what });
        if self.rank == 0 {
            return bad("rank must be at least 1, got 0".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return bad(format!("alpha must be finite and above 0, got {}", self.alpha));
        }
        match self.targets.is_empty() {
            true => bad("there are no target modules".into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_peft() {
        assert_eq!(LoraTarget::of_names::<&str>(&[]).unwrap(), LoraTarget::ALL);
        assert_eq!(LoraTarget::of_names(&["all-linear"]).unwrap(), LoraTarget::ALL);
        let two = LoraTarget::of_names(&["v_proj", "q_proj", "v_proj"]).unwrap();
        assert_eq!(two, [LoraTarget::QProj, LoraTarget::VProj]);
        let error = LoraTarget::of_names(&["q_proj", "lm_head"]).unwrap_err().to_string();
        let expected = "LoRA: target module `lm_head` is unknown; there are q_proj, k_proj, \
                        v_proj, o_proj, gate_proj, up_proj, down_proj and all-linear";
        assert_eq!(error, expected);
    }

    #[test]
    fn the_scale_falls_with_the_rank() {
        let config = |rslora| LoraConfig { rank: 16, alpha: 32.0, targets: vec![], rslora };
        assert_eq!(config(false).scale(), 2.0);
        assert_eq!(config(true).scale(), 8.0);
    }
}
