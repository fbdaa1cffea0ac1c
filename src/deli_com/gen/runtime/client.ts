// --- a client: connects, checks the schema, receives, sends, reconnects (docs/wire.md section 10) ---

/** The part of a WebSocket that is used: of browsers, of Node from 22 on, or of the package `ws`. */
⟦export interface Socket {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
}⟧

⟦/** Messages that the server skipped for this client, or a time without its source. */
export interface Gap {
  name: string;
  skipped: number;
  superseded: number;
  reason: string;
  seconds: number | null;
}⟧

⟦export interface ClientOptions {
  /** Required before Node 22: the class of the package `ws`. */
  WebSocket?: new (url: string) => Socket;
  /** Keep only the newest waiting value of each variant; `onValue` is then called once a drawn frame. */
  newestOnly?: boolean;
  /** Limit on values that wait for one iterator (1,024). Past it, the oldest are dropped. */
  maxWaiting?: number;
  /** Least and most milliseconds before it reconnects (100, 10,000); null: it never reconnects. */
  backoff?: readonly [number, number] | null;
  /** "require": a server without schemas is an error; null: no schema is announced or checked. */
  schema?: "check" | "require" | null;
  onValue?: (value: @down@) => void;
  onState?: (state: ClientState) => void;
  /** All retained values have been received. */
  onLive?: () => void;
  onGap?: (gap: Gap) => void;
  /** An error. After a mismatch of the schemas, the client is closed. */
  onError?: (error: Error) => void;
}⟧

⟦export type ClientState = "connecting" | "open" | "waiting" | "closed";⟧

/** Values that wait to be taken. */
class Waiting {
  ⟦readonly ⟧held⟦: Map<number, () => @down@ | undefined>⟧ = new Map();
  wake⟦: (() => void) | null⟧ = null;
  count⟦: number⟧ = 0;

  take()⟦: @down@ | undefined⟧ {
    for (const [key, read] of this.held) {
      this.held.delete(key);
      const value = read();
      if (value !== undefined) return value;
    }
    return undefined;
  }
}

/**
 * A connection to a server that sends values of this schema.
 *
 * `for await (const value of client)` or `onValue` receives, `send` sends, `close` closes it. It reconnects
 * after a lost connection. If the server has another schema, its fields are matched by name; if that is not
 * possible, the client closes with a `SchemaError`.
 */
export class Client⟦ implements AsyncIterable<@down@>⟧ {
  ⟦readonly url: string;⟧
  /** Resolved once the schema of the server is known; rejected if the client closes before that. */
  ⟦readonly ready: Promise<void>;⟧
  state⟦: ClientState⟧ = "connecting";
  /** How the server's values are read: unchanged, matched by name, or unchecked. */
  how⟦: "same" | "resolved" | "unknown" | null⟧ = null;
  error⟦: Error | null⟧ = null;
  received⟦: number⟧ = 0;
  /** Number of values of variants that are not known here. */
  unknown⟦: number⟧ = 0;
  /** Number of values that newer ones replaced before they were taken. */
  superseded⟦: number⟧ = 0;

  ⟦private readonly options: ClientOptions;⟧
  ⟦private readonly ⟧callbacks⟦: Set<(value: @down@) => void>⟧ = new Set();
  ⟦private readonly ⟧iterators⟦: Set<Waiting>⟧ = new Set();
  ⟦private ⟧first⟦: Waiting | null⟧ = new Waiting();
  ⟦private ⟧newest⟦: Waiting | null⟧ = null;
  ⟦private ⟧fatal⟦: Error | null⟧ = null;
  ⟦private ⟧settle⟦: [() => void, (error: Error) => void] | null⟧ = null;
  ⟦private ⟧socket⟦: Socket | null⟧ = null;
  ⟦private timer: ReturnType<typeof setTimeout> | undefined;⟧
  ⟦private ⟧attempts⟦: number⟧ = 0;
  ⟦private ⟧awaited⟦: string⟧ = "";
  ⟦private ⟧upWanted⟦: boolean⟧ = false;
  ⟦private ⟧read⟦: ((bytes: Uint8Array | ArrayBuffer) => unknown) | null⟧ = null;

