// Event, schema de31afddc0e90db6d4938f234037835e: made by deli-com gen. Do not edit.

export const SCHEMA_HASH = "de31afddc0e90db6d4938f234037835e";
export const SCHEMA_TEXT = `deli 1
root Event
sealed Event
 0 Pose @latest(name) @retain
  name str
  x f32
  y f32
  mode Mode
  trail [f32]
 1 Alarm
  code u32
  stamp u64
  text str?
enum Mode
 0 IDLE
 1 DRIVE
`;
export const UP_SCHEMA_HASH = "c330616e70179277cfc67cee0cc60d70";
export const UP_SCHEMA_TEXT = `deli 1
root Command
struct Command
 speed f32
 mode Mode
enum Mode
 0 IDLE
 1 DRIVE
`;

export interface EventPose {
  kind: "Pose";
  name: string;
  x: number;
  y: number;
  mode: Mode;
  trail: Float32Array;
}

export interface EventAlarm {
  kind: "Alarm";
  code: number;
  stamp: bigint;
  text: string | null;
}

/** What the rover sends. */
export type Event = EventPose | EventAlarm;

export type Mode = "IDLE" | "DRIVE";
const ModeNames = ["IDLE", "DRIVE"] as const;

/** What operators send. */
export interface Command {
  speed: number;
  mode: Mode;
}

function readEvent(r: Reader): Event {
  const at = r.at;
  const index = r.index(2);
  switch (index) {
    case 0:
      return {
        kind: "Pose",
        name: r.str(),
        x: r.view.getFloat32(r.run(8, "44"), true),
        y: r.view.getFloat32(r.at - 4, true),
        mode: readMode(r),
        trail: new Float32Array(r.copy(4 * r.count(4))),
      };
    case 1:
      return {
        kind: "Alarm",
        code: r.view.getUint32(r.run(12, "48"), true),
        stamp: r.view.getBigUint64(r.at - 8, true),
        text: r.bool() ? r.str() : null,
      };
    default:
      throw new InvalidVariant(index, at);
  }
}

function writeEvent(w: Writer, v: Event): void {
  switch (v.kind) {
    case "Pose": {
      w.raw32(0);
      w.str(v.name, "EventPose.name");
      w.f32(v.x, "EventPose.x");
      w.f32(v.y, "EventPose.y");
      writeMode(w, v.mode);
      w.count(v.trail, "EventPose.trail");
      w.numbers(v.trail, Float32Array, "f32", "EventPose.trail");
      break;
    }
    case "Alarm": {
      w.raw32(1);
      w.u32(v.code, "EventAlarm.code");
      w.u64(v.stamp, "EventAlarm.stamp");
      const o1 = v.text;
      if (o1 == null) {
        w.raw8(0);
      } else {
        w.raw8(1);
        w.str(o1, "EventAlarm.text");
      }
      break;
    }
    default:
      throw new EncodeError("no variant has this kind", "Event");
  }
}

function readMode(r: Reader): Mode {
  return ModeNames[r.index(2)]!;
}

function writeMode(w: Writer, v: Mode): void {
  w.index(v, ModeNames, "Mode");
}

function readCommand(r: Reader): Command {
  return {
    speed: r.f32(),
    mode: readMode(r),
  };
}

function writeCommand(w: Writer, v: Command): void {
  w.f32(v.speed, "Command.speed");
  writeMode(w, v.mode);
}

/** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */
export function decodeEvent(
  bytes: Uint8Array | ArrayBuffer,
  strict: boolean = false,
): Event {
  const r = new Reader(bytes);
  return finish(r, readEvent(r), strict);
}

/** Encode a value. Throws `EncodeError`. */
export function encodeEvent(value: Event): Uint8Array {
  const w = new Writer();
  writeEvent(w, value);
  return w.done();
}

/** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */
export function decodeMode(
  bytes: Uint8Array | ArrayBuffer,
  strict: boolean = false,
): Mode {
  const r = new Reader(bytes);
  return finish(r, readMode(r), strict);
}

/** Encode a value. Throws `EncodeError`. */
export function encodeMode(value: Mode): Uint8Array {
  const w = new Writer();
  writeMode(w, value);
  return w.done();
}

/** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */
export function decodeCommand(
  bytes: Uint8Array | ArrayBuffer,
  strict: boolean = false,
): Command {
  const r = new Reader(bytes);
  return finish(r, readCommand(r), strict);
}

/** Encode a value. Throws `EncodeError`. */
export function encodeCommand(value: Command): Uint8Array {
  const w = new Writer();
  writeCommand(w, value);
  return w.done();
}

// --- the wire: little-endian, no padding, no tags (docs/wire.md of deli-com) ---

/** The bytes are not a value of the type. `offset` is the place. */
export class DecodeError extends Error {
  readonly detail: string;
  readonly offset: number;

  constructor(detail: string, offset: number) {
    super(`decode error: ${detail} (byte ${offset})`);
    this.name = "DecodeError";
    this.detail = detail;
    this.offset = offset;
  }
}

/** The input ends inside the value. */
export class UnexpectedEof extends DecodeError {
  constructor(offset: number) {
    super("unexpected end of buffer", offset);
    this.name = "UnexpectedEof";
  }
}

/** A string is not strict UTF-8. */
export class InvalidUtf8 extends DecodeError {
  constructor(offset: number) {
    super("invalid UTF-8 in string", offset);
    this.name = "InvalidUtf8";
  }
}

/** A bool is neither 0 nor 1. */
export class InvalidBool extends DecodeError {
  readonly value: number;

  constructor(value: number, offset: number) {
    super(`invalid bool value: ${value}`, offset);
    this.name = "InvalidBool";
    this.value = value;
  }
}

/** No variant or member has this index. */
export class InvalidVariant extends DecodeError {
  readonly index: number;

  constructor(index: number, offset: number) {
    super(`invalid enum variant: ${index}`, offset);
    this.name = "InvalidVariant";
    this.index = index;
  }
}

/** A value does not fit its type. `path` names the field. */
export class EncodeError extends Error {
  readonly detail: string;
  readonly path: string;

  constructor(detail: string, path: string) {
    super(`encode error: ${path}: ${detail}`);
    this.name = "EncodeError";
    this.detail = detail;
    this.path = path;
  }
}

const MAX_DEPTH = 200;
const MAX_EMPTY = 65536;
const TOO_DEEP = "values of recursive types are nested more than 200 deep";
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The index of the first byte that is not strict UTF-8, or -1. */
function utf8Fault(b: Uint8Array, at: number, end: number): number {
  const more = (i: number) => i < end && (b[i]! & 0xc0) === 0x80;
  while (at < end) {
    const c = b[at]!;
    const d = at + 1 < end ? b[at + 1]! : 0;
    let size = 1;
    if (c >= 0x80) {
      if (c < 0xc2 || c > 0xf4 || !more(at + 1)) return at;
      if (c < 0xe0) size = 2;
      else if (c < 0xf0) {
        if ((c === 0xe0 && d < 0xa0) || (c === 0xed && d >= 0xa0)) return at;
        if (!more(at + 2)) return at;
        size = 3;
      } else {
        if ((c === 0xf0 && d < 0x90) || (c === 0xf4 && d >= 0x90)) return at;
        if (!more(at + 2) || !more(at + 3)) return at;
        size = 4;
      }
    }
    at += size;
  }
  return -1;
}

