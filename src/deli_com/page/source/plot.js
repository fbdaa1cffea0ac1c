// --- plots: numbers over time, and arrays of numbers over their index ---

const RAW = 32768; // samples of a series that are kept unchanged
const BUCKET_MS = 250; // older samples: the least and the greatest of each bucket
const BUCKETS = 2400;
const SPANS = [[10, "10 s", 5], [30, "30 s", 3], [120, "2 min", 4], [600, "10 min", 5]]; // seconds, text, parts
const MAX_SERIES = 32;

/** The last numbers of one place in one entry. */
class Series {
  constructor(node) {
    this.id = node.id;
    this.entry = node.entry;
    const steps = node.path();
    const members = definitionOf(node.store.generic, bare(node.type))?.members;
    this.isStep = members !== undefined || bare(node.type).name === "bool";
    this.members = members;
    this.node = node;
    this.read = (value) => {
      for (const step of steps) value = value?.[step];
      if (typeof value === "number") return value;
      if (typeof value === "string" && members !== undefined) return members.indexOf(value);
      return value === null || value === undefined ? NaN : Number(value);
    };
    this.times = new Float64Array(RAW);
    this.values = new Float64Array(RAW);
    this.count = 0; // ever pushed
    this.lows = new Float64Array(BUCKETS).fill(NaN);
    this.highs = new Float64Array(BUCKETS).fill(NaN);
    this.bucket = -1;
  }

  push(now, value) {
    const at = this.count++ % RAW;
    this.times[at] = now;
    this.values[at] = value;
    const bucket = Math.floor(now / BUCKET_MS);
    if (bucket !== this.bucket) {
      const from = this.bucket < 0 ? bucket : Math.max(this.bucket + 1, bucket - BUCKETS + 1);
      for (let i = from; i <= bucket; i++) this.lows[i % BUCKETS] = this.highs[i % BUCKETS] = NaN;
      this.bucket = bucket;
    }
    const i = bucket % BUCKETS;
    if (!(this.lows[i] <= value)) this.lows[i] = value;
    if (!(this.highs[i] >= value)) this.highs[i] = value;
  }

  /** Index, as ever pushed, of the last sample up to a time; -1: none is kept. */
  lastUpTo(time) {
    let low = Math.max(0, this.count - RAW);
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle % RAW] <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1 < Math.max(0, this.count - RAW) ? -1 : low - 1;
  }

  /** Calls `tell(time, low, high, last)` in order, for about one point a pixel. */
  each(from, to, stepMs, tell) {
    const kept = Math.max(0, this.count - RAW);
    const rawFrom = kept === 0 ? -Infinity : this.times[kept % RAW];
    if (rawFrom > from) {
      const first = Math.max(this.bucket - BUCKETS + 1, Math.floor(from / BUCKET_MS));
      const last = Math.min(this.bucket, Math.floor(Math.min(to, rawFrom) / BUCKET_MS) - 1);
      for (let b = Math.max(0, first); b <= last; b++) {
        const i = b % BUCKETS;
        if (!Number.isNaN(this.lows[i])) tell((b + 0.5) * BUCKET_MS, this.lows[i], this.highs[i], this.highs[i]);
      }
    }
    let low = NaN;
    let high = NaN;
    let slot = -1;
    let time = 0;
    let last = NaN;
    for (let n = Math.max(kept, this.lastUpTo(from)); n < this.count; n++) {
      const at = n % RAW;
      const value = this.values[at];
      if (this.times[at] > to) break;
      const own = Math.floor(this.times[at] / stepMs);
      if (own !== slot || Number.isNaN(value)) {
        if (slot !== -1) tell(time, low, high, last);
        slot = own;
        low = high = value;
      } else {
        if (value < low) low = value;
        if (value > high) high = value;
      }
      time = this.times[at];
      last = value;
    }
    if (slot !== -1) tell(time, low, high, last);
  }
}

function niceStep(span, count) {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((each) => each * power >= rough * 0.999);
}

