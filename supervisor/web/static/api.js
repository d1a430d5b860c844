// Requests to the daemon's web process, and the token that allows actions. The token is kept for this tab only
// (sessionStorage), sent in a header and never shown.

const KEY = "preforkd.token";
const TIMEOUT_MS = 20_000;

/** What the server refused or could not do; `status` 0 where it did not answer at all. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);

/** What every request carries. */
export function headers() {
  return token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
}

/** `pools/<name>/…`, whatever the name holds. */
export function poolPath(pool, ...rest) {
  return ["api/pools", encodeURIComponent(pool), ...rest].join("/");
}

async function request(method, path, body) {
  const options = { method, headers: headers(), cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await answered(path, options);
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Refused(answer.error ?? `${path}: the server answered with status ${response.status}`, response.status);
}

async function answered(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    const late = error.name === "TimeoutError";
    const why = late ? `did not answer within ${TIMEOUT_MS / 1000} s` : "cannot be reached";
    throw new Refused(`${path}: the web page's server ${why}; is preforkd running?`, 0);
  }
}