function viewOf(data: Uint8Array | ArrayBuffer): DataView {
  return ArrayBuffer.isView(data)
    ? new DataView(data.buffer, data.byteOffset, data.byteLength)
    : new DataView(data);
}

function boolAt(view: DataView, at: number): boolean {
  const found = view.getUint8(at);
  if (found > 1) throw new InvalidBool(found, at);
  return found === 1;
}

/** 64 bits as a number, up to 2^53 (option `--u64 number`). */
function safe(read: bigint, at: number): number {
  const found = Number(read);
  if (!Number.isSafeInteger(found)) {
    throw new DecodeError(`${read} is beyond 2^53`, at);
  }
  return found;
}

class Reader {
  readonly view: DataView;
  readonly end: number;
  at: number;
  depth: number;

  constructor(data: Uint8Array | ArrayBuffer) {
    this.view = viewOf(data);
    this.end = this.view.byteLength;
    this.at = 0;
    this.depth = 0;
  }

  take(size: number): number {
    const at = this.at;
    if (this.end - at < size) throw new UnexpectedEof(at);
    this.at = at + size;
    return at;
  }

  /** Check the bounds of a sequence of numbers and bools, and skip it. Returns its offset. */
  run(size: number, kinds: string): number {
    const at = this.at;
    if (this.end - at < size) this.short(kinds);
    this.at = at + size;
    return at;
  }

  /** Report which of a sequence is faulty first. */
  short(kinds: string): void {
    for (const kind of kinds) {
      if (kind === "b") this.bool();
      else if (kind === "u") safe(this.u64(), this.at - 8);
      else if (kind === "i") safe(this.i64(), this.at - 8);
      else this.take(Number(kind));
    }
  }

  u8(): number {
    return this.view.getUint8(this.take(1));
  }
  u16(): number {
    return this.view.getUint16(this.take(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }
  u64(): bigint {
    return this.view.getBigUint64(this.take(8), true);
  }
  i8(): number {
    return this.view.getInt8(this.take(1));
  }
  i16(): number {
    return this.view.getInt16(this.take(2), true);
  }
  i32(): number {
    return this.view.getInt32(this.take(4), true);
  }
  i64(): bigint {
    return this.view.getBigInt64(this.take(8), true);
  }
  f32(): number {
    return this.view.getFloat32(this.take(4), true);
  }
  f64(): number {
    return this.view.getFloat64(this.take(8), true);
  }

  bool(): boolean {
    return boolAt(this.view, this.take(1));
  }

  /** An index below `count`. */
  index(count: number): number {
    const at = this.take(4);
    const found = this.view.getUint32(at, true);
    if (found >= count) throw new InvalidVariant(found, at);
    return found;
  }

  /** A count of elements of at least `least` bytes each. It checks that so many can follow. */
  count(least: number): number {
    const at = this.take(4);
    const count = this.view.getUint32(at, true);
    if (least === 0) {
      if (count > MAX_EMPTY) {
        throw new DecodeError(
          `${count} elements without a size are more than ${MAX_EMPTY}`,
          at,
        );
      }
    } else if (count > Math.floor((this.end - this.at) / least)) {
      throw new UnexpectedEof(at);
    }
    return count;
  }

  /** A copy at offset 0 of its own buffer, because values may be at odd offsets. */
  copy(size: number): ArrayBuffer {
    const at = this.view.byteOffset + this.take(size);
    return this.view.buffer.slice(at, at + size) as ArrayBuffer;
  }

  data(): Uint8Array {
    return new Uint8Array(this.copy(this.count(1)));
  }

  str(): string {
    const size = this.count(1);
    const at = this.take(size);
    const view = this.view;
    if (size <= 24) {
      let text = "";
      let i = at;
      for (let c; i < at + size && (c = view.getUint8(i)) < 0x80; i++) {
        text += String.fromCharCode(c);
      }
      if (i === at + size) return text;
    }
    const bytes = new Uint8Array(view.buffer, view.byteOffset + at, size);
    try {
      return UTF8.decode(bytes);
    } catch {
      throw new InvalidUtf8(at + utf8Fault(bytes, 0, size));
    }
  }

  list<T>(least: number, read: (r: Reader) => T): T[] {
    return this.items(this.count(least), read);
  }

  fixed<T>(count: number, size: number, read: (r: Reader) => T): T[] {
    if (this.end - this.at < size) throw new UnexpectedEof(this.at);
    return this.items(count, read);
  }

  /** Structs of numbers and bools. Their bounds are checked once. */
  rows<T>(
    count: number,
    size: number,
    read: (view: DataView, at: number) => T,
  ): T[] {
    const view = this.view;
    let at = this.take(count * size);
    const found: T[] = [];
    for (let i = 0; i < count; i++, at += size) found.push(read(view, at));
    return found;
  }

  items<T>(count: number, read: (r: Reader) => T): T[] {
    const found: T[] = [];
    for (let i = 0; i < count; i++) found.push(read(this));
    return found;
  }

  enter(): void {
    if (this.depth === MAX_DEPTH) throw new DecodeError(TOO_DEEP, this.at);
    this.depth++;
  }
  leave(): void {
    this.depth--;
  }
}

class Writer {
  bytes: Uint8Array;
  view: DataView;
  at: number;
  depth: number;

  constructor() {
    this.bytes = new Uint8Array(128);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
    this.depth = 0;
  }

  room(size: number): number {
    const at = this.at;
    if (at + size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.bytes.length, at + size));
      grown.set(this.bytes.subarray(0, at));
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    this.at = at + size;
    return at;
  }

  done(): Uint8Array {
    return this.bytes.slice(0, this.at);
  }

  whole(
    v: number,
    low: number,
    high: number,
    type: string,
    path: string,
  ): void {
    if (!(Number.isInteger(v) && v >= low && v <= high)) {
      throw new EncodeError(`${shown(v)} does not fit ${type}`, path);
    }
  }
  u8(v: number, path: string): void {
    this.whole(v, 0, 255, "u8", path);
    const at = this.room(1);
    this.bytes[at] = v;
  }
  u16(v: number, path: string): void {
    this.whole(v, 0, 65535, "u16", path);
    const at = this.room(2);
    this.view.setUint16(at, v, true);
  }
  u32(v: number, path: string): void {
    this.whole(v, 0, 4294967295, "u32", path);
    this.raw32(v);
  }
  i8(v: number, path: string): void {
    this.whole(v, -128, 127, "i8", path);
    const at = this.room(1);
    this.view.setInt8(at, v);
  }
  i16(v: number, path: string): void {
    this.whole(v, -32768, 32767, "i16", path);
    const at = this.room(2);
    this.view.setInt16(at, v, true);
  }
  i32(v: number, path: string): void {
    this.whole(v, -2147483648, 2147483647, "i32", path);
    const at = this.room(4);
    this.view.setInt32(at, v, true);
  }
  u64(v: bigint, path: string): void {
    if (typeof v !== "bigint" || BigInt.asUintN(64, v) !== v) {
      throw new EncodeError(`${shown(v)} does not fit u64 (a bigint)`, path);
    }
    const at = this.room(8);
    this.view.setBigUint64(at, v, true);
  }
  i64(v: bigint, path: string): void {
    if (typeof v !== "bigint" || BigInt.asIntN(64, v) !== v) {
      throw new EncodeError(`${shown(v)} does not fit i64 (a bigint)`, path);
    }
    const at = this.room(8);
    this.view.setBigInt64(at, v, true);
  }
  safe(v: number, path: string): bigint {
    if (!Number.isSafeInteger(v)) {
      throw new EncodeError(`${shown(v)} is no integer within 2^53`, path);
    }
    return BigInt(v);
  }
  f32(v: number, path: string): void {
    if (
      typeof v !== "number" ||
      (Number.isFinite(v) && !Number.isFinite(Math.fround(v)))
    ) {
      throw new EncodeError(`${shown(v)} does not fit f32`, path);
    }
    const at = this.room(4);
    this.view.setFloat32(at, v, true);
  }
  f64(v: number, path: string): void {
    if (typeof v !== "number") {
      throw new EncodeError(`${shown(v)} does not fit f64`, path);
    }
    const at = this.room(8);
    this.view.setFloat64(at, v, true);
  }
  bool(v: boolean, path: string): void {
    if (typeof v !== "boolean") {
      throw new EncodeError(`${shown(v)} is no boolean`, path);
    }
    this.raw8(v ? 1 : 0);
  }

  raw8(v: number): void {
    const at = this.room(1);
    this.bytes[at] = v;
  }
  raw32(v: number): void {
    const at = this.room(4);
    this.view.setUint32(at, v, true);
  }

  /** The index of a name in a list. */
  index(v: string, names: readonly string[], path: string): void {
    const found = names.indexOf(v);
    if (found < 0) throw new EncodeError(`${shown(v)} is no member`, path);
    this.raw32(found);
  }

  count(v: ArrayLike<unknown>, path: string, most: number = 4294967295): void {
    if (v == null || typeof v !== "object" || !(v.length <= most)) {
      throw new EncodeError(`no array of at most ${most} elements`, path);
    }
    this.raw32(v.length);
  }

  exactly(v: ArrayLike<unknown>, count: number, path: string): void {
    if (v == null || typeof v !== "object" || v.length !== count) {
      throw new EncodeError(`no array of ${count} elements`, path);
    }
  }

  /** Numbers in sequence: copied at once if the array has the type, else one by one. */
  numbers(
    v: ArrayLike<unknown>,
    type: Function,
    kind:
      | "u8"
      | "u16"
      | "u32"
      | "u64"
      | "i8"
      | "i16"
      | "i32"
      | "i64"
      | "f32"
      | "f64",
    path: string,
  ): void {
    if (v instanceof type && ArrayBuffer.isView(v)) {
      const raw = new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
      const at = this.room(raw.length);
      this.bytes.set(raw, at);
    } else {
      for (let i = 0; i < v.length; i++) this[kind](v[i] as never, path);
    }
  }

  data(v: Uint8Array, path: string): void {
    this.count(v, path);
    this.numbers(v, Uint8Array, "u8", path);
  }

  str(v: string, path: string): void {
    if (typeof v !== "string") {
      throw new EncodeError(`${shown(v)} is no string`, path);
    }
    if (/\p{Surrogate}/u.test(v)) {
      throw new EncodeError("a string with half a surrogate pair", path);
    }
    const raw = TO_UTF8.encode(v);
    this.raw32(raw.length);
    const at = this.room(raw.length);
    this.bytes.set(raw, at);
  }

  enter(path: string): void {
    if (this.depth === MAX_DEPTH) throw new EncodeError(TOO_DEEP, path);
    this.depth++;
  }
  leave(): void {
    this.depth--;
  }
}

const TO_UTF8 = new TextEncoder();

function shown(v: unknown): string {
  const text = typeof v === "string" ? JSON.stringify(v) : String(v);
  return text.length <= 40 ? text : text.slice(0, 40) + "...";
}

function finish<T>(r: Reader, value: T, strict: boolean): T {
  if (strict && r.at !== r.end) {
    throw new DecodeError(`${r.end - r.at} bytes after the value`, r.at);
  }
  return value;
}

// --- values of any schema, read by its text without generated code (docs/wire.md section 9) ---

/** The values that are sent cannot be read. Each difference is described from the reader's side. */
export class SchemaError extends Error {
  readonly differences: readonly string[];

