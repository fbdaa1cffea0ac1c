// Reads values of the deli-com wire format from the bytes of one message: numbers are little-endian, lengths and
// counts are u32, nothing stands between two fields. Reading past the end throws a RangeError.

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class Reader {
  constructor(buffer) { // an ArrayBuffer, as `event.data` of a WebSocket with binaryType "arraybuffer"
    this.view = new DataView(buffer);
    this.at = 0;
  }

  #skip(size) { // returns where the field starts
    const start = this.at;
    this.at += size;
    return start;
  }

  u8() { return this.view.getUint8(this.#skip(1)); }
  u16() { return this.view.getUint16(this.#skip(2), true); }
  u32() { return this.view.getUint32(this.#skip(4), true); }
  u64() { return this.view.getBigUint64(this.#skip(8), true); }
  i8() { return this.view.getInt8(this.#skip(1)); }
  i16() { return this.view.getInt16(this.#skip(2), true); }
  i32() { return this.view.getInt32(this.#skip(4), true); }
  i64() { return this.view.getBigInt64(this.#skip(8), true); }
  f32() { return this.view.getFloat32(this.#skip(4), true); }
  f64() { return this.view.getFloat64(this.#skip(8), true); }
  bool() { return this.u8() !== 0; }

  bytes() { // a view of the message, not a copy
    const length = this.u32();
    return new Uint8Array(this.view.buffer, this.#skip(length), length);
  }

  str() { return utf8.decode(this.bytes()); }

  list(item) { // list(() => reader.str())
    return Array.from({ length: this.u32() }, item);
  }

  // Arrays of numbers. A Float32Array can only look at an offset that is a multiple of 4, and fields lie where they
  // lie: so the bytes are copied to a place of their own. (Every machine that runs a browser is little-endian.)
  array(Type) { // array(Float32Array)
    const size = this.u32() * Type.BYTES_PER_ELEMENT;
    const start = this.#skip(size);
    if (this.at > this.view.byteLength) throw new RangeError("an array is longer than its message");
    return new Type(this.view.buffer.slice(start, start + size));
  }
}