function tickText(value, step) {
  const size = Math.abs(value);
  if (size < step / 1e6) return "0";
  if (size >= 1e6 || step < 1e-4) return value.toExponential(Math.max(0, Math.min(3, Math.floor(Math.log10(size)) - Math.floor(Math.log10(step)))));
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

/** A surface for lines: axes, grid, and the values at the pointer. */
class Surface {
  constructor() {
    this.canvas = make("canvas");
    this.context = this.canvas.getContext("2d");
    this.pointer = null;
    this.range = null;
    this.canvas.addEventListener("pointermove", (event) => (this.pointer = event.offsetX));
    this.canvas.addEventListener("pointerleave", () => (this.pointer = null));
  }

  begin(theme) {
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (width === 0) return false;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const c = this.context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = theme.font;
    this.box = { left: 58, right: width - 10, top: 8, bottom: height - 20 };
    return true;
  }

  /** The vertical range: grows at once, shrinks slowly, so that the picture does not jump. */
  fit(low, high) {
    if (!(low <= high)) [low, high] = this.range ?? [0, 1];
    const size = high - low || Math.abs(high) * 0.1 || 1;
    const wanted = [low - size * 0.06, high + size * 0.06];
    const range = this.range ?? wanted;
    const shrink = 0.06;
    this.range = [
      wanted[0] < range[0] ? wanted[0] : range[0] + (wanted[0] - range[0]) * shrink,
      wanted[1] > range[1] ? wanted[1] : range[1] + (wanted[1] - range[1]) * shrink,
    ];
  }

  y(value) {
    const [low, high] = this.range;
    return this.box.bottom - ((value - low) / (high - low)) * (this.box.bottom - this.box.top);
  }

  axes(theme, labels) {
    const c = this.context;
    const { left, right, top, bottom } = this.box;
    c.strokeStyle = theme.line;
    c.fillStyle = theme.dim;
    c.lineWidth = 1;
    c.textAlign = "right";
    c.textBaseline = "middle";
    const [low, high] = this.range;
    const step = niceStep(high - low, (bottom - top) / 28);
    c.beginPath();
    for (let v = Math.ceil(low / step) * step, n = 0; v <= high && n < 40; v += step, n++) {
      const y = Math.round(this.y(v)) + 0.5;
      c.moveTo(left, y);
      c.lineTo(right, y);
      c.fillText(tickText(v, step), left - 7, y);
    }
    c.textBaseline = "alphabetic";
    for (const [x, text] of labels) {
      if (x < left - 1) continue;
      c.moveTo(Math.round(x) + 0.5, top);
      c.lineTo(Math.round(x) + 0.5, bottom);
      c.textAlign = x > right - 20 ? "right" : "center";
      c.fillText(text, Math.min(x, right), bottom + 14);
    }
    c.stroke();
  }

  /** Clips, and returns a path to draw a line with. */
  line(colour, draw) {
    const c = this.context;
    const { left, right, top, bottom } = this.box;
    c.save();
    c.beginPath();
    c.rect(left, top - 2, right - left, bottom - top + 4);
    c.clip();
    c.beginPath();
    draw(c);
    c.strokeStyle = colour;
    c.lineWidth = 1.5;
    c.lineJoin = "round";
    c.stroke();
    c.restore();
  }

  cross(theme) {
    if (this.pointer === null || this.pointer < this.box.left || this.pointer > this.box.right) return false;
    this.context.strokeStyle = theme.dim;
    this.context.lineWidth = 1;
    this.context.beginPath();
    this.context.moveTo(Math.round(this.pointer) + 0.5, this.box.top);
    this.context.lineTo(Math.round(this.pointer) + 0.5, this.box.bottom);
    this.context.stroke();
    return true;
  }

  dot(x, y, colour) {
    this.context.fillStyle = colour;
    this.context.beginPath();
    this.context.arc(x, y, 3, 0, 7);
    this.context.fill();
  }
}

/** Numbers of one field over time, those of several keys together. */
class PlotCard {
  constructor(board) {
    this.board = board;
    this.series = [];
    this.element = make("article", "card plot");
    const head = make("h3");
    this.legend = make("div", "legend");
    head.append(this.legend, closer(() => board.remove(this)));
    this.surface = new Surface();
    this.element.append(head, this.surface.canvas);
  }

  add(node, colour) {
    const series = new Series(node);
    series.colour = colour;
    series.button = make("button");
    series.button.type = "button";
    series.button.title = "Remove this line";
    series.now = make("span", "now");
    series.button.append(make("span", "swatch"), make("span", "what", plainText(node.id)), series.now);
    series.button.addEventListener("click", () => this.board.watch(node));
    this.legend.append(series.button);
    this.series.push(series);
    node.entry.series.push(series);
    if (node.entry.data !== null) series.push(node.entry.at, series.read(node.entry.value(node.store.generic)));
  }

  drop(id) {
    const series = this.series.find((each) => each.id === id);
    this.series = this.series.filter((each) => each !== series);
    series.entry.series = series.entry.series.filter((each) => each !== series);
    series.button.remove();
    return this.series.length === 0;
  }

  close() {
    for (const each of [...this.series]) this.drop(each.id);
  }

  ids() {
    return this.series.map((each) => each.id);
  }

  draw(now, theme, board) {
    const surface = this.surface;
    if (!surface.begin(theme)) return;
    const span = board.span * 1000;
    const { left, right } = surface.box;
    const from = now - span;
    const x = (time) => left + ((time - from) / span) * (right - left);
    const stepMs = span / (right - left);
    let low = Infinity;
    let high = -Infinity;
    const points = this.series.map((series) => {
      const found = [];
      series.each(from, now, stepMs, (time, least, most, last) => {
        found.push(time, least, most, last);
        if (least < low && Number.isFinite(least)) low = least;
        if (most > high && Number.isFinite(most)) high = most;
      });
      return found;
    });
    surface.fit(low, high);
    const parts = SPANS.find(([seconds]) => seconds === board.span)[2];
    const labels = Array.from({ length: parts + 1 }, (_, n) => {
      const part = n / parts;
      const seconds = board.span * (1 - part);
      const text = seconds === 0 ? "now" : seconds < 120 ? `−${+seconds.toFixed(1)} s` : `−${+(seconds / 60).toFixed(1)} min`;
      return [left + part * (right - left), text];
    });
    surface.axes(theme, labels);
    this.series.forEach((series, n) => {
      const colour = theme.colours[series.colour];
      series.button.style.setProperty("--mark", colour);
      const found = points[n];
      surface.line(colour, (c) => {
        let isDown = false;
        let before = 0;
        for (let i = 0; i < found.length; i += 4) {
          const [time, least, most, last] = [found[i], found[i + 1], found[i + 2], found[i + 3]];
          if (Number.isNaN(least)) {
            isDown = false;
            continue;
          }
          const px = x(time);
          if (isDown && series.isStep) c.lineTo(px, before);
          // The extremes of a pixel; first the one that is farther from the last value.
          const isFalling = last - least < most - last;
          const first = surface.y(isFalling ? most : least);
          if (isDown) c.lineTo(px, first);
          else c.moveTo(px, first);
          if (most !== least) c.lineTo(px, surface.y(isFalling ? least : most));
          if (last !== most && last !== least) c.lineTo(px, surface.y(last));
          before = surface.y(last);
          isDown = true;
        }
        if (isDown && series.isStep) c.lineTo(right, before);
      });
    });
    const isCrossed = surface.cross(theme);
    const at = isCrossed ? from + ((surface.pointer - left) / (right - left)) * span : now;
    for (const series of this.series) {
      const n = series.lastUpTo(at);
      const value = n < 0 ? NaN : series.values[n % RAW];
      if (isCrossed && n >= 0 && Number.isFinite(value)) {
        surface.dot(x(Math.max(from, series.times[n % RAW])), surface.y(value), theme.colours[series.colour]);
      }
      const memo = (series.memo ??= {});
      const text = Number.isNaN(value) ? "–" : (series.members?.[value] ?? floatText(value, 7, memo));
      if (isCrossed || now - (series.saidAt ?? 0) > 100) {
        series.saidAt = now;
        put(series.now, text);
      }
    }
  }
}

/** The newest array of numbers, over its index. */
class ProfileCard extends NodeCard {
  constructor(board, node, colour) {
    super(board, node, "card plot");
    this.colour = colour;
    this.surface = new Surface();
    this.element.append(this.surface.canvas);
  }

  draw(now, theme) {
    const surface = this.surface;
    const value = this.node.value();
    if (!surface.begin(theme) || !value) return;
    const size = value.length;
    const { left, right } = surface.box;
    const width = Math.max(1, Math.floor(right - left));
    const per = Math.max(1, size / width);
    let low = Infinity;
    let high = -Infinity;
    for (let i = 0; i < size; i++) {
      const v = Number(value[i]);
      if (v < low && Number.isFinite(v)) low = v;
      if (v > high && Number.isFinite(v)) high = v;
    }
    surface.fit(low, high);
    const x = (i) => left + (i / Math.max(1, size - 1)) * (right - left);
    const step = Math.max(1, niceStep(size, width / 90));
    const labels = [];
    for (let i = 0; i < size && labels.length < 40; i += step) labels.push([x(i), String(i)]);
    surface.axes(theme, labels);
    const colour = theme.colours[this.colour];
    surface.line(colour, (c) => {
      let isDown = false;
      for (let start = 0; start < size; start += per) {
        let least = Infinity;
        let most = -Infinity;
        for (let i = Math.floor(start); i < Math.min(size, Math.floor(start + per) || 1); i++) {
          const v = Number(value[i]);
          if (v < least) least = v;
          if (v > most) most = v;
        }
        if (!Number.isFinite(least) || !Number.isFinite(most)) {
          isDown = false;
          continue;
        }
        if (isDown) c.lineTo(x(Math.floor(start)), surface.y(least));
        else c.moveTo(x(Math.floor(start)), surface.y(least));
        if (most !== least) c.lineTo(x(Math.floor(start)), surface.y(most));
        isDown = true;
      }
    });
    let text = `${WHOLE.format(size)} × ${typeText(bare(bare(this.node.type).item))}`;
    if (size > 0 && surface.cross(theme)) {
      const i = Math.round(((surface.pointer - left) / (right - left)) * (size - 1));
      text = `[${i}] ${String(value[i])}`;
    }
    put(this.more, text);
  }
}