  constructor(message: string, differences: readonly string[] = []) {
    const lines = differences.map(
      (line) => `\n${/^[-+] /.test(line) ? "" : "  "}${line}`,
    );
    super(message + (lines.length === 0 ? "" : ":") + lines.join(""));
    this.name = "SchemaError";
    this.differences = differences;
  }
}

/** A type in a schema text. */
export type SchemaType =
  | { is: "scalar"; name: string }
  | { is: "ref"; name: string }
  | { is: "option" | "list"; item: SchemaType }
  | { is: "fixed"; item: SchemaType; count: number }
  | { is: "product"; items: SchemaType[] };

export type SchemaField = { name: string; type: SchemaType; notes: string };
export type SchemaVariant = {
  name: string;
  fields: SchemaField[];
  notes: string;
};
export type SchemaDefinition =
  | { is: "struct"; name: string; fields: SchemaField[]; notes: string }
  | { is: "sealed"; name: string; variants: SchemaVariant[]; notes: string }
  | { is: "enum"; name: string; members: string[] };

type Read = (r: Reader) => unknown;
type Cell = { read: Read };
type NumberArray = new (data: ArrayBuffer | ArrayLike<never>) => unknown;

const INTEGERS_BIG: boolean = true;
const SCHEMA_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}";
const SCHEMA_ARGUMENT = `(?:${SCHEMA_NAME}|[+-]?[0-9]{1,32}(?:\\.[0-9]{1,32})?(?:[eE][+-]?[0-9]{1,4})?)`;
const SCHEMA_NOTE = `(?: @${SCHEMA_NAME}(?:\\(${SCHEMA_ARGUMENT}(?:,${SCHEMA_ARGUMENT})*\\))?)*`;
const DEFINITION_LINE = new RegExp(
  `^(struct|sealed|enum) (${SCHEMA_NAME})(${SCHEMA_NOTE})$`,
);
const FIELD_LINE = new RegExp(
  `^ {1,2}(${SCHEMA_NAME}) ([^ ]+)(${SCHEMA_NOTE})$`,
);
const DUNDER = /^(?=__).*__$/;
const VARIANT_LINE = new RegExp(
  `^ (0|[1-9][0-9]{0,5}) (${SCHEMA_NAME})(${SCHEMA_NOTE})$`,
);
const SCALAR_READERS: Record<string, Read> = {
  u8: (r) => r.u8(),
  u16: (r) => r.u16(),
  u32: (r) => r.u32(),
  u64: (r) => (INTEGERS_BIG ? r.u64() : safe(r.u64(), r.at - 8)),
  i8: (r) => r.i8(),
  i16: (r) => r.i16(),
  i32: (r) => r.i32(),
  i64: (r) => (INTEGERS_BIG ? r.i64() : safe(r.i64(), r.at - 8)),
  f32: (r) => r.f32(),
  f64: (r) => r.f64(),
  bool: (r) => r.bool(),
  str: (r) => r.str(),
  bytes: (r) => r.data(),
};
const NUMBER_ARRAYS: Record<string, unknown> = {
  ...{ u8: Uint8Array, u16: Uint16Array, u32: Uint32Array },
  ...{ i8: Int8Array, i16: Int16Array, i32: Int32Array },
  ...{ f32: Float32Array, f64: Float64Array },
  ...(INTEGERS_BIG ? { u64: BigUint64Array, i64: BigInt64Array } : {}),
};

