//! slime's two example scripts with nothing but their paths changed.

use std::{fs, path::PathBuf};

use opd_pocket::DataSizes;
use opd_train::config::{
    AggregationKind, EstimatorKind, LossKind, OldLogprobs, Schedule, TeacherKind, TrainConfig,
};

use crate::command::{Ran, Workplace, records};

const SGLANG: &str = include_str!("../data/slime/sglang.args");
const MEGATRON: &str = include_str!("../data/slime/megatron.args");

/// Models and prompts, the student with a chat template.
fn place(work: &Workplace) -> [String; 3] {
    let sizes = DataSizes { train: 12, validation: 1, test: 4 };
    let layout = opd_pocket::materialize_with(&work.path("inputs"), sizes).unwrap();
    fs::write(layout.student.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    [layout.student, layout.teacher, layout.train].map(|path| path.display().to_string())
}

/// The words of a script, its paths changed.
fn script(text: &str, [student, teacher, prompts]: &[String; 3]) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let text = lines
        .join(" ")
        .replace(
            "--opd-teacher-load /root/Qwen3-8B_torch_dist",
            &format!("--opd-teacher-load {teacher}"),
        )
        .replace("/root/Qwen3-8B_torch_dist", student)
        .replace("/root/Qwen3-8B_slime/", "run")
        .replace("/root/Qwen3-8B", student)
        .replace("/root/dapo-math-17k/dapo-math-17k.jsonl", prompts);
    text.split_whitespace().map(str::to_owned).collect()
}

fn train(work: &Workplace, words: &[String], more: &str) -> Ran {
    let more = more.split_whitespace().map(str::to_owned);
    work.opd(["train".to_owned()].into_iter().chain(words.iter().cloned()).chain(more))
}

#[test]
fn both_scripts_resolve_to_what_they_say() {
    let work = Workplace::new();
    let paths = place(&work);
    for (text, kind) in [(SGLANG, TeacherKind::Sglang), (MEGATRON, TeacherKind::InProcess)] {
        let ran = train(&work, &script(text, &paths), "--print-config").succeeds();
        let config: TrainConfig = toml::from_str(&ran.stdout).unwrap();
        let distillation = config.distillation.unwrap();
        assert_eq!((distillation.kind, distillation.kl_coef), (kind, 1.0));
        match kind {
            TeacherKind::InProcess => {
                assert_eq!(distillation.teacher, Some(PathBuf::from(&paths[1])));
            }
            _ => assert_eq!(distillation.urls, ["http://127.0.0.1:13141/generate"]),
        }
        assert_eq!(config.student.path, PathBuf::from(&paths[0]));
        assert_eq!(config.student.reference, None);
        assert_eq!((config.steps, config.seed), (300, 42));
        let rollout = &config.rollout;
        assert_eq!((rollout.prompts, rollout.samples_per_prompt), (16, 4));
        assert_eq!((rollout.max_response_tokens, rollout.temperature), (16_384, 1.0));
        assert!(rollout.shuffle && config.data.chat_template);
        assert_eq!(config.data.input_key, "prompt");
        let objective = &config.objective;
        assert_eq!(objective.estimator, EstimatorKind::Zero);
        assert_eq!(objective.loss, LossKind::PpoClip);
        assert_eq!((objective.clip.below, objective.clip.above), (0.2, 0.2));
        assert_eq!(objective.aggregation, AggregationKind::SequenceMeanTokenMean);
        assert_eq!(objective.old_logprobs, OldLogprobs::Recompute);
        assert_eq!((objective.kl_loss_coef, objective.entropy_coef), (0.0, 0.0));
        let optimizer = &config.optimizer;
        assert_eq!((optimizer.lr, optimizer.weight_decay), (1e-6, 0.1));
        assert_eq!((optimizer.beta1, optimizer.beta2), (0.9, 0.98));
        assert_eq!((optimizer.schedule, optimizer.clip_grad), (Schedule::Constant, Some(1.0)));
        assert_eq!((optimizer.updates_per_batch, optimizer.token_budget), (1, 16_384));
        assert_eq!(config.checkpoints.interval, 20);
        for note in [
            "--defaults slime",
            "--tensor-model-parallel-size",
            "one process holds the whole model",
            "--sglang-mem-fraction-static",
            "--num-layers, --hidden-size",
            "the estimator `zero`",
        ] {
            assert!(ran.stderr.contains(note), "{note} is not in {}", ran.stderr);
        }
    }
}

