// The admin page: sign in, ask the node for its status every two seconds, show it.

import * as api from "./api.js";
import { Chat } from "./chat.js";
import { Sparkline } from "./chart.js";
import * as view from "./view.js";

const POLL_MS = 2000;
const RETRY_MAX_MS = 16000;

const element = (id) => document.getElementById(id);
const memoryLine = new Sparkline(element("memory-spark"), 1);
const rateLine = new Sparkline(element("rate-spark"), 1);
const chat = new Chat((error) => signIn(error.message));

let timer = null;
let failures = 0;
let sampledAt = performance.now();
/** After a restart or a power-off from this page, silence is expected. */
let powerAsked = null;
/** The node answers, but a notice about the last restart or power-off stands. */
let powerNotice = false;

/** Shows one of the three faces of the page. */
function only(shown) {
  for (const id of ["loading", "sign-in", "app"]) element(id).hidden = id !== shown;
}

function signIn(message = "") {
  clearTimeout(timer);
  api.token.clear();
  only("sign-in");
  element("token-error").textContent = message;
  element("token").focus();
}

async function poll() {
  clearTimeout(timer);
  let wait = POLL_MS;
  try {
    const status = await api.status();
    if (failures > 0) {
      powerAsked = null;
      powerNotice = false;
    }
    failures = 0;
    only("app");
    element("connection").hidden = !powerNotice;
    element("content").classList.remove("stale");
    view.show(status);
    chat.setEngines(status.engines);
    sample(status);
  } catch (error) {
    if (error.kind === "token") return signIn(error.message);
    failures += 1;
    wait = Math.min(POLL_MS * 2 ** (failures - 1), RETRY_MAX_MS);
    unreachable(error, wait);
  }
  timer = setTimeout(poll, wait);
}

function sample(status) {
  const now = performance.now();
  const rate = (chat.takeTokens() * 1000) / Math.max(now - sampledAt, 1);
  sampledAt = now;
  rateLine.push(rate);
  element("rate-now").textContent = rate.toFixed(1);
  memoryLine.atLeast = status.memory.total_bytes;
  memoryLine.push(status.memory.total_bytes - status.memory.available_bytes);
}

const EXPECTED_PILL = { reboot: "Restarting", power_off: "Off" };
const EXPECTED_SILENCE = {
  reboot: "The node restarts. When its screen shows a token again, reload this page and enter it.",
  power_off: "The node has been told to switch off.",
};

function unreachable(error, wait) {
  // Anything but a refusal or silence is a fault of this page, or a page older than the node.
  const reason = error instanceof api.ApiError ? error.message : "This page does not understand the node. Reload it.";
  const seconds = Math.round(wait / 1000);
  if (element("app").hidden) {
    only("loading");
    element("loading").textContent = `${reason} Trying again in ${seconds} s.`;
    return;
  }
  view.pill(powerAsked ? EXPECTED_PILL[powerAsked] : "No answer", "bad");
  element("content").classList.add("stale");
  element("connection").className = `notice ${powerAsked ? "warn" : "bad"}`;
  element("connection").hidden = false;
  const text = `${reason} What you see is its last state. Trying again in ${seconds} s.`;
  element("connection-text").textContent = powerAsked ? EXPECTED_SILENCE[powerAsked] : text;
}

const POWER = {
  reboot: ["Restart the node?", "Restart", "Running requests end."],
  power_off: ["Switch the node off?", "Switch off", "Running requests end. Somebody must press its power button to start it again."],
};

async function askPower(action) {
  const [title, confirm, text] = POWER[action];
  const loss = element("ephemeral").hidden ? "" : " This node is EPHEMERAL: all its data is lost.";
  element("power-title").textContent = title;
  element("power-text").textContent = text + loss;
  element("power-confirm").textContent = confirm;
  const dialog = element("power-dialog");
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "confirm") return;
  try {
    await api.power(action);
    powerAsked = action;
    element("connection").className = "notice warn";
    element("connection-text").textContent = EXPECTED_SILENCE[action];
  } catch (error) {
    if (error.kind === "token") return signIn(error.message);
    element("connection").className = "notice bad";
    element("connection-text").textContent = `Nothing was done. ${error.message}`;
  }
  powerNotice = true;
  element("connection").hidden = false;
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.token.set(element("token").value.trim());
  element("token").value = "";
  element("token-error").textContent = "";
  poll();
});
element("token-show").addEventListener("change", (event) => {
  element("token").type = event.target.checked ? "text" : "password";
});
element("sign-out").addEventListener("click", () => signIn());
element("retry").addEventListener("click", () => {
  powerNotice = false;
  poll();
});
for (const button of document.querySelectorAll("[data-power]")) {
  button.addEventListener("click", () => askPower(button.dataset.power));
}
// A hidden page asks for nothing; a page that comes back asks at once.
document.addEventListener("visibilitychange", () => {
  if (element("app").hidden) return;
  if (document.hidden) clearTimeout(timer);
  else poll();
});
if (location.port === "") element("ca-link").href = `http://${location.host}/ca.crt`;

if (api.token.get() === null) {
  signIn();
} else {
  only("loading");
  poll();
}