function numberSize(name: string): number | undefined {
  return /^[uif]/.test(name) ? Number(name.slice(1)) / 8 : undefined;
}

function sizeOf(tp: SchemaType): number {
  return tp.is === "scalar" ? (numberSize(tp.name) ?? 0) : 0;
}

function arrayOf(tp: SchemaType): NumberArray | undefined {
  return tp.is === "scalar"
    ? (NUMBER_ARRAYS[tp.name] as NumberArray | undefined)
    : undefined;
}

/** The text of a type in a schema. */
function typeText(tp: SchemaType): string {
  switch (tp.is) {
    case "scalar":
    case "ref":
      return tp.name;
    case "option":
      return `${typeText(tp.item)}?`;
    case "list":
      return `[${typeText(tp.item)}]`;
    case "fixed":
      return `[${typeText(tp.item)};${tp.count}]`;
    case "product":
      return `(${tp.items.map(typeText).join(",")})`;
  }
}

/**
 * A schema made from its text. It reads values of a type that is not known at build time.
 *
 * Structs become objects, variants objects with `kind`, members of enums their names. A field `kind` of a
 * variant becomes `kind_`. Throws `SchemaError` if the text is no schema.
 */
export class Generic {
  readonly text: string;
  readonly root: SchemaType;
  readonly definitions: Map<string, SchemaDefinition> = new Map();
  /** Names that fields must not have here. They get a trailing `_`. */
  readonly reserved: ReadonlySet<string>;
  private readonly cells: Map<string, Cell> = new Map();
  private readonly sizes: Map<string, number> = new Map();
  private readonly again: Set<string> = new Set();
  private whole: Read | undefined;

  constructor(text: string, reserved: Iterable<string> = []) {
    this.text = text;
    this.reserved = new Set(reserved);
    const lines = text.split("\n");
    if (
      text.length > 262144 ||
      /[^\x00-\x7f]/.test(text) ||
      lines.pop() !== "" ||
      lines[0] !== "deli 1"
    ) {
      throw new SchemaError(
        "a schema begins with 'deli 1', ends with a line feed and has at most 256 KiB of ASCII",
      );
    }
    const root = /^root ([^ ]+)$/.exec(lines[1] ?? "");
    if (root === null) throw wrong(lines, 1, "expected 'root' and a type");
    this.root = parseType(root[1]!, lines, 1);
    this.parse(lines);
    this.measure();
  }

  /** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */
  decode(bytes: Uint8Array | ArrayBuffer, strict: boolean = false): unknown {
    this.whole ??= this.reader(this.root);
    const r = new Reader(bytes);
    return finish(r, this.whole(r), strict);
  }

  /**
   * A function that reads values of another writer's schema as values of this one. Fields are matched by
   * name. Fields that this schema lacks are skipped. Fields that the writer lacks become null or empty, or
   * are a difference. The function gives `undefined` for a variant that this schema lacks. Throws
   * `SchemaError` with all differences.
   */
  reading(writer: Generic): (bytes: Uint8Array | ArrayBuffer) => unknown {
    const read = new Resolver(this, writer).resolve();
    return (bytes) => read(new Reader(bytes));
  }

  /** The names of fields in values. */
  names(fields: readonly SchemaField[], ...taken: string[]): string[] {
    const wanted = new Set([
      ...fields.map((field) => field.name),
      ...taken,
      ...this.reserved,
    ]);
    return fields.map(({ name }) => {
      if (!this.reserved.has(name) && !taken.includes(name)) return name;
      let found = name + "_";
      while (wanted.has(found)) found += "_";
      wanted.add(found);
      return found;
    });
  }

  /** Least bytes of a value. */
  least(tp: SchemaType): number {
    switch (tp.is) {
      case "scalar":
        return tp.name === "bool" ? 1 : (numberSize(tp.name) ?? 4);
      case "ref":
        return this.sizes.get(tp.name) ?? Infinity;
      case "option":
        return 1;
      case "list":
        return 4;
      case "fixed":
        return tp.count === 0 ? 0 : tp.count * this.least(tp.item);
      case "product":
        return tp.items.reduce((sum, item) => sum + this.least(item), 0);
    }
  }

  /** A function that reads one value of a type. */
  reader(tp: SchemaType): Read {
    switch (tp.is) {
      case "scalar":
        return SCALAR_READERS[tp.name]!;
      case "ref": {
        const cell = this.cell(tp.name);
        return (r) => cell.read(r);
      }
      case "option": {
        const item = this.reader(tp.item);
        return (r) => (r.bool() ? item(r) : null);
      }
      case "list":
      case "fixed": {
        const array = arrayOf(tp.item);
        const least = this.least(tp.item);
        const count = tp.is === "fixed" ? tp.count : undefined;
        if (array !== undefined)
          return (r) => new array(r.copy(least * (count ?? r.count(least))));
        const item = this.reader(tp.item);
        if (count === undefined) return (r) => r.list(least, item);
        return (r) => r.fixed(count, least * count, item);
      }
      case "product": {
        const items = tp.items.map((item) => this.reader(item));
        return (r) => items.map((item) => item(r));
      }
    }
  }

  private cell(name: string): Cell {
    const known = this.cells.get(name);
    if (known !== undefined) return known;
    const cell: Cell = { read: () => undefined };
    this.cells.set(name, cell);
    const definition = this.definitions.get(name)!;
    if (definition.is === "enum") {
      const members = definition.members;
      cell.read = (r) => members[r.index(members.length)];
    } else if (definition.is === "struct") {
      cell.read = this.counted(name, this.struct(definition.fields));
    } else {
      const variants = definition.variants.map((variant) =>
        this.struct(variant.fields, variant.name),
      );
      cell.read = this.counted(name, (r) =>
        variants[r.index(variants.length)]!(r),
      );
    }
    return cell;
  }

  private struct(fields: SchemaField[], kind?: string): Read {
    const names =
      kind === undefined ? this.names(fields) : this.names(fields, "kind");
    const reads = fields.map((field) => this.reader(field.type));
    return (r) => {
      const value: Record<string, unknown> = {};
      if (kind !== undefined) value.kind = kind;
      for (let i = 0; i < reads.length; i++) value[names[i]!] = reads[i]!(r);
      return value;
    };
  }