  constructor(url⟦: string⟧, options⟦: ClientOptions⟧ = {}) {
    const mark = url.includes("?") ? "&" : "?";
    const said = `${mark}deli=1.${SCHEMA_HASH}.${CLIENT_UP_HASH}`;
    this.url = options.schema === null ? url : url + said;
    this.options = options;
    this.ready = new Promise((done, failed) => (this.settle = [done, failed]));
    this.ready.catch(() => undefined);
    if (options.onValue) this.onValue(options.onValue);
    this.connect();
  }

  /** Call a function with each value. Returns a function that unsubscribes it. */
  onValue(callback⟦: (value: @down@) => void⟧)⟦: () => void⟧ {
    this.first = null;
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  /** The first iterator gives all values since the start, others those from now on. They end on close. */
  async *[Symbol.asyncIterator]()⟦: AsyncGenerator<@down@, void, undefined>⟧ {
    const waiting = this.first ?? new Waiting();
    this.first = null;
    this.iterators.add(waiting);
    try {
      for (;;) {
        const value = waiting.take();
        if (value !== undefined) yield value;
        else if (this.fatal !== null) throw this.fatal;
        else if (this.state === "closed") return;
        else await new Promise⟦<void>⟧((wake) => (waiting.wake = wake));
      }
    } finally {
      this.iterators.delete(waiting);
    }
  }

  /** Send a value. Returns false if not connected, or if the server receives none. Throws `EncodeError`. */
  send(value⟦: @up@⟧)⟦: boolean⟧ {
    const data = @encode@(value);
    if (this.state !== "open" || !this.upWanted || this.socket === null)
      return false;
    this.socket.send(data);
    return true;
  }

  close(code⟦: number⟧ = 1000, reason⟦: string⟧ = "")⟦: void⟧ {
    this.end(null);
    this.socket?.close(code, reason);
  }

  ⟦private ⟧connect()⟦: void⟧ {
    const found =⟦
     ⟧ this.options.WebSocket ??⟦
     ⟧ ⟦(⟧globalThis⟦ as unknown as ClientOptions)⟧.WebSocket;
    this.turn("connecting");
    if (⟦(⟧this.state⟦ as ClientState)⟧ === "closed") return;
    this.read = null;
    this.awaited = "";
    try {
      if (found === undefined)
        throw new Error("no WebSocket here: pass the option WebSocket");
      const socket = new found(this.url);
      this.socket = socket;
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        if (this.socket === socket && this.options.schema === null)
          this.unchecked();
      };
      socket.onmessage = ({ data }) => {
        if (this.socket !== socket || this.state === "closed") return;
        try {
          if (typeof data === "string") this.readText(data);
          else this.readBytes(data);
        } catch (error) {
          this.onFault(error⟦ as Error⟧);
        }
      };
      socket.onerror = () => undefined; // onclose follows
      socket.onclose = (event) => {
        if (this.socket !== socket) return;
        this.socket = null;
        if (this.state === "closed") return;
        const said = `closed by the server (${event.code}) ${event.reason}`;
        if (event.code === 4400)
          this.end(this.error ?? new SchemaError(event.reason));
        else if ([1008, 4401, 4403].includes(event.code))
          this.end(new Error(said));
        else this.again();
      };
    } catch (error) {
      this.end(error⟦ as Error⟧);
    }
  }

  ⟦private ⟧again()⟦: void⟧ {
    if (this.state === "closed") return; // a callback has closed it
    const backoff =
      this.options.backoff === undefined ? [100, 10000] : this.options.backoff;
    if (backoff === null) return this.end(this.error);
    const delay = Math.min(backoff[1]⟦!⟧, backoff[0]⟦!⟧ * 2 ** this.attempts++);
    this.timer = setTimeout(
      () => this.connect(),
      delay * (0.5 + Math.random() / 2),
    );
    this.turn("waiting");
  }

  ⟦private ⟧turn(state⟦: ClientState⟧)⟦: void⟧ {
    if (this.state === state) return;
    this.state = state;
    this.options.onState?.(state);
  }

  /** The schema of the server is known. */
  ⟦private ⟧open(
    how⟦: "same" | "resolved" | "unknown"⟧,
    read⟦: (bytes: Uint8Array | ArrayBuffer) => unknown⟧,
  )⟦: void⟧ {
    this.how = how;
    this.read = read;
    this.turn("open");
    this.settle?.[0]();
  }

