// Talks to the node: the token, requests with it, and errors as sentences.

const TOKEN_KEY = "mnemos-token";
const TIMEOUT_MS = 8000;

/** Why a request failed. `kind`: "token" (not accepted), "unreachable", or "refused" (the node said no). */
export class ApiError extends Error {
  constructor(kind, message, code = null) {
    super(message);
    this.kind = kind;
    this.code = code;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY),
  set: (value) => sessionStorage.setItem(TOKEN_KEY, value),
  clear: () => sessionStorage.removeItem(TOKEN_KEY),
};

/** Sends a request with the token and returns the response if the node accepted it. */
export async function request(path, options = {}) {
  const headers = { authorization: `Bearer ${token.get() ?? ""}` };
  if (options.body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: options.body === undefined ? "GET" : "POST",
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal ?? AbortSignal.timeout(TIMEOUT_MS),
      cache: "no-store",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError("unreachable", "The node does not answer.");
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error?.message;
  if (response.status === 401) {
    return new ApiError("token", "The node does not accept this token. Compare it with the node's screen.");
  }
  return new ApiError("refused", asSentence(said ?? `The node answered with HTTP status ${response.status}`), body?.error?.code);
}

/** First letter large, full stop at the end. */
export function asSentence(text) {
  const trimmed = text.trim();
  const sentence = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

export async function status() {
  const response = await request("/api/v1/status");
  try {
    return await response.json();
  } catch {
    throw new ApiError("unreachable", "The node's answer broke off.");
  }
}

export async function power(action) {
  await request("/api/v1/power", { body: { action } });
}