  /** The same function. It counts its depth if a value can contain another of its type. */
  counted(name: string, read: Read): Read {
    if (!this.again.has(name)) return read;
    return (r) => {
      r.enter();
      const value = read(r);
      r.leave();
      return value;
    };
  }

  private parse(lines: string[]): void {
    let count = 0;
    for (let at = 2; at < lines.length; ) {
      const head = DEFINITION_LINE.exec(lines[at]!);
      if (
        head === null ||
        this.definitions.has(head[2]!) ||
        this.definitions.size === 4096 ||
        Object.hasOwn(SCALAR_READERS, head[2]!) ||
        DUNDER.test(head[2]!) ||
        (head[1] === "enum" && head[3] !== "")
      ) {
        throw wrong(
          lines,
          at,
          "expected 'struct', 'sealed' or 'enum' and a new name",
        );
      }
      const [, is, name, notes] = head as unknown as [
        string,
        string,
        string,
        string,
      ];
      const parts: { name: string; fields: SchemaField[]; notes: string }[] =
        [];
      if (is === "struct") parts.push({ name, fields: [], notes });
      for (at++; at < lines.length && lines[at]!.startsWith(" "); at++) {
        const variant = is === "struct" ? null : VARIANT_LINE.exec(lines[at]!);
        if (
          variant !== null &&
          parts.every((each) => each.name !== variant[2])
        ) {
          if (
            Number(variant[1]) !== parts.length ||
            DUNDER.test(variant[2]!) ||
            (is === "enum" && variant[3] !== "")
          )
            throw wrong(lines, at, "expected another index or name");
          parts.push({ name: variant[2]!, fields: [], notes: variant[3]! });
          continue;
        }
        const indent = is === "struct" ? 1 : 2;
        const field = is === "enum" ? null : FIELD_LINE.exec(lines[at]!);
        const part = parts[parts.length - 1];
        if (
          field === null ||
          part === undefined ||
          DUNDER.test(field[1]!) ||
          lines[at]!.search(/[^ ]/) !== indent
        ) {
          throw wrong(lines, at, "expected a field: a name, a type and notes");
        }
        if (
          ++count > 65536 ||
          part.fields.some((each) => each.name === field[1])
        ) {
          throw wrong(
            lines,
            at,
            "a field is declared twice, or there are more than 65536",
          );
        }
        part.fields.push({
          name: field[1]!,
          type: parseType(field[2]!, lines, at),
          notes: field[3]!,
        });
      }
      if (parts.length === 0)
        throw wrong(lines, at - 1, "expected variants or members");
      if (is === "struct") this.definitions.set(name, { is, ...parts[0]! });
      else if (is === "sealed")
        this.definitions.set(name, { is, name, variants: parts, notes });
      else
        this.definitions.set(name, {
          is: "enum",
          name,
          members: parts.map((each) => each.name),
        });
    }
  }

  /** Compute least sizes and recursion, and check that all names are defined. */
  private measure(): void {
    const ways = new Map<string, [number, SchemaType[]][]>();
    for (const [name, each] of this.definitions) {
      if (each.is === "enum") ways.set(name, [[4, []]]);
      else if (each.is === "struct")
        ways.set(name, [[0, each.fields.map((field) => field.type)]]);
      else {
        ways.set(
          name,
          each.variants.map((variant) => [
            4,
            variant.fields.map((field) => field.type),
          ]),
        );
      }
    }
    const inside = new Map<string, Set<string>>();
    for (const [name, own] of [...ways, ["", [[0, [this.root]]]] as const]) {
      inside.set(
        name,
        new Set(own.flatMap(([, types]) => types.flatMap(refsOf))),
      );
      for (const ref of inside.get(name)!) {
        if (!ways.has(ref))
          throw new SchemaError(`no schema: ${ref} is not defined`);
      }
    }
    this.checkOrder(inside);
    const order = [...ways.keys()].reverse(); // inner definitions mostly come later in the text
    for (let changed = true; changed; ) {
      changed = false;
      for (const name of order) {
        const sums = ways
          .get(name)!
          .map(
            ([own, types]) => own + this.least({ is: "product", items: types }),
          );
        const size = sums.reduce((a, b) => Math.min(a, b));
        if (size < (this.sizes.get(name) ?? Infinity)) {
          this.sizes.set(name, size);
          changed = true;
        }
      }
    }
    for (const tp of [
      this.root,
      ...order.map((name) => ({ is: "ref" as const, name })),
    ]) {
      if (!(this.least(tp) <= 2 ** 40)) {
        throw new SchemaError(
          `no schema: no value of ${typeText(tp)} ends, or it takes over 2^40 bytes`,
        );
      }
    }
    this.findCycles(inside);
  }

  /** Definitions must be in the order in which a walk from the root meets them, and it must meet all. */
  private checkOrder(inside: Map<string, Set<string>>): void {
    const met = new Set<string>();
    const names = [...this.definitions.keys()];
    for (const todo = [...inside.get("")!].reverse(); todo.length > 0; ) {
      const name = todo.pop()!;
      if (met.has(name)) continue;
      if (names[met.size] !== name) {
        throw new SchemaError(
          `no schema: ${name} must be defined before ${names[met.size]}`,
        );
      }
      met.add(name);
      todo.push(...[...inside.get(name)!].reverse());
    }
    if (met.size < names.length) {
      throw new SchemaError(`no schema: nothing refers to ${names[met.size]}`);
    }
  }

  /** Tarjan's components: definitions whose values can contain the same definition count their depth. */
  private findCycles(inside: Map<string, Set<string>>): void {
    const low = new Map<string, number>();
    const held: string[] = [];
    const visit = (name: string): number => {
      const own = low.size;
      low.set(name, own);
      held.push(name);
      let least = own;
      for (const ref of inside.get(name)!) {
        const found = low.get(ref);
        if (found === undefined) least = Math.min(least, visit(ref));
        else if (held.includes(ref)) least = Math.min(least, found);
      }
      if (least === own) {
        const part = held.splice(held.indexOf(name));
        if (part.length > 1 || inside.get(name)!.has(name))
          part.forEach((each) => this.again.add(each));
      }
      return least;
    };
    visit("");
  }
}

function wrong(lines: string[], at: number, what: string): SchemaError {
  const line =
    lines[at] === undefined ? "the end" : `'${lines[at]!.slice(0, 60)}'`;
  return new SchemaError(`no schema: ${what} (line ${at + 1}, ${line})`);
}

function refsOf(tp: SchemaType): string[] {
  if (tp.is === "ref") return [tp.name];
  if (tp.is === "product") return tp.items.flatMap(refsOf);
  return tp.is === "scalar" ? [] : refsOf(tp.item);
}