  /** Close without reconnecting. */
  ⟦private ⟧end(error⟦: Error | null⟧)⟦: void⟧ {
    if (this.state === "closed") return;
    clearTimeout(this.timer);
    if (error !== null) {
      this.error = this.fatal = error;
      this.options.onError?.(error);
    }
    this.turn("closed");
    this.settle?.[1](error ?? new Error("the client is closed"));
    for (const waiting of this.iterators) waiting.wake?.();
  }

  /** A message was invalid: close this connection and make another. A mismatch closes the client. */
  ⟦private ⟧onFault(error⟦: Error⟧)⟦: void⟧ {
    const socket = this.socket;
    this.socket = null;
    if (error instanceof SchemaError && error.differences.length > 0) {
      let reason = error.differences[0]⟦!⟧;
      while (TO_UTF8.encode(reason).length > 123) reason = reason.slice(0, -1);
      socket?.send(
        `deli 1 refused\n${error.differences.join("\n").slice(0, 65536)}`,
      );
      socket?.close(4400, reason);
      return this.end(error);
    }
    this.error = error;
    socket?.close();
    this.options.onError?.(error);
    this.again();
  }

  ⟦private ⟧readText(text⟦: string⟧)⟦: void⟧ {
    const found = /^deli 1 ([a-z]+) ?([^\n]*)\n?([^]*)$/.exec(text);
    if (found === null) return;
    const [, word, words, rest] = found⟦ as unknown as [
      string,
      string,
      string,
      string,
    ]⟧;
    if (word === "hello") {
      const hello = /^down=([0-9a-f]{32}) up=([0-9a-f]{32}|-)$/.exec(words);
      if (hello === null || this.read !== null)
        throw new Error("a malformed or repeated hello");
      this.upWanted = CLIENT_UP_HASH !== "-" && hello[2] !== "-";
      if (this.upWanted && hello[2] !== CLIENT_UP_HASH) {
        this.socket?.send(
          `deli 1 schema up ${CLIENT_UP_HASH}\n${CLIENT_UP_TEXT}`,
        );
      }
      if (hello[1] === SCHEMA_HASH) this.open("same", @decode@);
      else this.awaited = hello[1]⟦!⟧;
    } else if (word === "schema") {
      if (
        this.awaited === "" ||
        words !== `down ${this.awaited}` ||
        schemaHash(rest) !== this.awaited
      ) {
        throw new Error("a schema that was not announced");
      }
      this.awaited = "";
      this.open(
        "resolved",
        new Generic(SCHEMA_TEXT, RESERVED_NAMES).reading(new Generic(rest)),
      );
    } else if (word === "refused") {
      const lines = rest.split("\n").filter((line) => line !== "");
      this.error = new SchemaError(
        "the server cannot read the values of this client",
        lines,
      );
    } else if (word === "live") {
      this.options.onLive?.();
    } else if (word === "gap") {
      const [name, ...pairs] = words.split(" ");
      const of = Object.fromEntries(⟦
        ⟧pairs.map((pair) => pair.split("="))⟦,
      ⟧)⟦ as Record<string, string>⟧;
      const seconds = of.seconds === undefined ? null : Number(of.seconds);
      const [skipped, superseded] = [
        Number(of.skipped ?? 0),
        Number(of.superseded ?? 0),
      ];
      this.options.onGap?.({
        name: name⟦!⟧,
        skipped,
        superseded,
        reason: of.reason ?? "",
        seconds,
      });
    }
  }

  ⟦private ⟧readBytes(data⟦: ArrayBuffer⟧)⟦: void⟧ {
    if (this.read === null) {
      if (this.awaited !== "") throw new Error("a value before its schema");
      if (this.options.schema === "require") {
        this.end(new SchemaError("the server announces no schema"));
        return this.socket?.close();
      }
      this.unchecked();
    }
    this.received++;
    const read = this.read⟦!⟧;
    const decoded = () => {
      const value = read(data)⟦ as @down@ | undefined⟧;
      if (value === undefined) this.unknown++;
      return value;
    };
    const targets =
      this.first === null
        ? [...this.iterators]
        : [this.first, ...this.iterators];
    if (this.options.newestOnly) {
      const key =
        @sealed@ && data.byteLength >= 4
          ? new DataView(data).getUint32(0, true)
          : 0;
      const late = () => {
        try {
          return decoded();
        } catch (error) {
          this.onFault(error⟦ as Error⟧);
          return undefined;
        }
      };
      for (const waiting of targets) this.put(waiting, key, late);
      if (this.callbacks.size > 0) this.draw(key, late);
      return;
    }
    const value = decoded();
    this.attempts = 0;
    if (value === undefined) return;
    for (const waiting of targets)
      this.put(waiting, waiting.count++, () => value);
    for (const callback of this.callbacks) callback(value);
  }

