// --- the list: only visible rows have elements ---

const ACTS = { plot: "plot", picture: "show", table: "table", profile: "plot" };

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets a text if it differs. */
function put(element, text) {
  if (element.said !== text) {
    element.said = text;
    element.textContent = text;
  }
}

function toggle(element, name, is) {
  if (element.classList.contains(name) !== is) element.classList.toggle(name, is);
}

class Row {
  constructor(list) {
    this.node = null;
    this.top = -1;
    this.element = make("div", "row");
    this.element.setAttribute("role", "treeitem");
    this.element.id = `row-${list.made++}`;
    this.name = make("span", "name");
    this.twist = make("span", "twist");
    this.label = make("span", "label");
    this.type = make("span", "type");
    this.act = make("button", "act");
    this.act.type = "button";
    this.act.tabIndex = -1;
    this.name.append(this.twist, this.label, this.type, this.act);
    this.value = make("span", "value");
    this.rate = make("span", "rate");
    this.age = make("span", "age");
    this.copy = make("button", "copy", "Copy");
    this.copy.type = "button";
    this.copy.tabIndex = -1;
    this.copy.title = "Copy as JSON (c)";
    this.element.append(this.name, this.value, this.rate, this.age, this.copy);
    this.element.addEventListener("click", (event) => {
      if (this.node === null || this.node.more) return;
      list.choose(this.node);
      if (event.target === this.copy) list.on.copy(this.node);
      else if (event.target === this.act) list.on.watch(this.node);
      else if (this.node.isExpandable) list.open(this.node, !this.node.isShownOpen);
      else if (this.node.use) list.on.watch(this.node);
    });
  }
}

class List {
  /** `on` has: watch(node), copy(node), mark(node) -> colour, "" or null. */
  constructor(on) {
    this.on = on;
    this.made = 0;
    this.tree = null;
    this.rows = [];
    this.pool = [];
    this.chosen = null;
    this.isStale = true; // the set of rows
    this.version = -1;
    this.flattenedAt = 0;
    this.words = [];
    this.box = document.getElementById("list");
    this.sheet = document.getElementById("sheet");
    this.box.addEventListener("scroll", () => (this.isMoved = true), { passive: true });
    new ResizeObserver(() => (this.isMoved = true)).observe(this.box);
    this.box.addEventListener("keydown", (event) => this.onKey(event));
  }

  use(store) {
    this.tree = store === null ? null : new Tree(store);
    if (this.tree !== null) this.tree.words = this.words;
    this.chosen = null;
    this.isStale = true;
  }

  filter(text) {
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (this.tree !== null) this.tree.words = this.words;
    this.box.scrollTop = 0;
    this.isStale = true;
  }

  choose(node) {
    this.chosen = node;
    this.isMoved = true;
  }

  open(node, isOpen) {
    node.isOpen = isOpen;
    this.isStale = true;
  }