/// The line of `docs/from-slime.md`.
#[test]
fn our_own_line_is_that_of_the_script() {
    let work = Workplace::new();
    let paths = place(&work);
    let text = include_str!("../../../../docs/from-slime.md");
    let line = text.split_once("opd train --defaults slime").unwrap().1;
    let line = line.split_once("```").unwrap().0.replace('\\', "");
    let line = line.replace("Qwen3-8B ", &format!("{} ", paths[0]));
    let line = line.replace("dapo-math-17k.jsonl", &paths[2]).replace("runs/qwen3-8b", "run");
    let ours = work.line(&format!("train --defaults slime {line} --print-config")).succeeds();
    let theirs = train(&work, &script(SGLANG, &paths), "--print-config").succeeds();
    assert_eq!(ours.stdout, theirs.stdout);
}

#[test]
fn a_script_trains_and_goes_on() {
    let work = Workplace::new();
    let paths = place(&work);
    let words = script(MEGATRON, &paths);
    let small = "--num-rollout 3 --rollout-batch-size 2 --n-samples-per-prompt 2 \
                 --global-batch-size 2 --rollout-max-response-len 10 --save-interval 2 --quiet";
    train(&work, &words, small).succeeds();
    let lines = records(&work.path("run/metrics.jsonl"));
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["reverse_kl"].as_f64().unwrap().is_finite()));
    // The same line again goes on with the run, which is finished.
    let again = train(&work, &words, small).succeeds();
    assert!(again.stdout.contains("in 3 steps"), "{again:?}");
    train(&work, &words, &format!("{small} --lr 1e-5"))
        .fails(2, &["--continue", "optimizer.lr (there 0.000001)"]);
}

#[test]
fn the_errors_of_its_faq_are_errors_here() {
    let work = Workplace::new();
    let paths = place(&work);
    let without = |text: &str, flag: &str| {
        let words = script(text, &paths);
        let at = words.iter().position(|word| word == flag).unwrap();
        [&words[..at], &words[at + 2..]].concat()
    };
    train(&work, &without(MEGATRON, "--opd-type"), "")
        .fails(2, &["--use-opd without --opd-type", "--opd-type in-process", "--opd-type sglang"]);
    train(&work, &without(MEGATRON, "--opd-teacher-load"), "")
        .fails(2, &["distillation.teacher is not set", "--opd-teacher-load DIR"]);
    train(&work, &script(SGLANG, &paths), &format!("--opd-teacher-load {}", paths[1]))
        .fails(2, &["--opd-teacher-load goes with --opd-type in-process, not with sglang"]);
    let words = script(MEGATRON, &paths);
    let no_opd: Vec<String> = words.iter().filter(|word| *word != "--use-opd").cloned().collect();
    train(&work, &no_opd, "").fails(2, &["--opd-teacher-load without --use-opd"]);
    train(&work, &words, "--opd-teacher-load nowhere")
        .fails(2, &["--opd-teacher-load", "nowhere is not a directory"]);
    train(&work, &words, "--rollout-temperature 0").fails(2, &["--rollout-temperature", "above 0"]);
    assert!(!work.path("run").exists());
}

#[test]
fn a_chat_template_writes_the_prompts() {
    let work = Workplace::new();
    let [student, teacher, _] = place(&work);
    let conversation = r#"{"prompt": [{"role": "user", "content": "1"}]}"#;
    work.write("chat.jsonl", &format!("{conversation}\n{{\"prompt\": \"2\"}}\n"));
    let line = format!(
        "train --hf-checkpoint {student} --prompt-data chat.jsonl --use-opd --opd-type in-process \
         --opd-teacher-load {teacher} --steps 1 --rollout-batch-size 2 --n-samples-per-prompt 1 \
         --rollout-max-response-len 4 --rollout-shuffle=false --dump-rollouts --quiet"
    );
    work.line(&format!("{line} --output plain"))
        .fails(1, &["chat.jsonl:1: the prompt is a list of messages", "--apply-chat-template"]);
    fs::write(format!("{student}/chat_template.jinja"), "{{ messages[0].content }}3").unwrap();
    work.line(&format!("{line} --apply-chat-template --output chat")).succeeds();
    let rollouts = records(&work.path("chat/rollouts/step-1.jsonl"));
    let prompts: Vec<&str> =
        rollouts.iter().map(|rollout| rollout["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["13", "23"]);
    fs::remove_file(format!("{student}/chat_template.jinja")).unwrap();
    work.line(&format!("{line} --apply-chat-template --output none"))
        .fails(1, &["the model has no chat template"]);
}
