// --- the newest value of each class and key ---

const MAX_ENTRIES = 65536; // keys that are kept, all classes together
const KEYS = new Intl.Collator("en", { numeric: true }); // "r2" before "r10"

/** A class that the server sends: a variant of a sealed root, or the root itself. */
class Channel {
  constructor(generic, name, type, fields, notes, index) {
    this.name = name;
    this.type = type; // of a value
    this.index = index; // of the variant; -1: values begin with the first field
    this.entries = new Map(); // in the order of arrival; none is removed
    this.order = []; // the same sorted by key, as far as needed so far
    const policy = / @latest(?:\(([^)]*)\))?/.exec(notes);
    this.keys = (policy?.[1] ?? "").split(",").filter((name) => fields.some((field) => field.name === name));
    this.maxAge = Number(/ @max_age\(([0-9.eE+-]+)\)/.exec(notes)?.[1] ?? NaN) * 1000;
    const last = Math.max(-1, ...this.keys.map((name) => fields.findIndex((field) => field.name === name)));
    this.before = fields.slice(0, last + 1).map((field) => ({
      isKey: this.keys.includes(field.name),
      type: field.type,
      read: generic.reader(field.type),
    }));
    this.overflow = 0;
  }

  /** The entries by key. */
  sorted() {
    if (this.order.length !== this.entries.size) {
      const byKey = (a, b) => KEYS.compare(a.key, b.key);
      const late = [...this.entries.values()].slice(this.order.length).sort(byKey);
      const old = this.order;
      const both = [];
      let at = 0;
      for (const entry of late) {
        while (at < old.length && byKey(old[at], entry) <= 0) both.push(old[at++]);
        both.push(entry);
      }
      while (at < old.length) both.push(old[at++]);
      this.order = both;
    }
    return this.order;
  }

  /** The key of a value, as text. */
  keyOf(generic, r) {
    let text = "";
    for (const { isKey, type, read } of this.before) {
      const value = read(r);
      if (!isKey) continue;
      const part = typeof value === "string" ? value : lineText(generic, type, value);
      text = text === "" ? part : `${text} · ${part}`;
    }
    return text;
  }
}

/** The newest value of one class and key. */
class Entry {
  constructor(channel, key) {
    this.channel = channel;
    this.key = key;
    this.id = channel.keys.length === 0 ? channel.name : `${channel.name}[${key}]`;
    this.data = null; // the newest bytes
    this.at = 0;
    this.count = 0;
    this.rate = null;
    this.fault = "";
    this.series = []; // plots that need each value
    this.decoded = null;
    this.decodedFrom = null;
    this.held = null; // the newest bytes that arrived while the page is paused
    this.windowAt = 0;
    this.windowCount = 0;
  }

  put(data, now) {
    if (this.count++ === 0) this.windowAt = now;
    const passed = now - this.windowAt;
    if (passed >= 1000) {
      this.rate = ((this.count - this.windowCount - 1) * 1000) / passed;
      this.windowAt = now;
      this.windowCount = this.count - 1;
    }
    this.data = data;
    this.at = now;
  }

  /** The value, decoded when it is shown. */
  value(generic) {
    if (this.decodedFrom !== this.data) {
      this.decodedFrom = this.data;
      try {
        this.decoded = generic.decode(this.data);
        this.fault = "";
      } catch (error) {
        this.fault = error.message;
      }
    }
    return this.decoded;
  }
}

class Store {
  constructor(text) {
    this.generic = new Generic(text);
    this.text = text;
    this.channels = [];
    this.count = 0; // entries
    this.version = 0; // of the set of entries
    this.isPaused = false;
    this.heldEntries = new Set();
    this.missed = 0;
    this.fault = "";
    const root = this.generic.root;
    const definition = definitionOf(this.generic, root);
    if (definition?.is === "sealed") {
      definition.variants.forEach((variant, i) => {
        const notes = `${definition.notes}${variant.notes}`;
        this.channels.push(new Channel(this.generic, variant.name, root, variant.fields, notes, i));
      });
    } else {
      const fields = definition?.is === "struct" ? definition.fields : [];
      this.channels.push(new Channel(this.generic, typeText(root), root, fields, definition?.notes ?? "", -1));
    }
  }

  /** Adds one message; returns its entry, or null if it cannot be read. */
  take(data, now) {
    const r = new Reader(data);
    let entry;
    try {
      const channel = this.channels[this.channels[0].index < 0 ? 0 : r.index(this.channels.length)];
      const key = channel.keyOf(this.generic, r);
      entry = channel.entries.get(key);
      if (entry === undefined) {
        if (this.count >= MAX_ENTRIES) {
          channel.overflow++;
          return null;
        }
        entry = new Entry(channel, key);
        channel.entries.set(key, entry);
        this.count++;
        this.version++;
      }
    } catch (error) {
      this.fault = error.message;
      return null;
    }
    if (entry.series.length !== 0) sample(entry, this.generic, data, now);
    if (this.isPaused && entry.count !== 0) {
      entry.held = { data, at: now };
      this.heldEntries.add(entry);
      this.missed++;
    } else {
      entry.put(data, now);
    }
    return entry;
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    if (isPaused) return;
    for (const entry of this.heldEntries) {
      entry.put(entry.held.data, entry.held.at);
      entry.held = null;
    }
    this.heldEntries.clear();
    this.missed = 0;
  }

  entry(id) {
    for (const channel of this.channels) {
      for (const entry of channel.entries.values()) if (entry.id === id) return entry;
    }
    return undefined;
  }
}

/** Give the plots of an entry their numbers, each value's own. */
function sample(entry, generic, data, now) {
  let value;
  try {
    value = generic.decode(data);
  } catch {
    return; // the row says so
  }
  for (const series of entry.series) series.push(now, series.read(value));
}