  /** Draws the visible rows. */
  draw(now, withTexts) {
    if (this.tree === null) return;
    const store = this.tree.store;
    if (store.version !== this.version && now - this.flattenedAt > 100) this.isStale = true;
    // The rows below arrays and options may change.
    if (withTexts && now - this.flattenedAt > 500 && this.rows.length < 20000) this.isStale = true;
    const height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    if (this.isStale) {
      this.isStale = false;
      this.version = store.version;
      this.flattenedAt = now;
      this.rows = this.tree.rows();
      this.isMoved = true;
      const size = `${this.rows.length * height}px`;
      if (this.sheet.style.height !== size) this.sheet.style.height = size;
      document.getElementById("empty").hidden = this.rows.length > 0;
      const keys = store.count === 1 ? "1 value" : `${WHOLE.format(store.count)} values`;
      put(document.getElementById("shown"), store.count ? keys : "");
      if (this.rows.length === 0) {
        const why = store.count === 0 ? "Waiting for the first value." : "No name matches.";
        put(document.getElementById("empty"), why);
      }
    }
    if (!this.isMoved && !withTexts) return;
    this.isMoved = false;
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - 4);
    const count = Math.ceil(this.box.clientHeight / height) + 8;
    const last = Math.min(this.rows.length, first + count);
    while (this.pool.length < last - first) {
      const row = new Row(this);
      this.pool.push(row);
      this.sheet.append(row.element);
    }
    for (let i = 0; i < this.pool.length; i++) {
      // A row keeps its element while it is visible: index modulo the size of the pool.
      const row = this.pool[i];
      const index = first + ((((i - first) % this.pool.length) + this.pool.length) % this.pool.length);
      if (index >= last) {
        if (row.top !== -1) row.element.hidden = true;
        row.top = -1;
        row.node = null;
        continue;
      }
      this.place(row, this.rows[index], index, height);
      if (!row.node.more) this.fill(row, now, store);
    }
  }

  place(row, node, index, height) {
    if (row.top !== index * height) {
      row.top = index * height;
      row.element.style.transform = `translateY(${row.top}px)`;
      row.element.hidden = false;
    }
    if (row.node === node) return;
    row.node = node;
    const { element } = row;
    element.style.setProperty("--depth", node.depth);
    element.setAttribute("aria-level", node.depth + 1);
    put(row.label, node.more ? `… ${WHOLE.format(node.more)} more` : node.label === "" ? '""' : plainText(node.label));
    put(row.type, node.more || node.key === undefined ? "" : typeText(node.type) + node.notes);
    toggle(element, "top", node.depth === 0);
    toggle(element, "key", !node.more && node.depth === 1 && node.key === undefined);
    row.act.hidden = !node.use;
    row.copy.hidden = Boolean(node.more);
    put(row.act, ACTS[node.use] ?? "");
    row.act.className = `act ${node.use}`;
    if (node.more) for (const part of [row.twist, row.value, row.rate, row.age]) put(part, "");
  }

  fill(row, now, store) {
    const { node, element } = row;
    const isExpandable = node.isExpandable;
    const isOpen = isExpandable && node.isShownOpen;
    put(row.twist, isExpandable ? (isOpen ? "▼" : "▶") : "");
    const expanded = isExpandable ? String(isOpen) : null;
    if (element.expanded !== expanded) {
      element.expanded = expanded;
      if (expanded === null) element.removeAttribute("aria-expanded");
      else element.setAttribute("aria-expanded", expanded);
    }
    const isChosen = this.chosen !== null && this.chosen.id === node.id;
    if (element.classList.contains("chosen") !== isChosen) {
      element.classList.toggle("chosen", isChosen);
      element.setAttribute("aria-selected", String(isChosen));
      if (isChosen) this.box.setAttribute("aria-activedescendant", element.id);
    }
    const mark = node.use ? this.on.mark(node) : null;
    toggle(row.act, "on", mark !== null);
    if (element.mark !== mark) {
      element.mark = mark;
      row.act.style.setProperty("--mark", mark || "var(--accent)");
    }
    const isHead = node.key === undefined;
    if (node.entry === null) {
      const { entries, overflow } = node.channel;
      const more = overflow ? `, and more that are not shown` : "";
      this.say(row.value, `${WHOLE.format(entries.size)} ${entries.size === 1 ? "key" : "keys"}${more}`, "less");
      put(row.rate, "");
      put(row.age, "");
      return;
    }
    const { entry } = node;
    const value = node.value();
    if (isHead && entry.fault) this.say(row.value, entry.fault, "bad");
    else if (isExpandable && isOpen && !Array.isArray(value) && !ArrayBuffer.isView(value)) {
      const kind = definitionOf(store.generic, bare(node.type))?.is === "sealed" && !isHead ? value.kind : "";
      this.say(row.value, kind, "word");
    } else {
      const text = isHead ? this.headText(node, value) : lineText(store.generic, node.type, value, node.memo, node.notes);
      this.say(row.value, text, isExpandable || value === null ? "less" : kindOf(value));
    }
    if (!isHead) {
      put(row.rate, "");
      put(row.age, "");
      return;
    }
    const age = (store.isPaused ? store.pausedAt : now) - entry.at;
    put(row.rate, entry.rate === null || age > Math.max(3000, 4000 / entry.rate) ? "" : rateText(entry.rate));
    put(row.age, ageText(age));
    toggle(row.age, "old", age > entry.channel.maxAge);
  }

  /** A whole value in one line, without its key. */
  headText(node, value) {
    const { generic } = node.store;
    const tp = bare(node.type);
    if (value === null || value === undefined || definitionOf(generic, tp) === undefined) {
      return lineText(generic, node.type, value, node.memo);
    }
    const parts = [];
    let used = 0;
    for (const child of childrenOf(generic, tp, value)) {
      if (used > 160) break;
      if (node.channel.keys.includes(child.label)) continue;
      const memo = (node.memo[child.key] ??= {});
      const text = `${child.label} ${lineText(generic, child.type, value[child.key], memo, child.notes, 30)}`;
      used += text.length + 2;
      parts.push(text);
    }
    return parts.join("  ");
  }

  say(element, text, kind) {
    put(element, text);
    const name = kind === "" ? "value" : `value ${kind}`;
    if (element.className !== name) element.className = name;
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || this.rows.length === 0) return;
    const at = this.chosen === null ? -1 : this.rows.findIndex((each) => each.id === this.chosen.id);
    const node = this.rows[at];
    const page = Math.max(1, Math.floor(this.box.clientHeight / 30) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in steps) {
      let to = Math.max(0, Math.min(this.rows.length - 1, at + steps[event.key]));
      if (this.rows[to].more) to += event.key === "ArrowUp" || to === this.rows.length - 1 ? -1 : 1;
      this.choose(this.rows[to]);
      this.show(to);
    } else if (node === undefined) return;
    else if (event.key === "ArrowRight") {
      if (node.isExpandable && !node.isShownOpen) this.open(node, true);
      else if (node.isExpandable && this.rows[at + 1]) (this.choose(this.rows[at + 1]), this.show(at + 1));
    } else if (event.key === "ArrowLeft") {
      if (node.isExpandable && node.isShownOpen) this.open(node, false);
      else if (node.parent) (this.choose(node.parent), this.show(this.rows.indexOf(node.parent)));
    } else if (event.key === "Enter") {
      if (node.use) this.on.watch(node);
      else if (node.isExpandable) this.open(node, !node.isShownOpen);
    } else if (event.key === "c") this.on.copy(node);
    else return;
    event.preventDefault();
  }

  show(index) {
    const height = this.sheet.clientHeight / Math.max(1, this.rows.length);
    const top = index * height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + height > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + height - this.box.clientHeight;
    }
    this.isMoved = true;
  }
}

function kindOf(value) {
  if (typeof value === "number" || typeof value === "bigint") return "number";
  if (typeof value === "string") return "string";
  return typeof value === "boolean" ? "word" : "";
}
