// --- the wire: little-endian, no padding, no tags (docs/wire.md of deli-com) ---

/** The bytes are not a value of the type. `offset` is the place. */
export class DecodeError extends Error {
⟦  readonly detail: string;
  readonly offset: number;
⟧
  constructor(detail⟦: string⟧, offset⟦: number⟧) {
    super(`decode error: ${detail} (byte ${offset})`);
    this.name = "DecodeError";
    this.detail = detail;
    this.offset = offset;
  }
}

/** The input ends inside the value. */
export class UnexpectedEof extends DecodeError {
  constructor(offset⟦: number⟧) {
    super("unexpected end of buffer", offset);
    this.name = "UnexpectedEof";
  }
}

/** A string is not strict UTF-8. */
export class InvalidUtf8 extends DecodeError {
  constructor(offset⟦: number⟧) {
    super("invalid UTF-8 in string", offset);
    this.name = "InvalidUtf8";
  }
}

/** A bool is neither 0 nor 1. */
export class InvalidBool extends DecodeError {
⟦  readonly value: number;
⟧
  constructor(value⟦: number⟧, offset⟦: number⟧) {
    super(`invalid bool value: ${value}`, offset);
    this.name = "InvalidBool";
    this.value = value;
  }
}

/** No variant or member has this index. */
export class InvalidVariant extends DecodeError {
⟦  readonly index: number;
⟧
  constructor(index⟦: number⟧, offset⟦: number⟧) {
    super(`invalid enum variant: ${index}`, offset);
    this.name = "InvalidVariant";
    this.index = index;
  }
}

