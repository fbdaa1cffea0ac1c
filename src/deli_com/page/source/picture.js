// --- pictures: JPEG, PNG and others in bytes, and arrays of uint8 with a shape ---

const MAX_PIXELS = 1 << 26;

/** The arguments of `@shape(...)`, or null. */
function shapeOf(notes) {
  const found = / @shape\(([^)]*)\)/.exec(notes ?? "");
  return found === null ? null : found[1].split(",");
}

/** The MIME type of encoded bytes, by their first bytes, or "". */
function sniffed(b) {
  if (b[0] === 0xff && b[1] === 0xd8 && b[2] === 0xff) return "image/jpeg";
  if (b[0] === 0x89 && b[1] === 0x50 && b[2] === 0x4e && b[3] === 0x47) return "image/png";
  if (b[0] === 0x47 && b[1] === 0x49 && b[2] === 0x46 && b[3] === 0x38) return "image/gif";
  const text = (at) => String.fromCharCode(...b.subarray(at, at + 4));
  return b.length > 12 && text(0) === "RIFF" && text(8) === "WEBP" ? "image/webp" : "";
}

/** Width and height in the head of encoded bytes; null: the head has none. */
function sizeIn(b, kind) {
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  if (kind === "image/png" && b.length >= 24) return [view.getUint32(16), view.getUint32(20)];
  if (kind === "image/gif" && b.length >= 10) return [view.getUint16(6, true), view.getUint16(8, true)];
  if (kind !== "image/jpeg") return null;
  for (let at = 2; at + 9 < b.length && b[at] === 0xff; ) {
    const mark = b[at + 1];
    if (mark >= 0xc0 && mark <= 0xcf && mark !== 0xc4 && mark !== 0xc8 && mark !== 0xcc) {
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
    at += mark === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  return null;
}

/** Height, width and channels of raw bytes: by the note, or by fields beside them; null: none fit. */
function rawShape(notes, beside, length) {
  const number = (word) => (/^[0-9]+$/.test(word) ? Number(word) : Number(beside?.[word]));
  const said = shapeOf(notes);
  let shape = null;
  if (said !== null) shape = said.map(number);
  else if (beside?.width > 0 && beside?.height > 0) {
    const [w, h] = [Number(beside.width), Number(beside.height)];
    shape = [h, w, length / (w * h)];
  }
  if (shape === null || shape.length < 2 || shape.length > 3) return null;
  const [h, w, c = 1] = shape;
  const fits = [h, w, c].every((n) => Number.isInteger(n) && n > 0) && [1, 3, 4].includes(c);
  return fits && h * w * c === length && h * w <= MAX_PIXELS ? [h, w, c] : null;
}

/** Whether bytes can be shown as a picture now. */
function isPicture(node) {
  const value = node.value();
  if (!(value instanceof Uint8Array)) return false;
  return sniffed(value) !== "" || rawShape(node.notes, node.parent.value(), value.length) !== null;
}

function paint(context, bytes, [h, w, c]) {
  const image = context.createImageData(w, h);
  const out = image.data;
  if (c === 4) out.set(bytes);
  else {
    for (let i = 0, from = 0; i < out.length; i += 4, from += c) {
      out[i] = bytes[from];
      out[i + 1] = bytes[c === 3 ? from + 1 : from];
      out[i + 2] = bytes[c === 3 ? from + 2 : from];
      out[i + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

/** The newest picture of one place. One is decoded at a time; pictures that arrive meanwhile are skipped. */
class PictureCard extends NodeCard {
  constructor(board, node) {
    super(board, node, "card");
    this.box = make("div", "picture");
    this.canvas = make("canvas");
    this.canvas.width = this.canvas.height = 1;
    this.context = this.canvas.getContext("2d");
    this.box.append(this.canvas);
    this.box.addEventListener("click", () => this.element.classList.toggle("wide"));
    this.element.append(this.box);
    this.drawn = null;
    this.isBusy = false;
    this.times = [];
  }

  draw(now) {
    const data = this.node.entry.data;
    if (this.isBusy || this.drawn === data || data === null) return;
    this.drawn = data;
    const bytes = this.node.value();
    if (!(bytes instanceof Uint8Array) || bytes.length === 0) return put(this.more, "nothing to show");
    const kind = sniffed(bytes);
    if (kind === "") {
      const shape = rawShape(this.node.notes, this.node.parent.value(), bytes.length);
      if (shape === null) return put(this.more, `${sizeText(bytes.length)} that are no picture`);
      this.resize(shape[1], shape[0]);
      paint(this.context, bytes, shape);
      return this.tell(now, "raw", bytes.length);
    }
    const size = sizeIn(bytes, kind);
    if (size !== null && size[0] * size[1] > MAX_PIXELS) return put(this.more, `${size.join(" × ")}: too large`);
    this.isBusy = true;
    createImageBitmap(new Blob([bytes], { type: kind })).then(
      (image) => {
        this.isBusy = false;
        this.resize(image.width, image.height);
        this.context.drawImage(image, 0, 0);
        image.close();
        this.tell(performance.now(), kind.slice(6).toUpperCase(), bytes.length);
      },
      () => {
        this.isBusy = false;
        put(this.more, "the picture is damaged");
      },
    );
  }

  resize(width, height) {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    const scale = Math.max(1, Math.min(8, Math.floor(420 / Math.max(width, height))));
    this.canvas.style.width = `${width * scale}px`;
    this.box.classList.toggle("small", scale > 1);
  }

  tell(now, what, bytes) {
    this.times.push(now);
    while (this.times[0] < now - 2000) this.times.shift();
    const rate = this.times.length < 2 ? "" : `  ${rateText((this.times.length - 1) / ((now - this.times[0]) / 1000))}`;
    this.canvas.dataset.count = String(Number(this.canvas.dataset.count ?? 0) + 1);
    if (now - (this.toldAt ?? 0) < 200) return;
    this.toldAt = now;
    put(this.more, `${this.canvas.width} × ${this.canvas.height} ${what}  ${sizeText(bytes)}${rate}`);
  }
}
