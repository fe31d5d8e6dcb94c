//! The chat format: three special tokens, the Jinja template stored in the GGUF file, and the same
//! rendering in Rust for training and evaluation. A test keeps the two in step.

/// Ends an answer or a paragraph; the file's end-of-sequence token.
pub const END: &str = "<|end|>";
/// Opens what the person says.
pub const USER: &str = "<|user|>";
/// Opens what the model says.
pub const ASSISTANT: &str = "<|assistant|>";
/// The special tokens in the order of their ids, from 0.
pub const SPECIAL_TOKENS: [&str; 3] = [END, USER, ASSISTANT];

/// `tokenizer.chat_template`. System messages are accepted and left out: a model of this size was
/// not taught to follow them.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] == 'user' %}<|user|>{{ message['content'] | trim }}\
{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] | trim }}<|end|>\
{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the person asks.
    pub question: String,
    /// What the model answers.
    pub answer: String,
}

/// The prompt for one question, ready for the model to answer.
pub fn prompt(question: &str) -> String {
    format!("{USER}{}{ASSISTANT}", question.trim())
}

/// A finished turn as the model sees it in training and as earlier history.
pub fn finished_turn(turn: &Turn) -> String {
    format!("{}{}{END}", prompt(&turn.question), turn.answer.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, context};

    fn render(messages: &[(&str, &str)]) -> String {
        let mut environment = Environment::new();
        environment.set_lstrip_blocks(true);
        environment.set_trim_blocks(true);
        environment.add_template("chat", CHAT_TEMPLATE).unwrap();
        let messages: Vec<_> = messages
            .iter()
            .map(|(role, content)| context! { role => role, content => content })
            .collect();
        environment
            .get_template("chat")
            .unwrap()
            .render(context! { messages, add_generation_prompt => true })
            .unwrap()
    }

    #[test]
    fn template_renders_a_single_question_as_in_training() {
        assert_eq!(
            render(&[("user", " What is MNEMOS?\n")]),
            prompt("What is MNEMOS?")
        );
    }

    #[test]
    fn template_renders_history_as_in_training() {
        let first = Turn {
            question: "One?".into(),
            answer: "Yes.".into(),
        };
        let expected = finished_turn(&first) + &prompt("Two?");
        let rendered = render(&[("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]);
        assert_eq!(rendered, expected);
    }

    #[test]
    fn template_leaves_system_messages_out() {
        assert_eq!(
            render(&[("system", "Be brief."), ("user", "Hi")]),
            prompt("Hi")
        );
    }
}
