// --- the nodes of the list: classes, keys, fields, items ---

const MAX_ITEMS = 256; // of an array, in the list

/** How a value can be shown: "plot", "picture", "table", "profile" or nothing. */
function useOf(generic, type, notes, siblings, key) {
  const tp = bare(type);
  if (tp.is === "scalar") {
    if (tp.name === "bytes") return "picture";
    return tp.name === "str" ? "" : "plot";
  }
  const definition = definitionOf(generic, tp);
  if (definition?.is === "enum") return "plot";
  if (tp.is !== "list" && tp.is !== "fixed") return "";
  if (shapeOf(notes) !== null) return "picture";
  const item = bare(tp.item);
  if (item.is === "scalar") return /^[uif]/.test(item.name) ? "profile" : "";
  const inner = definitionOf(generic, item);
  return inner !== undefined && inner.is !== "enum" ? "table" : item.is === "product" ? "table" : "";
}

/** A class, a key, a field or an item. */
class Node {
  constructor(store, parent, channel, entry, child) {
    this.store = store;
    this.parent = parent;
    this.channel = channel;
    this.entry = entry; // null: a class with keys
    this.depth = parent === null ? 0 : parent.depth + 1;
    this.key = child?.key;
    this.type = child?.type ?? channel.type;
    this.notes = child?.notes ?? "";
    this.label = child?.label ?? (parent === null ? channel.name : entry.key);
    const mark = child === undefined ? "" : (this.label[0] === "[" ? "" : ".") + this.label;
    this.id = child === undefined ? (entry?.id ?? channel.name) : parent.id + mark;
    this.use = child === undefined ? "" : useOf(store.generic, this.type, this.notes);
    this.searched = this.id.toLowerCase();
    this.memo = {};
    this.isOpen = null; // null: the default
    this.isShownOpen = false;
    this.kids = new Map();
  }

  value() {
    if (this.entry === null) return undefined;
    if (this.key === undefined) return this.entry.value(this.store.generic);
    return this.parent.value()?.[this.key];
  }

  /** The steps from the entry's value to this one. */
  path() {
    return this.key === undefined ? [] : [...this.parent.path(), this.key];
  }

  get isExpandable() {
    if (this.entry === null) return this.channel.entries.size > 0;
    const tp = bare(this.type);
    if (tp.is === "scalar") return false;
    if (definitionOf(this.store.generic, tp)?.is === "enum") return false;
    const value = this.value();
    if (value === null || value === undefined) return false;
    return tp.is === "list" || tp.is === "fixed" ? value.length > 0 : childrenOf(this.store.generic, tp, value, 1).length > 0;
  }

  get opens() {
    if (this.isOpen !== null) return this.isOpen;
    if (this.entry === null) return true;
    if (this.key === undefined) return this.parent === null || this.channel.entries.size <= 4;
    const tp = bare(this.type);
    return tp.is === "ref" && this.depth <= 2 && this.channel.entries.size <= 4;
  }

  children() {
    if (this.entry === null) {
      const found = [];
      for (const entry of this.channel.sorted()) {
        found.push(this.kid(entry.key, () => new Node(this.store, this, this.channel, entry)));
      }
      return found;
    }
    let inside = childrenOf(this.store.generic, this.type, this.value(), MAX_ITEMS);
    // The key is in the row above already.
    if (this.key === undefined) inside = inside.filter((child) => !this.channel.keys.includes(child.label));
    return inside.map((child) => {
      const found = this.kid(`${child.key}`, () => new Node(this.store, this, this.channel, this.entry, child));
      found.type = child.type;
      return found;
    });
  }

  kid(name, make) {
    let found = this.kids.get(name);
    if (found === undefined) this.kids.set(name, (found = make()));
    return found;
  }

  /** Items that are not shown. */
  get beyond() {
    const tp = bare(this.type);
    if (this.entry === null || (tp.is !== "list" && tp.is !== "fixed")) return 0;
    return Math.max(0, (this.value()?.length ?? 0) - MAX_ITEMS);
  }
}

/** The rows of the list, from the top. */
class Tree {
  constructor(store) {
    this.store = store;
    this.tops = new Map();
    this.words = [];
  }

  top(channel) {
    let found = this.tops.get(channel.name);
    const only = channel.keys.length === 0 ? (channel.entries.get("") ?? null) : null;
    if (found === undefined || found.entry !== only) {
      found = new Node(this.store, null, channel, only);
      this.tops.set(channel.name, found);
    }
    return found;
  }

  node(id) {
    const entry = this.store.channels
      .filter((channel) => id.startsWith(channel.name))
      .flatMap((channel) => [...channel.entries.values()])
      .filter((entry) => id === entry.id || (id.startsWith(entry.id) && /[.[]/.test(id[entry.id.length])))
      .sort((a, b) => b.id.length - a.id.length)[0];
    if (entry === undefined) return undefined;
    const top = this.top(entry.channel);
    let node = top.entry === null ? top.kid(entry.key, () => new Node(this.store, top, entry.channel, entry)) : top;
    while (node !== undefined && node.id !== id) {
      node = node.children().find((each) => id === each.id || (id.startsWith(each.id) && /[.[]/.test(id[each.id.length])));
    }
    return node;
  }

  rows() {
    const found = [];
    for (const channel of this.store.channels) {
      if (channel.entries.size === 0 && (this.words.length > 0 || this.store.channels.length > 1)) continue;
      this.add(this.top(channel), found);
    }
    return found;
  }

  matches(node) {
    return this.words.every((word) => node.searched.includes(word));
  }

  /** Adds a node and its open children; with a filter, the matching nodes and their parents. */
  add(node, found) {
    if (this.words.length === 0 || this.matches(node)) {
      this.addAll(node, found);
      return true;
    }
    const at = found.length;
    found.push(node);
    node.isShownOpen = true;
    let any = false;
    if (node.isExpandable && node.depth < 6) {
      for (const child of node.children()) any = this.add(child, found) || any;
    }
    if (!any) found.length = at;
    return any;
  }

  addAll(node, found) {
    found.push(node);
    const isMatch = this.words.length > 0 && node.key !== undefined && bare(node.type).is === "ref";
    node.isShownOpen = (node.isOpen ?? (isMatch || node.opens)) && node.isExpandable;
    if (!node.isShownOpen) return;
    for (const child of node.children()) this.addAll(child, found);
    if (node.beyond > 0) found.push({ more: node.beyond, depth: node.depth + 1, id: node.id + "…" });
  }
}
