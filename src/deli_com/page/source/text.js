// --- values as text, and as JSON ---

const WHOLE = new Intl.NumberFormat("en-US");
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g; // bidi controls too
const MAX_STRING = 400; // characters of a string that a row has

/** Without characters that change the text direction or the line. */
function plainText(text) {
  return text.replace(HIDDEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

function stringText(text) {
  const cut = text.length > MAX_STRING ? text.slice(0, MAX_STRING) : text;
  const quoted = plainText(JSON.stringify(cut));
  return cut === text ? quoted : `${quoted} … ${WHOLE.format(text.length)} characters`;
}

/**
 * A float with a constant width: as many decimals as its row has needed so far.
 * `memo` belongs to the row; `digits` is the number of significant digits.
 */
function floatText(v, digits, memo) {
  if (!Number.isFinite(v)) return String(v);
  const size = Math.abs(v);
  if (size > (memo.top ?? 0)) memo.top = size;
  if (v < 0) memo.minus = true;
  const pad = memo.minus && v >= 0 ? "\u2007" : "";
  if (memo.top >= 1e15 || (memo.top > 0 && memo.top < 1e-3)) return pad + v.toExponential(4);
  const whole = memo.top >= 1 ? Math.floor(Math.log10(memo.top)) + 1 : 1;
  const most = Math.max(0, Math.min(6, digits - whole));
  let places = Math.min(most, memo.places ?? 0);
  while (places < most && Math.abs(Number(v.toFixed(places)) - v) > size * (digits < 8 ? 1e-6 : 1e-11)) places++;
  memo.places = places;
  return pad + v.toFixed(places);
}

function nanosecondsText(v) {
  const n = BigInt(v);
  if (n > 10n ** 17n) {
    const date = new Date(Number(n / 1000000n));
    return `${date.toISOString().slice(0, -1)}${String(n % 1000000n).padStart(6, "0")}Z`;
  }
  return `${(Number(n) / 1e9).toFixed(6)} s`;
}

function bytesText(bytes) {
  const first = Array.from(bytes.subarray(0, 12), (b) => b.toString(16).padStart(2, "0")).join(" ");
  return `${WHOLE.format(bytes.length)} bytes  ${first}${bytes.length > 12 ? " …" : ""}`;
}

/** The type inside options. */
function bare(type) {
  return type.is === "option" ? bare(type.item) : type;
}

function definitionOf(generic, type) {
  return type.is === "ref" ? generic.definitions.get(type.name) : undefined;
}

/** One line for any value, of about `room` characters at most. */
function lineText(generic, type, value, memo = {}, notes = "", room = 160) {
  if (value === null) return "null";
  if (value === undefined) return "";
  const tp = bare(type);
  if (tp.is === "scalar") {
    if (/ @nanoseconds\b/.test(notes) && /^[ui]/.test(tp.name)) return nanosecondsText(value);
    if (tp.name === "f32") return floatText(value, 7, memo);
    if (tp.name === "f64") return floatText(value, 11, memo);
    if (tp.name === "str") return stringText(value);
    if (tp.name === "bytes") return bytesText(value);
    return String(value);
  }
  const definition = definitionOf(generic, tp);
  if (definition?.is === "enum") return String(value);
  if (tp.is === "list" || tp.is === "fixed") {
    const parts = [];
    let used = 0;
    for (let i = 0; i < value.length && used < room; i++) {
      parts.push(lineText(generic, tp.item, value[i], {}, "", 30));
      used += parts[i].length + 2;
    }
    return `${WHOLE.format(value.length)} × [${parts.join(", ")}${parts.length < value.length ? ", …" : ""}]`;
  }
  const parts = [];
  let used = 0;
  for (const child of childrenOf(generic, tp, value)) {
    if (used > room) {
      parts.push("…");
      break;
    }
    const text = `${child.label} ${lineText(generic, child.type, value[child.key], (memo[child.key] ??= {}), child.notes, 30)}`;
    used += text.length + 2;
    parts.push(text);
  }
  const kind = definition?.is === "sealed" && value.kind ? value.kind : "";
  return parts.length === 0 ? kind || "{}" : `${kind && kind + " "}${parts.join("  ")}`;
}

/** The fields or items of a value. Each has a label, the key in the value, a type and notes. */
function childrenOf(generic, type, value, most = 256) {
  const tp = bare(type);
  if (value === null || value === undefined || tp.is === "scalar") return [];
  if (tp.is === "product") return tp.items.map((item, i) => ({ label: String(i), key: i, type: item, notes: "" }));
  if (tp.is === "list" || tp.is === "fixed") {
    const found = [];
    for (let i = 0; i < Math.min(most, value.length); i++) {
      found.push({ label: `[${i}]`, key: i, type: tp.item, notes: "" });
    }
    return found;
  }
  const definition = definitionOf(generic, tp);
  if (definition.is === "struct") return namedFields(generic, definition.fields);
  if (definition.is === "sealed") {
    const variant = definition.variants.find((each) => each.name === value.kind);
    return variant === undefined ? [] : namedFields(generic, variant.fields, "kind");
  }
  return [];
}

function namedFields(generic, fields, ...taken) {
  const names = generic.names(fields, ...taken);
  return fields.map((field, i) => ({ label: field.name, key: names[i], type: field.type, notes: field.notes }));
}

/** JSON as `deli-com listen --json` has it: integers exact, bytes as base64, NaN by its name. */
function jsonText(value, indent = "") {
  if (value === null || value === undefined) return "null";
  if (typeof value === "bigint" || typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    if (Number.isNaN(value)) return '"nan"';
    return Number.isFinite(value) ? String(value) : value > 0 ? '"inf"' : '"-inf"';
  }
  if (typeof value === "string") return JSON.stringify(value);
  if (value instanceof Uint8Array) {
    let text = "";
    for (const byte of value) text += String.fromCharCode(byte);
    return JSON.stringify(btoa(text));
  }
  const inner = indent + "  ";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const items = Array.from(value, (item) => jsonText(item, inner));
    const flat = items.every((item) => !/[{\[]/.test(item[0] ?? ""));
    if (items.length === 0 || flat) return `[${items.join(", ")}]`;
    return `[\n${items.map((item) => inner + item).join(",\n")}\n${indent}]`;
  }
  const pairs = Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${jsonText(item, inner)}`);
  return pairs.length === 0 ? "{}" : `{\n${pairs.join(",\n")}\n${indent}}`;
}

function rateText(hz) {
  if (hz === null) return "";
  if (hz >= 9999.5) return `${(hz / 1000).toFixed(1)} kHz`;
  return `${hz >= 99.95 ? hz.toFixed(0) : hz.toFixed(1)} Hz`;
}

function ageText(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

function sizeText(bytes) {
  if (bytes < 1000) return `${bytes.toFixed(0)} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