function parseType(text: string, lines: string[], at: number): SchemaType {
  const tokens = text.match(/[A-Za-z0-9_]+|[^A-Za-z0-9_]/g) ?? [];
  let next = 0;
  const fail = () => wrong(lines, at, "expected a type");
  const take = (wanted: string) => {
    const token = tokens[next++] ?? "";
    if (token === "" || !wanted.includes(token)) throw fail();
    return token;
  };
  const one = (room: number): SchemaType => {
    if (room === 0)
      throw wrong(lines, at, "types are nested more than 200 deep");
    const token = tokens[next++] ?? "";
    let made: SchemaType;
    if (token === "[") {
      const item = one(room - 1);
      if (take(";]") === "]") {
        if (item.is === "scalar" && item.name === "u8") throw fail(); // bytes
        made = { is: "list", item };
      } else {
        const count = tokens[next++] ?? "";
        if (!/^(0|[1-9][0-9]{0,7})$/.test(count) || Number(count) > 16777216)
          throw fail();
        take("]");
        made = { is: "fixed", item, count: Number(count) };
      }
    } else if (token === "(") {
      const items: SchemaType[] = [];
      if (tokens[next] === ")") next++;
      else {
        do items.push(one(room - 1));
        while (take(",)") === ",");
      }
      made = { is: "product", items };
    } else if (Object.hasOwn(SCALAR_READERS, token))
      made = { is: "scalar", name: token };
    else if (/^[A-Za-z_]/.test(token)) made = { is: "ref", name: token };
    else throw fail();
    if (tokens[next] !== "?") return made;
    next++;
    return { is: "option", item: made };
  };
  const found = one(201);
  if (next !== tokens.length) throw fail();
  if (depthOf(found) > 201)
    throw wrong(lines, at, "types are nested more than 200 deep");
  return found;
}

/** The nesting depth of a type: 1 for a scalar or a name. */
function depthOf(tp: SchemaType): number {
  if (tp.is === "scalar" || tp.is === "ref") return 1;
  const items = tp.is === "product" ? tp.items : [tp.item];
  return 1 + items.reduce((most, item) => Math.max(most, depthOf(item)), 0);
}

/** A variant or member that the reader lacks. It is no error if it is the whole message. */
class UnknownVariant extends InvalidVariant {}

/** Reads a writer's values as the reader's values (docs/wire.md section 9). */
class Resolver {
  private readonly here: Generic;
  private readonly there: Generic;
  private readonly cells: Map<string, Cell> = new Map();
  private readonly todo: (() => void)[] = [];
  private readonly rows: [string, string][] = [];
  /** Whether an unknown variant or member at offset 0 is the whole message. */
  private readonly message: boolean;

  constructor(here: Generic, there: Generic) {
    this.here = here;
    this.there = there;
    const root = here.root;
    this.message =
      root.is === "ref" && here.definitions.get(root.name)!.is !== "struct";
  }

  resolve(): Read {
    const read = this.compare(this.there.root, this.here.root, "");
    if (read === null)
      this.differ("the message", this.there.root, this.here.root);
    for (let next; (next = this.todo.shift()) !== undefined; ) next();
    if (read === null || this.rows.length > 0) {
      const bare = (name: string) => name.replace(/^- /, "");
      const width = Math.max(...this.rows.map(([name]) => bare(name).length));
      const lines = this.rows.map(([name, words]) => {
        return `${name}${" ".repeat(width - bare(name).length)}  ${words}`;
      });
      throw new SchemaError(
        `another ${typeText(this.here.root)} is sent here`,
        lines,
      );
    }
    if (!this.message) return read;
    return (r) => {
      try {
        return read(r);
      } catch (error) {
        if (error instanceof UnknownVariant && error.offset === 0)
          return undefined;
        throw error;
      }
    };
  }

  private differ(where: string, there: SchemaType, here: SchemaType): void {
    this.rows.push([where, `${typeText(here)} here, ${typeText(there)} there`]);
  }

  /** A function that reads a writer's type as a reader's type; null if that is not possible. */
  private compare(
    there: SchemaType,
    here: SchemaType,
    path: string,
  ): Read | null {
    if (here.is === "option" && there.is !== "option")
      return this.compare(there, here.item, path);
    if (here.is === "scalar" && there.is === "scalar") {
      if (here.name === there.name) return SCALAR_READERS[here.name]!;
      const read = SCALAR_READERS[there.name]!;
      const change = widened(there.name, here.name);
      return change && ((r) => change(read(r)));
    }
    if (here.is === "ref" && there.is === "ref")
      return this.pair(there.name, here.name, path);
    if (here.is === "option" && there.is === "option") {
      const item = this.compare(there.item, here.item, path);
      return item && ((r) => (r.bool() ? item(r) : null));
    }
    if (here.is === "product" && there.is === "product") {
      if (here.items.length !== there.items.length) return null;
      const items = here.items.map((item, i) =>
        this.compare(there.items[i]!, item, `${path}[${i}]`),
      );
      if (items.includes(null)) return null;
      return (r) => items.map((item) => item!(r));
    }
    const own = itemsOf(here);
    const other = itemsOf(there);
    if (own === null || other === null || own.count !== other.count)
      return null;
    return this.items(other, own, path);
  }

  private items(there: Items, here: Items, path: string): Read | null {
    const least = this.there.least(there.item);
    const count = here.count;
    const array = arrayOf(here.item);
    const source = arrayOf(there.item);
    if (array !== undefined && array === source) {
      return (r) => new array(r.copy(least * (count ?? r.count(least))));
    }
    const item = this.compare(there.item, here.item, `${path}[]`);
    if (item === null) return null;
    const list: Read =
      count === undefined
        ? (r) => r.list(least, item)
        : (r) => r.fixed(count, least * count, item);
    return array === undefined ? list : (r) => new array(list(r) as never[]);
  }

  private pair(there: string, here: string, path: string): Read | null {
    const key = `${there} ${here}`;
    let cell = this.cells.get(key);
    const own = this.here.definitions.get(here)!;
    const other = this.there.definitions.get(there)!;
    if (own.is !== other.is) return null;
    if (cell === undefined) {
      const made: Cell = { read: () => undefined };
      cell = made;
      this.cells.set(key, made);
      this.todo.push(() => {
        if (own.is === "enum" && other.is === "enum")
          made.read = members(other.members, own.members);
        else if (own.is === "struct" && other.is === "struct") {
          made.read = this.there.counted(
            there,
            this.struct(other.fields, own.fields, path),
          );
        } else if (own.is === "sealed" && other.is === "sealed") {
          made.read = this.there.counted(
            there,
            this.variants(other.variants, own.variants, path),
          );
        }
      });
    }
    const found = cell;
    return (r) => found.read(r);
  }

  private variants(
    there: SchemaVariant[],
    here: SchemaVariant[],
    path: string,
  ): Read {
    const cells = there.map((variant) => {
      const own = here.find((each) => each.name === variant.name);
      if (own === undefined)
        return variant.fields.map((field) => this.skipper(field.type));
      const cell: Cell = { read: () => undefined };
      const where = path === "" ? variant.name : `${path}.${variant.name}`;
      this.todo.push(
        () =>
          (cell.read = this.struct(
            variant.fields,
            own.fields,
            where,
            own.name,
          )),
      );
      return cell;
    });
    return (r) => {
      const at = r.at;
      const index = r.index(cells.length);
      const cell = cells[index]!;
      if (!Array.isArray(cell)) return cell.read(r);
      if (this.message && at === 0) cell.forEach((skip) => skip(r));
      throw new UnknownVariant(index, at);
    };
  }

