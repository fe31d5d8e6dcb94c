// The chat box: sends a message, shows the answer as it streams, and can stop it.

import { ApiError, asSentence, request } from "./api.js";
import { events } from "./sse.js";

const element = (id) => document.getElementById(id);
const SUGGESTIONS = ["What is MNEMOS?", "Why does the page say EPHEMERAL?", "How do I power off the node?"];
const MAX_TOKENS = 256;

export class Chat {
  constructor(onTokenError) {
    this.onTokenError = onTokenError;
    this.messages = [];
    this.abort = null;
    this.engines = [];
    /** Tokens seen since the rate was last asked for. */
    this.tokens = 0;
    element("chat-form").addEventListener("submit", (event) => this.submit(event));
    element("stop").addEventListener("click", () => this.stop());
    element("clear").addEventListener("click", () => this.clear());
    element("model").addEventListener("change", () => this.showModel());
    element("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      element("chat-form").requestSubmit();
    });
    for (const text of SUGGESTIONS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => this.send(text));
      element("suggestions").append(button);
    }
  }

  /** The engines that exist now; only ready ones can be asked. */
  setEngines(engines) {
    this.engines = engines.filter((engine) => engine.state === "ready");
    const names = this.engines.map((engine) => engine.model);
    const select = element("model");
    const chosen = select.value;
    if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
      if (names.includes(chosen)) select.value = chosen;
    }
    element("model-choice").hidden = names.length < 2;
    this.showModel();
  }

  engine() {
    return this.engines.find((engine) => engine.model === element("model").value) ?? this.engines[0];
  }

  showModel() {
    const engine = this.engine();
    const selfTest = Boolean(engine?.self_test);
    element("model-note").hidden = !selfTest;
    element("suggestions").hidden = !selfTest || this.messages.length > 0;
    element("send").disabled = !engine || this.abort !== null;
    element("chat-hint").textContent = engine
      ? `Enter sends, Shift+Enter starts a new line.${selfTest ? " Each message is answered on its own." : ""}`
      : "No model is ready. As soon as one is, you can send.";
  }

  submit(event) {
    event.preventDefault();
    const text = element("prompt").value.trim();
    if (text === "" || element("send").disabled) return;
    element("prompt").value = "";
    this.send(text);
  }

  async send(text) {
    const engine = this.engine();
    if (!engine || this.abort) return;
    this.abort = new AbortController();
    this.busy(true);
    this.add("user", text);
    this.messages.push({ role: "user", content: text });
    const answer = this.add("node", "");
    try {
      const content = await this.stream(engine, answer);
      this.messages.push({ role: "assistant", content });
    } catch (error) {
      this.messages.pop();
      this.fail(answer, error);
    } finally {
      this.abort = null;
      this.busy(false);
    }
  }

  /** Streams one answer into `answer` and returns its text. */
  async stream(engine, answer) {
    const body = {
      model: engine.model,
      messages: this.messages,
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: MAX_TOKENS,
    };
    if (engine.self_test) {
      // It was never taught to follow a conversation, and chance only makes it worse.
      body.messages = this.messages.slice(-1);
      body.temperature = 0;
    }
    const response = await request("/v1/chat/completions", { body, signal: this.abort.signal });
    let firstAt = null;
    let finish = null;
    let usage = null;
    for await (const data of events(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError("refused", asSentence(chunk.error.message ?? "The answer broke off"));
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      finish = choice?.finish_reason ?? finish;
      const piece = choice?.delta?.content;
      if (piece) {
        firstAt ??= performance.now();
        this.tokens += 1;
        this.append(answer, piece);
      }
    }
    if (finish === null) throw new ApiError("unreachable", "The connection ended before the answer did.");
    this.note(answer, summary(finish, usage, firstAt));
    return answer.text.textContent;
  }

  stop() {
    this.abort?.abort();
  }

  clear() {
    this.stop();
    this.messages = [];
    for (const message of element("log").querySelectorAll(".message")) message.remove();
    element("log-empty").hidden = false;
    this.showModel();
    element("prompt").focus();
  }

  /** Tokens seen since the last call. */
  takeTokens() {
    const tokens = this.tokens;
    this.tokens = 0;
    return tokens;
  }

  busy(isBusy) {
    element("stop").hidden = !isBusy;
    element("send").hidden = isBusy;
    // Screen readers speak the answer when it is complete, not word by word.
    element("log").setAttribute("aria-busy", String(isBusy));
    this.showModel();
  }

  add(who, text) {
    element("log-empty").hidden = true;
    const box = document.createElement("div");
    box.className = `message ${who}`;
    const content = document.createElement("p");
    content.textContent = text;
    if (who === "node") content.className = "waiting";
    box.append(content);
    element("log").append(box);
    scrollToEnd();
    return { box, text: content };
  }

  append(answer, piece) {
    answer.text.textContent += piece;
    scrollToEnd();
  }

  note(answer, text) {
    answer.text.classList.remove("waiting");
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    answer.box.append(note);
    scrollToEnd();
  }

  fail(answer, error) {
    if (error.name === "AbortError") {
      this.note(answer, "Stopped.");
      return;
    }
    answer.box.classList.add("failed");
    const broken = error instanceof ApiError ? error.message : "The connection broke. Send the message again.";
    const hint = error.code === "context_length_exceeded" ? " Clear the conversation or send less." : "";
    this.note(answer, broken + hint);
    if (error.kind === "token") this.onTokenError(error);
  }
}

const FINISHES = { length: "cut at the token limit", stop: "complete" };

function summary(finish, usage, firstAt) {
  const parts = [];
  if (usage) {
    const seconds = (performance.now() - firstAt) / 1000;
    const rate = firstAt !== null && seconds > 0 ? (usage.completion_tokens - 1) / seconds : 0;
    parts.push(`${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written`);
    if (rate > 0 && Number.isFinite(rate)) parts.push(`${rate.toFixed(1)} tokens/s`);
  }
  parts.push(FINISHES[finish] ?? finish);
  return parts.join(" · ");
}

function scrollToEnd() {
  const log = element("log");
  log.scrollTop = log.scrollHeight;
}