/** A value does not fit its type. `path` names the field. */
export class EncodeError extends Error {
⟦  readonly detail: string;
  readonly path: string;
⟧
  constructor(detail⟦: string⟧, path⟦: string⟧) {
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
function utf8Fault(b⟦: Uint8Array⟧, at⟦: number⟧, end⟦: number⟧)⟦: number⟧ {
  const more = (i⟦: number⟧) => i < end && (b[i]⟦!⟧ & 0xc0) === 0x80;
  while (at < end) {
    const c = b[at]⟦!⟧;
    const d = at + 1 < end ? b[at + 1]⟦!⟧ : 0;
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

function viewOf(data⟦: Uint8Array | ArrayBuffer⟧)⟦: DataView⟧ {
  return ArrayBuffer.isView(data)
    ? new DataView(data.buffer, data.byteOffset, data.byteLength)
    : new DataView(data);
}

function boolAt(view⟦: DataView⟧, at⟦: number⟧)⟦: boolean⟧ {
  const found = view.getUint8(at);
  if (found > 1) throw new InvalidBool(found, at);
  return found === 1;
}

/** 64 bits as a number, up to 2^53 (option `--u64 number`). */
function safe(read⟦: bigint⟧, at⟦: number⟧)⟦: number⟧ {
  const found = Number(read);
  if (!Number.isSafeInteger(found)) {
    throw new DecodeError(`${read} is beyond 2^53`, at);
  }
  return found;
}

class Reader {
⟦  readonly view: DataView;
  readonly end: number;
  at: number;
  depth: number;
⟧
  constructor(data⟦: Uint8Array | ArrayBuffer⟧) {
    this.view = viewOf(data);
    this.end = this.view.byteLength;
    this.at = 0;
    this.depth = 0;
  }

  take(size⟦: number⟧)⟦: number⟧ {
    const at = this.at;
    if (this.end - at < size) throw new UnexpectedEof(at);
    this.at = at + size;
    return at;
  }

  /** Check the bounds of a sequence of numbers and bools, and skip it. Returns its offset. */
  run(size⟦: number⟧, kinds⟦: string⟧)⟦: number⟧ {
    const at = this.at;
    if (this.end - at < size) this.short(kinds);
    this.at = at + size;
    return at;
  }

  /** Report which of a sequence is faulty first. */
  short(kinds⟦: string⟧)⟦: void⟧ {
    for (const kind of kinds) {
      if (kind === "b") this.bool();
      else if (kind === "u") safe(this.u64(), this.at - 8);
      else if (kind === "i") safe(this.i64(), this.at - 8);
      else this.take(Number(kind));
    }
  }

  u8()⟦: number⟧ {
    return this.view.getUint8(this.take(1));
  }
  u16()⟦: number⟧ {
    return this.view.getUint16(this.take(2), true);
  }
  u32()⟦: number⟧ {
    return this.view.getUint32(this.take(4), true);
  }
  u64()⟦: bigint⟧ {
    return this.view.getBigUint64(this.take(8), true);
  }
  i8()⟦: number⟧ {
    return this.view.getInt8(this.take(1));
  }
  i16()⟦: number⟧ {
    return this.view.getInt16(this.take(2), true);
  }
  i32()⟦: number⟧ {
    return this.view.getInt32(this.take(4), true);
  }
  i64()⟦: bigint⟧ {
    return this.view.getBigInt64(this.take(8), true);
  }
  f32()⟦: number⟧ {
    return this.view.getFloat32(this.take(4), true);
  }
  f64()⟦: number⟧ {
    return this.view.getFloat64(this.take(8), true);
  }

  bool()⟦: boolean⟧ {
    return boolAt(this.view, this.take(1));
  }

  /** An index below `count`. */
  index(count⟦: number⟧)⟦: number⟧ {
    const at = this.take(4);
    const found = this.view.getUint32(at, true);
    if (found >= count) throw new InvalidVariant(found, at);
    return found;
  }

  /** A count of elements of at least `least` bytes each. It checks that so many can follow. */
  count(least⟦: number⟧)⟦: number⟧ {
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
  copy(size⟦: number⟧)⟦: ArrayBuffer⟧ {
    const at = this.view.byteOffset + this.take(size);
    return this.view.buffer.slice(at, at + size)⟦ as ArrayBuffer⟧;
  }

  data()⟦: Uint8Array⟧ {
    return new Uint8Array(this.copy(this.count(1)));
  }

  str()⟦: string⟧ {
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

  list⟦<T>⟧(least⟦: number⟧, read⟦: (r: Reader) => T⟧)⟦: T[]⟧ {
    return this.items(this.count(least), read);
  }

  fixed⟦<T>⟧(count⟦: number⟧, size⟦: number⟧, read⟦: (r: Reader) => T⟧)⟦: T[]⟧ {
    if (this.end - this.at < size) throw new UnexpectedEof(this.at);
    return this.items(count, read);
  }

  /** Structs of numbers and bools. Their bounds are checked once. */
  rows⟦<T>⟧(
    count⟦: number⟧,
    size⟦: number⟧,
    read⟦: (view: DataView, at: number) => T⟧,
  )⟦: T[]⟧ {
    const view = this.view;
    let at = this.take(count * size);
    const found⟦: T[]⟧ = [];
    for (let i = 0; i < count; i++, at += size) found.push(read(view, at));
    return found;
  }

  items⟦<T>⟧(count⟦: number⟧, read⟦: (r: Reader) => T⟧)⟦: T[]⟧ {
    const found⟦: T[]⟧ = [];
    for (let i = 0; i < count; i++) found.push(read(this));
    return found;
  }

  enter()⟦: void⟧ {
    if (this.depth === MAX_DEPTH) throw new DecodeError(TOO_DEEP, this.at);
    this.depth++;
  }
  leave()⟦: void⟧ {
    this.depth--;
  }
}

class Writer {
⟦  bytes: Uint8Array;
  view: DataView;
  at: number;
  depth: number;
⟧
  constructor() {
    this.bytes = new Uint8Array(128);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
    this.depth = 0;
  }

  room(size⟦: number⟧)⟦: number⟧ {
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

  done()⟦: Uint8Array⟧ {
    return this.bytes.slice(0, this.at);
  }

  whole(
    v⟦: number⟧,
    low⟦: number⟧,
    high⟦: number⟧,
    type⟦: string⟧,
    path⟦: string⟧,
  )⟦: void⟧ {
    if (!(Number.isInteger(v) && v >= low && v <= high)) {
      throw new EncodeError(`${shown(v)} does not fit ${type}`, path);
    }
  }
  u8(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, 0, 255, "u8", path);
    const at = this.room(1);
    this.bytes[at] = v;
  }
  u16(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, 0, 65535, "u16", path);
    const at = this.room(2);
    this.view.setUint16(at, v, true);
  }
  u32(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, 0, 4294967295, "u32", path);
    this.raw32(v);
  }
  i8(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, -128, 127, "i8", path);
    const at = this.room(1);
    this.view.setInt8(at, v);
  }
  i16(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, -32768, 32767, "i16", path);
    const at = this.room(2);
    this.view.setInt16(at, v, true);
  }
  i32(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    this.whole(v, -2147483648, 2147483647, "i32", path);
    const at = this.room(4);
    this.view.setInt32(at, v, true);
  }
  u64(v⟦: bigint⟧, path⟦: string⟧)⟦: void⟧ {
    if (typeof v !== "bigint" || BigInt.asUintN(64, v) !== v) {
      throw new EncodeError(`${shown(v)} does not fit u64 (a bigint)`, path);
    }
    const at = this.room(8);
    this.view.setBigUint64(at, v, true);
  }
  i64(v⟦: bigint⟧, path⟦: string⟧)⟦: void⟧ {
    if (typeof v !== "bigint" || BigInt.asIntN(64, v) !== v) {
      throw new EncodeError(`${shown(v)} does not fit i64 (a bigint)`, path);
    }
    const at = this.room(8);
    this.view.setBigInt64(at, v, true);
  }
  safe(v⟦: number⟧, path⟦: string⟧)⟦: bigint⟧ {
    if (!Number.isSafeInteger(v)) {
      throw new EncodeError(`${shown(v)} is no integer within 2^53`, path);
    }
    return BigInt(v);
  }
  f32(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    if (
      typeof v !== "number" ||
      (Number.isFinite(v) && !Number.isFinite(Math.fround(v)))
    ) {
      throw new EncodeError(`${shown(v)} does not fit f32`, path);
    }
    const at = this.room(4);
    this.view.setFloat32(at, v, true);
  }
  f64(v⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    if (typeof v !== "number") {
      throw new EncodeError(`${shown(v)} does not fit f64`, path);
    }
    const at = this.room(8);
    this.view.setFloat64(at, v, true);
  }
  bool(v⟦: boolean⟧, path⟦: string⟧)⟦: void⟧ {
    if (typeof v !== "boolean") {
      throw new EncodeError(`${shown(v)} is no boolean`, path);
    }
    this.raw8(v ? 1 : 0);
  }

  raw8(v⟦: number⟧)⟦: void⟧ {
    const at = this.room(1);
    this.bytes[at] = v;
  }
  raw32(v⟦: number⟧)⟦: void⟧ {
    const at = this.room(4);
    this.view.setUint32(at, v, true);
  }

  /** The index of a name in a list. */
  index(v⟦: string⟧, names⟦: readonly string[]⟧, path⟦: string⟧)⟦: void⟧ {
    const found = names.indexOf(v);
    if (found < 0) throw new EncodeError(`${shown(v)} is no member`, path);
    this.raw32(found);
  }

  count(v⟦: ArrayLike<unknown>⟧, path⟦: string⟧, most⟦: number⟧ = 4294967295)⟦: void⟧ {
    if (v == null || typeof v !== "object" || !(v.length <= most)) {
      throw new EncodeError(`no array of at most ${most} elements`, path);
    }
    this.raw32(v.length);
  }

  exactly(v⟦: ArrayLike<unknown>⟧, count⟦: number⟧, path⟦: string⟧)⟦: void⟧ {
    if (v == null || typeof v !== "object" || v.length !== count) {
      throw new EncodeError(`no array of ${count} elements`, path);
    }
  }

  /** Numbers in sequence: copied at once if the array has the type, else one by one. */
  numbers(
    v⟦: ArrayLike<unknown>⟧,
    type⟦: Function⟧,
    kind⟦:
      | "u8"
      | "u16"
      | "u32"
      | "u64"
      | "i8"
      | "i16"
      | "i32"
      | "i64"
      | "f32"
      | "f64"⟧,
    path⟦: string⟧,
  )⟦: void⟧ {
    if (v instanceof type && ArrayBuffer.isView(v)) {
      const raw = new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
      const at = this.room(raw.length);
      this.bytes.set(raw, at);
    } else {
      for (let i = 0; i < v.length; i++) this[kind](v[i]⟦ as never⟧, path);
    }
  }

  data(v⟦: Uint8Array⟧, path⟦: string⟧)⟦: void⟧ {
    this.count(v, path);
    this.numbers(v, Uint8Array, "u8", path);
  }

  str(v⟦: string⟧, path⟦: string⟧)⟦: void⟧ {
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

  enter(path⟦: string⟧)⟦: void⟧ {
    if (this.depth === MAX_DEPTH) throw new EncodeError(TOO_DEEP, path);
    this.depth++;
  }
  leave()⟦: void⟧ {
    this.depth--;
  }
}

const TO_UTF8 = new TextEncoder();

function shown(v⟦: unknown⟧)⟦: string⟧ {
  const text = typeof v === "string" ? JSON.stringify(v) : String(v);
  return text.length <= 40 ? text : text.slice(0, 40) + "...";
}

function finish⟦<T>⟧(r⟦: Reader⟧, value⟦: T⟧, strict⟦: boolean⟧)⟦: T⟧ {
  if (strict && r.at !== r.end) {
    throw new DecodeError(`${r.end - r.at} bytes after the value`, r.at);
  }
  return value;
}