  private struct(
    there: SchemaField[],
    here: SchemaField[],
    path: string,
    kind?: string,
  ): Read {
    const names =
      kind === undefined
        ? this.here.names(here)
        : this.here.names(here, "kind");
    const at = (name: string) => (path === "" ? name : `${path}.${name}`);
    const places = new Map(there.map((field, i) => [field.name, i]));
    const steps: (Read | null)[] = there.map((field) =>
      this.skipper(field.type),
    );
    const targets = there.map(() => "");
    const absent: [string, () => unknown][] = [];
    const left: [string, string][] = [];
    here.forEach((field, i) => {
      const place = places.get(field.name);
      if (place !== undefined) {
        steps[place] = this.compare(
          there[place]!.type,
          field.type,
          at(field.name),
        );
        targets[place] = names[i]!;
        if (steps[place] === null)
          this.differ(at(field.name), there[place]!.type, field.type);
        return;
      }
      const make = emptyOf(field.type);
      if (make !== null) absent.push([names[i]!, make]);
      else
        left.push([
          `- ${at(field.name)}`,
          `${typeText(field.type)}, only here and without a default`,
        ]);
    });
    this.rows.push(...left);
    // Values have the reader's fields in the reader's order, whatever the order of the writer.
    return (r) => {
      const value: Record<string, unknown> = {};
      if (kind !== undefined) value.kind = kind;
      for (const name of names) value[name] = undefined;
      for (let i = 0; i < steps.length; i++) {
        const found = steps[i]!(r);
        if (targets[i] !== "") value[targets[i]!] = found;
      }
      for (const [name, make] of absent) value[name] = make();
      return value;
    };
  }

  /** A function that skips one value of the writer. */
  private skipper(tp: SchemaType): Read {
    if (
      tp.is === "list" ||
      (tp.is === "scalar" && (tp.name === "bytes" || tp.name === "str"))
    ) {
      const size = tp.is === "list" ? sizeOf(tp.item) : 1;
      if (size > 0) return (r) => r.take(size * r.count(size));
    }
    if (tp.is === "fixed" && sizeOf(tp.item) > 0)
      return (r) => r.take(sizeOf(tp.item) * tp.count);
    return this.there.reader(tp);
  }
}

type Items = { item: SchemaType; count: number | undefined };

function itemsOf(tp: SchemaType): Items | null {
  if (tp.is === "scalar" && tp.name === "bytes") {
    return { item: { is: "scalar", name: "u8" }, count: undefined };
  }
  if (tp.is === "list") return { item: tp.item, count: undefined };
  return tp.is === "fixed" ? { item: tp.item, count: tp.count } : null;
}

/** Members by name. A member that the reader lacks is an error. */
function members(there: string[], here: string[]): Read {
  return (r) => {
    const at = r.at;
    const index = r.index(there.length);
    if (!here.includes(there[index]!)) throw new UnknownVariant(index, at);
    return there[index];
  };
}

/** The value of a field that is not sent; null if it needs a default, which a schema does not have. */
function emptyOf(tp: SchemaType): (() => unknown) | null {
  if (tp.is === "option") return () => null;
  if (tp.is === "list" || (tp.is === "scalar" && tp.name === "bytes")) {
    const array =
      tp.is === "list"
        ? arrayOf(tp.item)
        : (Uint8Array as unknown as NumberArray);
    return array === undefined ? () => [] : () => new array([]);
  }
  return null;
}

/** A function that converts a number to a wider kind; null if some numbers would not fit. */
function widened(
  source: string,
  target: string,
): ((value: unknown) => unknown) | null {
  const size = numberSize(source);
  const room = numberSize(target);
  if (size === undefined || room === undefined) return null;
  const [from, to] = [source.charAt(0), target.charAt(0)];
  if (from === to || (from === "u" && to === "i")) {
    if (room <= size) return null;
    return to !== "f" && room === 8 && INTEGERS_BIG
      ? (value) => BigInt(value as number)
      : (value) => value;
  }
  return from !== "f" && target === "f64" && size <= 4
    ? (value) => value
    : null;
}

const CLIENT_UP_HASH: string = UP_SCHEMA_HASH;
const CLIENT_UP_TEXT: string = UP_SCHEMA_TEXT;
const RESERVED_NAMES = `
  abstract any arguments as async await boolean break case catch class const
  continue debugger declare default delete do else enum eval export extends
  false finally for from function get if implements import in infer instanceof
  interface is keyof let module namespace never new null number object of
  package private protected public readonly require return set static string
  super switch symbol this throw true try type typeof undefined unique unknown
  var void while with yield bigint
`.match(/\w+/g)!;

// --- a client: connects, checks the schema, receives, sends, reconnects (docs/wire.md section 10) ---

/** The part of a WebSocket that is used: of browsers, of Node from 22 on, or of the package `ws`. */
export interface Socket {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
}

/** Messages that the server skipped for this client, or a time without its source. */
export interface Gap {
  name: string;
  skipped: number;
  superseded: number;
  reason: string;
  seconds: number | null;
}

export interface ClientOptions {
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
  onValue?: (value: Event) => void;
  onState?: (state: ClientState) => void;
  /** All retained values have been received. */
  onLive?: () => void;
  onGap?: (gap: Gap) => void;
  /** An error. After a mismatch of the schemas, the client is closed. */
  onError?: (error: Error) => void;
}

export type ClientState = "connecting" | "open" | "waiting" | "closed";

/** Values that wait to be taken. */
class Waiting {
  readonly held: Map<number, () => Event | undefined> = new Map();
  wake: (() => void) | null = null;
  count: number = 0;