  ⟦private ⟧unchecked()⟦: void⟧ {
    this.upWanted = CLIENT_UP_HASH !== "-";
    this.open("unknown", @decode@);
  }

  ⟦private ⟧put(
    waiting⟦: Waiting⟧,
    key⟦: number⟧,
    read⟦: () => @down@ | undefined⟧,
  )⟦: void⟧ {
    if (waiting.held.delete(key)) this.superseded++;
    waiting.held.set(key, read);
    if (waiting.held.size > (this.options.maxWaiting ?? 1024)) {
      waiting.held.delete(waiting.held.keys().next().value⟦!⟧);
      this.superseded++;
    }
    waiting.wake?.();
  }

  /** Give the newest values to the callbacks at the next drawn frame. */
  ⟦private ⟧draw(key⟦: number⟧, read⟦: () => @down@ | undefined⟧)⟦: void⟧ {
    if (this.newest === null) {
      const waiting = (this.newest = new Waiting());
      const run = () => {
        this.newest = null;
        for (let value; (value = waiting.take()) !== undefined; ) {
          this.attempts = 0;
          for (const callback of this.callbacks) callback(value);
        }
      };
      const frame = ⟦(
        ⟧globalThis⟦ as { requestAnimationFrame?: (run: () => void) => unknown }
      )⟧.requestAnimationFrame;
      if (frame === undefined) setTimeout(run, 0);
      else frame(run);
    }
    this.put(this.newest, key, read);
  }
}

/** The hash of a schema: 16 bytes of the SHA-256 of the text without notes, in hexadecimal. */
export function schemaHash(text⟦: string⟧)⟦: string⟧ {
  const bytes = TO_UTF8.encode(text.replace(/ @[^\n]*/g, ""));
  const data = new Uint8Array((bytes.length + 72) & ~63);
  data.set(bytes);
  data[bytes.length] = 0x80;
  const view = new DataView(data.buffer);
  view.setUint32(data.length - 4, bytes.length * 8);
  // The constants are the first bits of the fractional parts of roots of the first primes.
  const primes⟦: number[]⟧ = [];
  for (let n = 2; primes.length < 64; n++)
    if (primes.every((p) => n % p !== 0)) primes.push(n);
  const bits = (x⟦: number⟧) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  const k = primes.map((p) => bits(Math.cbrt(p)));
  const h = primes.slice(0, 8).map((p) => bits(Math.sqrt(p)));
  const turn = (x⟦: number⟧, n⟦: number⟧) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let at = 0; at < data.length; at += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) w[i] = view.getInt32(at + 4 * i);
      else {
        const [x, y] = [w[i - 15]⟦!⟧, w[i - 2]⟦!⟧];
        const s = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
        const t = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
        w[i] = w[i - 16]⟦!⟧ + s + w[i - 7]⟦!⟧ + t;
      }
    }
    let [a, b, c, d, e, f, g, last] = h⟦ as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]⟧;
    for (let i = 0; i < 64; i++) {
      const s = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
      const t = (last + s + ((e & f) ^ (~e & g)) + k[i]⟦!⟧ + w[i]⟦!⟧) | 0;
      const u = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
      [last, g, f, e] = [g, f, e, (d + t) | 0];
      [d, c, b, a] = [c, b, a, (t + u + ((a & b) ^ (a & c) ^ (b & c))) | 0];
    }
    [a, b, c, d, e, f, g, last].forEach((x, i) => (h[i] = (h[i]⟦!⟧ + x) | 0));
  }
  return h
    .slice(0, 4)
    .map((x) => (x >>> 0).toString(16).padStart(8, "0"))
    .join("");
}
