//! `mnemos-selftest-model`: trains, evaluates and questions the self-test model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mnemos_selftest_model::batch::Documents;
use mnemos_selftest_model::corpus::Corpus;
use mnemos_selftest_model::error::{SelftestError, chain};
use mnemos_selftest_model::eval::{self, Evaluation};
use mnemos_selftest_model::infer::Quantized;
use mnemos_selftest_model::report::{self, Record};
use mnemos_selftest_model::shape::Shape;
use mnemos_selftest_model::{gguf, tokenizer, train};

/// Most tokens the tokenizer may have.
const VOCABULARY: usize = 2048;

/// Trains, evaluates and questions the self-test model.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains the model and writes model.gguf, model.json, tokenizer.json and TRAINING.md. Goes on
    /// from the directory's checkpoint if there is one.
    Train {
        /// Directory of the training text.
        #[arg(long, default_value = "selftest/corpus")]
        corpus: PathBuf,
        /// Directory to write to.
        #[arg(long)]
        out: PathBuf,
        /// Training steps.
        #[arg(long)]
        steps: usize,
        /// Seed of weights and order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measures a written model on the held-out text and renews its model.json.
    Eval {
        /// Directory of the training text.
        #[arg(long, default_value = "selftest/corpus")]
        corpus: PathBuf,
        /// Directory of the model.
        #[arg(long, default_value = "selftest/model")]
        model: PathBuf,
    },
    /// Answers questions greedily.
    Ask {
        /// Directory of the model.
        #[arg(long, default_value = "selftest/model")]
        model: PathBuf,
        /// The questions.
        questions: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Train {
            corpus,
            out,
            steps,
            seed,
        } => train(&corpus, &out, steps, seed),
        Command::Eval { corpus, model } => evaluate(&corpus, &model),
        Command::Ask { model, questions } => ask(&model, &questions),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn train(corpus: &Path, out: &Path, steps: usize, seed: u64) -> Result<(), SelftestError> {
    let corpus = Corpus::read(corpus)?;
    fs::create_dir_all(out).map_err(|source| SelftestError::Write {
        path: out.into(),
        source,
    })?;
    let texts = report::tokenizer_texts(&corpus);
    let tokenizer = tokenizer::train(&texts, VOCABULARY)?;
    tokenizer::write(&tokenizer, &out.join("tokenizer.json"))?;
    let parts = tokenizer::gguf_parts(&tokenizer)?;
    let shape = Shape::selftest(parts.tokens.len());
    println!(
        "{} parameters, vocabulary {}",
        shape.parameters(),
        shape.vocabulary
    );
    let mut documents = Documents::new(&tokenizer, &corpus.training, seed);
    println!("{} documents in one pass", documents.epoch_documents());
    let (weights, run) = train::run(shape, &mut documents, (steps, seed), out)?;
    let model = out.join("model.gguf");
    gguf::write(&weights, &parts, &model)?;
    let evaluation = eval::evaluate(&model, &tokenizer, &corpus.training, &corpus.held_out)?;
    print(&evaluation);
    let mut corpus_tokens = 0;
    for text in &texts {
        corpus_tokens += tokenizer::encode(&tokenizer, text)?.len();
    }
    let hashes = [
        ("model.gguf", report::sha256(&model)?),
        (
            "tokenizer.json",
            report::sha256(&out.join("tokenizer.json"))?,
        ),
    ];
    let record = Record {
        run: &run,
        corpus: &corpus,
        shape: &shape,
        evaluation: &evaluation,
        hashes: &hashes,
        corpus_tokens,
    };
    write(&out.join("TRAINING.md"), &report::training_md(&record))?;
    describe(&shape, &evaluation, out)
}

/// Writes `model.json` for the weights in `folder`, with the cases that `evaluation` proves safe.
fn describe(shape: &Shape, evaluation: &Evaluation, folder: &Path) -> Result<(), SelftestError> {
    let sha256 = report::sha256(&folder.join("model.gguf"))?;
    let cases = eval::choose_cases(&evaluation.outcomes, eval::CASES)?;
    write(
        &folder.join("model.json"),
        &report::model_json(shape, &sha256, &cases)?,
    )
}

/// Measures, and renews `model.json`.
fn evaluate(corpus: &Path, folder: &Path) -> Result<(), SelftestError> {
    let corpus = Corpus::read(corpus)?;
    let tokenizer = tokenizer::read(&folder.join("tokenizer.json"))?;
    let shape = Shape::selftest(tokenizer::gguf_parts(&tokenizer)?.tokens.len());
    let model = folder.join("model.gguf");
    let evaluation = eval::evaluate(&model, &tokenizer, &corpus.training, &corpus.held_out)?;
    print(&evaluation);
    describe(&shape, &evaluation, folder)
}

fn ask(model: &Path, questions: &[String]) -> Result<(), SelftestError> {
    let tokenizer = tokenizer::read(&model.join("tokenizer.json"))?;
    let model = Quantized::read(&model.join("model.gguf"))?;
    for question in questions {
        let answer = eval::answer(&model, &tokenizer, question)?;
        println!(
            "{question}\n  {}\n  margin {:.2}",
            answer.text, answer.margin
        );
    }
    Ok(())
}

fn print(evaluation: &Evaluation) {
    for outcome in &evaluation.outcomes {
        println!("{}", report::outcome_line(outcome));
    }
    let right = evaluation
        .outcomes
        .iter()
        .filter(|outcome| outcome.is_right())
        .count();
    println!(
        "held-out questions answered exactly: {right} of {}",
        evaluation.outcomes.len()
    );
    for (name, loss) in [
        (
            "answers to training questions",
            &evaluation.training_answers,
        ),
        (
            "answers to held-out questions",
            &evaluation.held_out_answers,
        ),
        ("held-out paragraphs", &evaluation.held_out_paragraphs),
    ] {
        println!(
            "{name}: {:.3} nats, perplexity {:.2}, {} tokens",
            loss.nats,
            loss.perplexity(),
            loss.tokens
        );
    }
}

fn write(path: &Path, text: &str) -> Result<(), SelftestError> {
    fs::write(path, text).map_err(|source| SelftestError::Write {
        path: path.into(),
        source,
    })
}
