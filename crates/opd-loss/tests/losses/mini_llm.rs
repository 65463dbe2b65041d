//! MiniLLM: golden values of a float64 script, and central differences on both sides of every
//! branch.

use candle_core::{DType, Device, Tensor};
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch};
use opd_loss::{
    Aggregation, Clip, Error, LossBatch, MiniLlm, Objective, ObjectiveInputs, ObjectiveOutput,
    TeacherStates,
};
use serde_json::Value;

use super::{assert_close, golden, gradient, scalar, var};

const DATA: &str = include_str!("../data/mini_llm.json");

/// A model whose hidden states are its logits.
struct Case {
    objective: MiniLlm,
    batch: LossBatch,
    temperature: f64,
    student: Vec<f64>,
    teacher: Vec<f64>,
    vocab: usize,
    loss: f64,
    gradient: Vec<f64>,
    branches: Vec<String>,
}

impl Case {
    fn read(json: &Value) -> Self {
        let number = |name: &str| json[name].as_f64().unwrap();
        let rows = json["rows"].as_array().unwrap();
        let floats = |row: &Value, name: &str| -> Vec<f32> {
            golden::numbers(&row[name]).into_iter().map(|x| x as f32).collect()
        };
        let rollouts = rows.iter().map(|row| Rollout {
            prompt: vec![0],
            response: golden::numbers(&row["ids"]).into_iter().map(|id| id as u32).collect(),
            sampler_logprobs: floats(row, "sampler"),
            loss_mask: Some(
                row["mask"].as_array().unwrap().iter().map(|m| m.as_bool().unwrap()).collect(),
            ),
            ..Rollout::default()
        });
        let rollouts = RolloutBatch::from_rollouts(rollouts.collect()).unwrap();
        let stream = |name: &str| Ragged::from_rows(rows.iter().map(|row| floats(row, name)));
        let scored = ScoredBatch::new(&rollouts, stream("old")).unwrap();
        let batch = LossBatch::new(&scored, stream("advantages"), &Aggregation::TokenMean);
        let flat = |name: &str| rows.iter().flat_map(|row| golden::numbers(&row[name])).collect();
        let clip = Clip { below: number("below") as f32, above: number("above") as f32 };
        let branches = json["branches"].as_array().unwrap().iter();
        Self {
            objective: MiniLlm::new(number("coef"), clip).unwrap(),
            batch: batch.unwrap(),
            temperature: number("temperature"),
            student: flat("student_logits"),
            teacher: flat("teacher_logits"),
            vocab: rows[0]["student_logits"][0].as_array().unwrap().len(),
            loss: number("loss"),
            gradient: golden::numbers(&json["grad"]),
            branches: branches.map(|b| b.as_str().unwrap().to_owned()).collect(),
        }
    }

    fn all() -> Vec<Self> {
        let data: Value = serde_json::from_str(DATA).unwrap();
        data["cases"].as_array().unwrap().iter().map(Self::read).collect()
    }

    fn compute(&self, student: &[f64], dtype: DType) -> (ObjectiveOutput, Vec<f64>) {
        let shape = (student.len() / self.vocab, self.vocab);
        let identity = Tensor::eye(self.vocab, dtype, &Device::Cpu).unwrap();
        let student = var(student, shape, dtype);
        let teacher = var(&self.teacher, shape, dtype).as_detached_tensor();
        let inputs = ObjectiveInputs {
            hidden: &student,
            head: (&identity).into(),
            temperature: self.temperature,
            batch: &self.batch,
            teacher: Some(TeacherStates { hidden: &teacher, head: (&identity).into() }),
        };
        let output = self.objective.compute(&inputs).unwrap();
        let gradient = gradient(&output.loss, &student);
        (output, gradient)
    }
}

#[test]
fn golden_values_enter_every_branch() {
    let mut branches = std::collections::BTreeSet::new();
    for (i, case) in Case::all().into_iter().enumerate() {
        let largest = case.gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
        // The bounds of the clip are f32, those of the script f64.
        for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 2e-5)] {
            let (output, gradient) = case.compute(&case.student, dtype);
            let what = format!("case {i}, {dtype:?}");
            assert_close(&what, &[scalar(&output.loss)], &[case.loss], |x| tolerance * x.abs());
            assert_close(&what, &gradient, &case.gradient, |_| tolerance * largest);
        }
        branches.extend(case.branches);
    }
    let sides = ["low", "inside", "high"];
    let all = sides.into_iter().flat_map(|side| [-1, 0, 1].map(|sign| format!("{side} {sign}")));
    assert_eq!(branches, all.collect());
}

#[test]
fn central_differences_on_both_sides_of_every_branch() {
    const STEP: f64 = 1e-6;
    for (i, case) in Case::all().into_iter().enumerate() {
        let (_, analytic) = case.compute(&case.student, DType::F64);
        for (v, analytic) in analytic.into_iter().enumerate() {
            let at = |step: f64| {
                let mut student = case.student.clone();
                student[v] += step;
                scalar(&case.compute(&student, DType::F64).0.loss)
            };
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let off = (analytic - numeric).abs();
            assert!(off < 1e-7, "case {i}, logit {v}: {analytic} and {numeric}");
        }
    }
}

#[test]
fn settings_and_missing_parts_are_named() {
    let clip = Clip { below: 0.2, above: 0.2 };
    for coef in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(MiniLlm::new(coef, clip), Err(Error::Setting { .. })), "{coef}");
    }
    assert!(MiniLlm::new(1.0, Clip { below: 2.0, above: 0.2 }).is_err());
    assert!(MiniLlm::new(1.0, clip).unwrap().with_entropy(f64::NAN).is_err());

    let case = Case::all().remove(0);
    let identity = Tensor::eye(case.vocab, DType::F64, &Device::Cpu).unwrap();
    let shape = (case.student.len() / case.vocab, case.vocab);
    let student = var(&case.student, shape, DType::F64);
    let error = case.objective.compute(&ObjectiveInputs {
        hidden: &student,
        head: (&identity).into(),
        temperature: 1.0,
        batch: &case.batch,
        teacher: None,
    });
    assert!(matches!(error, Err(Error::MissingTeacher { objective: "mini_llm" })));
}
