// --- the connection: asks for the schemas, and reconnects ---

const QUIET_CODES = new Set([1000, 1001, 1005, 1006, 1012]);
const CODE_TEXTS = {
  1000: "the server has closed",
  1001: "the server is going away",
  1002: "protocol error",
  1006: "the connection was lost, or was not accepted",
  1008: "not allowed",
  1009: "a message was too large",
  1011: "no answer to pings, or a fault of the server",
  1012: "the server restarts",
  1013: "the server has no room for this page now, or the page was too slow",
  1014: "the server cannot be reached",
  4400: "the schemas do not match",
  4401: "not authorized",
  4403: "not allowed",
};

/** The URL of the stream: relative to this page, with the page's own query. */
function streamUrl(path, wantsUp) {
  const url = new URL(path === "" ? location.pathname : "./" + path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  const own = location.search.slice(1).split("&").filter((pair) => pair !== "" && !/^deli=/.test(pair));
  url.search = "?" + [...own, `deli=1.?.${wantsUp ? "?" : "-"}`].join("&");
  return url.href;
}

/**
 * One connection at a time. `on` has: schema(text), up(text or null), value(buffer), gap(name, counts),
 * state(name, text), event(text), lost().
 */
class Stream {
  constructor(url, wantsUp, on) {
    this.url = url;
    this.wantsUp = wantsUp;
    this.on = on;
    this.socket = null;
    this.timer = 0;
    this.attempts = 0;
    this.hasSchema = false;
    this.takesUp = false;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.now());
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.hasSchema = this.takesUp = false;
    let fault = "";
    let began = 0;
    this.on.state("connecting", this.attempts === 0 ? "connecting" : "connecting again");
    let socket;
    try {
      socket = this.socket = new WebSocket(this.url);
    } catch (error) {
      this.on.state("broken", error.message);
      return;
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      began = performance.now();
    };
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return;
      try {
        if (typeof data !== "string") this.takeValue(data);
        else fault = this.takeText(data) ?? fault;
      } catch (error) {
        fault = error.message;
        this.on.event(fault);
        socket.close(4400, "the page cannot read this");
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (began !== 0 && performance.now() - began > 2000) this.attempts = 0;
      this.on.lost();
      const why = fault !== "" ? fault : `${CODE_TEXTS[code] ?? "closed"}${reason ? ": " + reason : ""} (${code})`;
      this.on.event(why);
      this.again(why, fault !== "" || !QUIET_CODES.has(code));
    };
  }

  /** Handle a control text; returns the error that it reports, if any. */
  takeText(text) {
    const found = /^deli 1 ([a-z]+) ?([^\n]*)\n?([^]*)$/.exec(text);
    if (found === null) return undefined;
    const [, word, words, rest] = found;
    if (word === "hello") {
      const hello = /^down=([0-9a-f]{32}) up=([0-9a-f]{32}|-)/.exec(words);
      if (hello === null) throw new SchemaError("the server's hello is invalid");
      this.takesUp = hello[2] !== "-";
      if (!this.takesUp) this.on.up(null);
    } else if (word === "schema" && words.startsWith("up ")) {
      this.on.up(rest);
    } else if (word === "schema") {
      this.on.schema(rest);
      this.hasSchema = true;
      this.on.state("live", "receiving retained values");
    } else if (word === "live") {
      this.on.state("live", "live");
    } else if (word === "refused") {
      const text = `The server refuses this page:\n${rest.trimEnd()}`;
      this.on.event(text);
      this.on.state("broken", "refused", text);
      return text;
    } else if (word === "gap") {
      const [name, ...pairs] = words.split(" ");
      const counts = new Map(pairs.map((pair) => pair.split("=")));
      this.on.gap(name, counts);
    }
    return undefined;
  }

  takeValue(data) {
    if (!this.hasSchema) {
      throw new SchemaError("this server sends values and does not say what they are: it was opened with schema=None");
    }
    this.on.value(data);
  }

  /** Send bytes to the server; false: not connected. */
  send(bytes) {
    if (this.socket === null || this.socket.readyState !== WebSocket.OPEN || !this.takesUp) return false;
    this.socket.send(bytes);
    return true;
  }

  again(why, isBad) {
    const least = isBad ? 5000 : 250;
    const delay = Math.min(10000, least * 2 ** Math.min(this.attempts++, 6)) * (0.75 + Math.random() / 4);
    const due = performance.now() + delay;
    const tell = () => {
      const left = Math.ceil((due - performance.now()) / 1000);
      if (left <= 0) return this.open();
      this.on.state(isBad ? "broken" : "waiting", `reconnecting in ${left} s`, why);
      this.timer = setTimeout(tell, Math.min(1000, Math.max(20, due - performance.now() - (left - 1) * 1000)));
    };
    tell();
  }

  /** End the wait for the next attempt. */
  now() {
    if (this.socket === null && this.timer !== 0) this.open();
  }
}