  take(): Event | undefined {
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
export class Client implements AsyncIterable<Event> {
  readonly url: string;
  /** Resolved once the schema of the server is known; rejected if the client closes before that. */
  readonly ready: Promise<void>;
  state: ClientState = "connecting";
  /** How the server's values are read: unchanged, matched by name, or unchecked. */
  how: "same" | "resolved" | "unknown" | null = null;
  error: Error | null = null;
  received: number = 0;
  /** Number of values of variants that are not known here. */
  unknown: number = 0;
  /** Number of values that newer ones replaced before they were taken. */
  superseded: number = 0;

  private readonly options: ClientOptions;
  private readonly callbacks: Set<(value: Event) => void> = new Set();
  private readonly iterators: Set<Waiting> = new Set();
  private first: Waiting | null = new Waiting();
  private newest: Waiting | null = null;
  private fatal: Error | null = null;
  private settle: [() => void, (error: Error) => void] | null = null;
  private socket: Socket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private attempts: number = 0;
  private awaited: string = "";
  private upWanted: boolean = false;
  private read: ((bytes: Uint8Array | ArrayBuffer) => unknown) | null = null;

  constructor(url: string, options: ClientOptions = {}) {
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
  onValue(callback: (value: Event) => void): () => void {
    this.first = null;
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  /** The first iterator gives all values since the start, others those from now on. They end on close. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    const waiting = this.first ?? new Waiting();
    this.first = null;
    this.iterators.add(waiting);
    try {
      for (;;) {
        const value = waiting.take();
        if (value !== undefined) yield value;
        else if (this.fatal !== null) throw this.fatal;
        else if (this.state === "closed") return;
        else await new Promise<void>((wake) => (waiting.wake = wake));
      }
    } finally {
      this.iterators.delete(waiting);
    }
  }

  /** Send a value. Returns false if not connected, or if the server receives none. Throws `EncodeError`. */
  send(value: Command): boolean {
    const data = encodeCommand(value);
    if (this.state !== "open" || !this.upWanted || this.socket === null)
      return false;
    this.socket.send(data);
    return true;
  }

  close(code: number = 1000, reason: string = ""): void {
    this.end(null);
    this.socket?.close(code, reason);
  }

  private connect(): void {
    const found =
      this.options.WebSocket ??
      (globalThis as unknown as ClientOptions).WebSocket;
    this.turn("connecting");
    if ((this.state as ClientState) === "closed") return;
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
          this.onFault(error as Error);
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
      this.end(error as Error);
    }
  }

  private again(): void {
    if (this.state === "closed") return; // a callback has closed it
    const backoff =
      this.options.backoff === undefined ? [100, 10000] : this.options.backoff;
    if (backoff === null) return this.end(this.error);
    const delay = Math.min(backoff[1]!, backoff[0]! * 2 ** this.attempts++);
    this.timer = setTimeout(
      () => this.connect(),
      delay * (0.5 + Math.random() / 2),
    );
    this.turn("waiting");
  }

  private turn(state: ClientState): void {
    if (this.state === state) return;
    this.state = state;
    this.options.onState?.(state);
  }

  /** The schema of the server is known. */
  private open(
    how: "same" | "resolved" | "unknown",
    read: (bytes: Uint8Array | ArrayBuffer) => unknown,
  ): void {
    this.how = how;
    this.read = read;
    this.turn("open");
    this.settle?.[0]();
  }

  /** Close without reconnecting. */
  private end(error: Error | null): void {
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
  private onFault(error: Error): void {
    const socket = this.socket;
    this.socket = null;
    if (error instanceof SchemaError && error.differences.length > 0) {
      let reason = error.differences[0]!;
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

  private readText(text: string): void {
    const found = /^deli 1 ([a-z]+) ?([^\n]*)\n?([^]*)$/.exec(text);
    if (found === null) return;
    const [, word, words, rest] = found as unknown as [
      string,
      string,
      string,
      string,
    ];
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
      if (hello[1] === SCHEMA_HASH) this.open("same", decodeEvent);
      else this.awaited = hello[1]!;
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
      const of = Object.fromEntries(
        pairs.map((pair) => pair.split("=")),
      ) as Record<string, string>;
      const seconds = of.seconds === undefined ? null : Number(of.seconds);
      const [skipped, superseded] = [
        Number(of.skipped ?? 0),
        Number(of.superseded ?? 0),
      ];
      this.options.onGap?.({
        name: name!,
        skipped,
        superseded,
        reason: of.reason ?? "",
        seconds,
      });
    }
  }

  private readBytes(data: ArrayBuffer): void {
    if (this.read === null) {
      if (this.awaited !== "") throw new Error("a value before its schema");
      if (this.options.schema === "require") {
        this.end(new SchemaError("the server announces no schema"));
        return this.socket?.close();
      }
      this.unchecked();
    }
    this.received++;
    const read = this.read!;
    const decoded = () => {
      const value = read(data) as Event | undefined;
      if (value === undefined) this.unknown++;
      return value;
    };
    const targets =
      this.first === null
        ? [...this.iterators]
        : [this.first, ...this.iterators];
    if (this.options.newestOnly) {
      const key =
        true && data.byteLength >= 4
          ? new DataView(data).getUint32(0, true)
          : 0;
      const late = () => {
        try {
          return decoded();
        } catch (error) {
          this.onFault(error as Error);
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

  private unchecked(): void {
    this.upWanted = CLIENT_UP_HASH !== "-";
    this.open("unknown", decodeEvent);
  }

  private put(
    waiting: Waiting,
    key: number,
    read: () => Event | undefined,
  ): void {
    if (waiting.held.delete(key)) this.superseded++;
    waiting.held.set(key, read);
    if (waiting.held.size > (this.options.maxWaiting ?? 1024)) {
      waiting.held.delete(waiting.held.keys().next().value!);
      this.superseded++;
    }
    waiting.wake?.();
  }

  /** Give the newest values to the callbacks at the next drawn frame. */
  private draw(key: number, read: () => Event | undefined): void {
    if (this.newest === null) {
      const waiting = (this.newest = new Waiting());
      const run = () => {
        this.newest = null;
        for (let value; (value = waiting.take()) !== undefined; ) {
          this.attempts = 0;
          for (const callback of this.callbacks) callback(value);
        }
      };
      const frame = (
        globalThis as { requestAnimationFrame?: (run: () => void) => unknown }
      ).requestAnimationFrame;
      if (frame === undefined) setTimeout(run, 0);
      else frame(run);
    }
    this.put(this.newest, key, read);
  }
}

/** The hash of a schema: 16 bytes of the SHA-256 of the text without notes, in hexadecimal. */
export function schemaHash(text: string): string {
  const bytes = TO_UTF8.encode(text.replace(/ @[^\n]*/g, ""));
  const data = new Uint8Array((bytes.length + 72) & ~63);
  data.set(bytes);
  data[bytes.length] = 0x80;
  const view = new DataView(data.buffer);
  view.setUint32(data.length - 4, bytes.length * 8);
  // The constants are the first bits of the fractional parts of roots of the first primes.
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++)
    if (primes.every((p) => n % p !== 0)) primes.push(n);
  const bits = (x: number) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  const k = primes.map((p) => bits(Math.cbrt(p)));
  const h = primes.slice(0, 8).map((p) => bits(Math.sqrt(p)));
  const turn = (x: number, n: number) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let at = 0; at < data.length; at += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) w[i] = view.getInt32(at + 4 * i);
      else {
        const [x, y] = [w[i - 15]!, w[i - 2]!];
        const s = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
        const t = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
        w[i] = w[i - 16]! + s + w[i - 7]! + t;
      }
    }
    let [a, b, c, d, e, f, g, last] = h as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    for (let i = 0; i < 64; i++) {
      const s = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
      const t = (last + s + ((e & f) ^ (~e & g)) + k[i]! + w[i]!) | 0;
      const u = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
      [last, g, f, e] = [g, f, e, (d + t) | 0];
      [d, c, b, a] = [c, b, a, (t + u + ((a & b) ^ (a & c) ^ (b & c))) | 0];
    }
    [a, b, c, d, e, f, g, last].forEach((x, i) => (h[i] = (h[i]! + x) | 0));
  }
  return h
    .slice(0, 4)
    .map((x) => (x >>> 0).toString(16).padStart(8, "0"))
    .join("");
}
