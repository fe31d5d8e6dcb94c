// Shows a status of the node. Text from the node only ever becomes text.

import { asSentence } from "./api.js";

const element = (id) => document.getElementById(id);

function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Fills a list inside a notice and hides the notice while the list is empty. */
function notice(id, sentences) {
  element(id).hidden = sentences.length === 0;
  replaceIfChanged(element(`${id}-list`), sentences, (sentence) => make("li", asSentence(sentence)));
}

/** Rebuilds children only when what they show changed, so that selections and screen readers are left alone. */
function replaceIfChanged(parent, items, build) {
  const key = JSON.stringify(items);
  if (parent.shown === key) return;
  parent.shown = key;
  parent.replaceChildren(...items.map(build));
}

export function show(status) {
  document.title = `${status.name} · MNEMOS`;
  element("name").textContent = status.name;
  element("summary").textContent = `MNEMOS ${status.version}, up ${duration(status.uptime_s)}`;
  pill(status.ready ? "Ready" : "Not ready", status.ready ? "good" : "");
  element("ephemeral").hidden = !status.ephemeral;
  notice("missing", status.ready ? [] : status.missing);
  notice("problems", status.problems);
  engines(status.engines);
  selfTest(status.self_test);
  memory(status.memory);
  trust(status);
  services(status.services, status.uptime_s);
  element("foot").textContent = `${status.cpu.model}, ${status.cpu.threads} threads. Node time ${status.time}.`;
}

export function pill(text, className) {
  const ready = element("ready-pill");
  if (ready.textContent !== text) ready.textContent = text;
  ready.className = `pill ${className}`;
}

const ENGINE_STATES = {
  starting: ["warn", "loading"],
  ready: ["good", "ready"],
  down: ["bad", "not running, is restarted"],
  cannot_run: ["bad", "cannot run on this machine"],
};

function engines(list) {
  element("no-engine").hidden = list.length > 0;
  replaceIfChanged(element("engines"), list, (engine) => {
    const box = make("div", undefined, "engine");
    const [className, word] = ENGINE_STATES[engine.state] ?? ["warn", engine.state];
    box.append(make("h3", engine.model || engine.instance));
    const facts = make("dl", undefined, "facts");
    const state = make("dd");
    state.append(make("span", word, `state ${className}`));
    facts.append(make("dt", "State"), state);
    if (engine.detail) facts.append(make("dt", "Why"), make("dd", engine.detail));
    if (engine.self_test) facts.append(make("dt", "Purpose"), make("dd", "self-test, not an assistant"));
    fact(facts, "Context", engine.context_tokens, (tokens) => `${tokens} tokens`);
    fact(facts, "Size", engine.model_bytes, bytes);
    fact(facts, "Loaded in", engine.load_ms, (ms) => `${(ms / 1000).toFixed(1)} s`);
    fact(facts, "Engine", engine.engine, (name) => `${name}${engine.threads ? `, ${engine.threads} threads` : ""}`);
    if (engine.state === "ready") {
      facts.append(make("dt", "Requests"), make("dd", `${engine.running ?? 0} running, ${engine.waiting ?? 0} waiting`));
    }
    box.append(facts);
    return box;
  });
}

function fact(list, label, value, format) {
  if (value) list.append(make("dt", label), make("dd", format(value)));
}

const SELF_TEST_STATES = { pending: "waits for the model", running: "running", passed: "passed", failed: "failed" };

function selfTest(test) {
  const rows = [["Self-test", SELF_TEST_STATES[test.state] ?? test.state]];
  if (test.cases && test.state === "passed") rows[0][1] += `, ${test.cases} prompts`;
  if (test.detail) rows.push(["Detail", test.detail]);
  if (test.prefill_tokens_per_s) rows.push(["Reads", `${test.prefill_tokens_per_s.toFixed(1)} tokens/s`]);
  if (test.decode_tokens_per_s) rows.push(["Writes", `${test.decode_tokens_per_s.toFixed(1)} tokens/s`]);
  const cells = rows.flatMap(([label, value]) => [["dt", label], ["dd", value]]);
  replaceIfChanged(element("self-test"), cells, ([tag, text]) => make(tag, text));
}

function memory({ total_bytes: total, available_bytes: available }) {
  const used = total - available;
  const percent = Math.round((used * 100) / Math.max(total, 1));
  element("memory-text").textContent = `${bytes(used)} of ${bytes(total)} in use (${percent} %)`;
  const gauge = element("memory-gauge");
  gauge.setAttribute("aria-valuenow", percent);
  gauge.classList.toggle("high", percent > 90);
  gauge.firstElementChild.style.width = `${percent}%`;
}

function trust(status) {
  const urls = status.urls.length > 0 ? status.urls : ["no address yet"];
  replaceIfChanged(element("urls"), urls, (url) => {
    const item = make("li");
    if (url.startsWith("https://")) {
      item.append(make("a", url));
      item.firstElementChild.href = url;
    } else {
      item.textContent = url;
    }
    return item;
  });
  // A line may break behind a colon, never inside a byte.
  const parts = status.fingerprint.match(/[^:]*:?/g).filter((part) => part !== "");
  replaceIfChanged(element("fingerprint"), parts, (part) => {
    const span = make("span", part);
    span.append(make("wbr"));
    return span;
  });
}

const UNIT_STATES = {
  waiting: ["", "waiting"],
  starting: ["warn", "starting"],
  running: ["good", "running"],
  exited: ["good", "done"],
  stopping: ["warn", "stopping"],
  backoff: ["bad", "restarting"],
  stopped: ["", "stopped"],
  skipped: ["", "skipped"],
  failed: ["bad", "failed"],
};

function services(units, uptimeS) {
  const rows = units
    .filter((unit) => !unit.name.endsWith(".target"))
    .map((unit) => ({
      name: unit.name.replace(/\.service$/, ""),
      title: unit.description,
      state: UNIT_STATES[unit.state] ?? ["warn", unit.state],
      age: duration(Math.max(0, uptimeS - unit.since_ms / 1000)),
      restarts: unit.restarts > 0 ? `restarted ${unit.restarts}×` : "",
      why: unit.detail ?? unit.status ?? "",
    }));
  replaceIfChanged(element("services"), rows, (row) => {
    const tr = make("tr");
    const name = make("th", row.name);
    name.scope = "row";
    name.title = row.title ?? "";
    const state = make("td");
    state.append(make("span", row.state[1], `state ${row.state[0]}`));
    tr.append(name, state, make("td", row.age, "number"), make("td", row.restarts, "number"), make("td", row.why, "why"));
    return tr;
  });
}

export function bytes(count) {
  const mib = count / (1024 * 1024);
  return mib < 10240 ? `${mib < 100 ? mib.toFixed(1) : Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
