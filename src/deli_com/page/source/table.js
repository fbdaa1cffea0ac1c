// --- tables: arrays of structs ---

const MAX_ROWS = 200;
const MAX_COLUMNS = 40;

class TableCard extends NodeCard {
  constructor(board, node) {
    super(board, node, "card");
    const scroll = make("div", "scroll");
    scroll.tabIndex = 0;
    const table = make("table");
    this.head = make("tr");
    const top = make("thead");
    top.append(this.head);
    this.body = make("tbody");
    table.append(top, this.body);
    scroll.append(table);
    this.element.append(scroll);
    this.columns = null;
    this.memos = [];
    this.drawnAt = 0;
    this.drawn = null;
  }

  /** Columns by the type of the items: fields, those of structs inside as `outer.inner`. */
  columnsOf(type, sample, steps = [], prefix = "") {
    const { generic } = this.node.store;
    const found = [];
    for (const child of childrenOf(generic, type, sample)) {
      const path = [...steps, child.key];
      const label = prefix + child.label;
      const inner = definitionOf(generic, bare(child.type));
      if (inner?.is === "struct" && child.type.is === "ref") {
        found.push(...this.columnsOf(child.type, sample[child.key], path, `${label}.`));
      } else found.push({ label, path, type: child.type, notes: child.notes });
    }
    return found.slice(0, MAX_COLUMNS);
  }

  draw(now) {
    const data = this.node.entry.data;
    if (data === this.drawn || now - this.drawnAt < 80) return;
    this.drawn = data;
    this.drawnAt = now;
    const rows = this.node.value() ?? [];
    const { generic } = this.node.store;
    const item = bare(bare(this.node.type).item);
    put(this.more, rows.length > MAX_ROWS ? `${MAX_ROWS} of ${WHOLE.format(rows.length)} rows` : `${rows.length} rows`);
    const isSealed = definitionOf(generic, item)?.is === "sealed";
    if (this.columns === null && rows.length > 0) {
      this.columns = isSealed
        ? [{ label: "kind", path: ["kind"], type: null }, { label: "value", path: [], type: item }]
        : this.columnsOf(item, rows.find((row) => row !== null) ?? null);
      this.memos = this.columns.map(() => ({}));
      this.head.append(
        make("th", "", "#"),
        ...this.columns.map((column) => make("th", isText(column.type) ? "text" : "", column.label)),
      );
    }
    const count = Math.min(MAX_ROWS, rows.length);
    while (this.body.rows.length > count) this.body.deleteRow(-1);
    for (let i = 0; i < count; i++) {
      let line = this.body.rows[i];
      if (line === undefined) {
        line = this.body.insertRow();
        line.append(make("td", "", String(i)));
        for (const column of this.columns) line.append(make("td", isText(column.type) ? "text" : ""));
      }
      this.columns.forEach(({ path, type, notes }, n) => {
        let value = rows[i];
        for (const step of path) value = value?.[step];
        const text = type === null ? String(value) : lineText(generic, type, value, this.memos[n], notes, 60);
        put(line.cells[n + 1], text);
      });
    }
  }
}

function isText(type) {
  if (type === null) return true;
  const tp = bare(type);
  return tp.is !== "scalar" || ["str", "bytes"].includes(tp.name);
}
