// --- the board: which plots, pictures and tables are open; the URL's fragment remembers it ---

class Board {
  constructor() {
    this.cards = [];
    this.span = 30;
    this.wanted = []; // ids in the fragment that have not appeared yet
    this.isOwn = false; // the user has chosen
    this.tree = null;
    this.box = document.getElementById("cards");
    this.spanBox = document.getElementById("spans");
    const words = new URLSearchParams(location.hash.slice(1));
    if (words.has("watch")) {
      this.wanted = words.get("watch").split("\n").filter(Boolean).slice(0, MAX_SERIES);
      this.isOwn = true;
    }
    for (const [seconds, text] of SPANS) {
      const button = make("button", "", text);
      button.type = "button";
      button.setAttribute("role", "radio");
      button.addEventListener("click", () => this.setSpan(seconds));
      button.seconds = seconds;
      this.spanBox.append(button);
    }
    this.setSpan(SPANS.some(([s]) => s === Number(words.get("span"))) ? Number(words.get("span")) : 30);
    document.getElementById("clear").addEventListener("click", () => {
      for (const card of [...this.cards]) this.remove(card);
    });
    this.changed();
  }

  setSpan(seconds) {
    this.span = seconds;
    for (const button of this.spanBox.children) {
      button.setAttribute("aria-checked", String(button.seconds === seconds));
    }
    this.remember();
  }

  /** Another schema: the open nodes are opened again. */
  use(store, tree) {
    const ids = this.cards.flatMap((card) => card.ids());
    for (const card of this.cards) {
      card.close();
      card.element.remove();
    }
    this.cards = [];
    this.wanted = [...new Set([...ids, ...this.wanted])];
    this.store = store;
    this.tree = tree;
    this.openedAt = null;
    this.changed();
  }

  ids() {
    return this.cards.flatMap((card) => card.ids());
  }

  /** The card that shows a node, or null. */
  cardOf(id) {
    return this.cards.find((card) => card.ids().includes(id)) ?? null;
  }

  /** Open it, or close it where it is open. */
  watch(node, isOwn = true) {
    this.isOwn ||= isOwn;
    const card = this.cardOf(node.id);
    if (card !== null) {
      if (!(card instanceof PlotCard) || card.drop(node.id)) this.remove(card);
    } else if (this.ids().length < MAX_SERIES) {
      if (node.use === "plot") {
        const field = node.path().join(".");
        const name = `${node.channel.name}.${field}`;
        let plot = this.cards.find((each) => each instanceof PlotCard && each.name === name);
        if (plot === undefined) {
          plot = new PlotCard(this);
          plot.name = name;
          this.open(plot);
        }
        plot.add(node, this.colour());
      } else if (node.use === "picture") this.open(new PictureCard(this, node));
      else if (node.use === "table") this.open(new TableCard(this, node));
      else if (node.use === "profile") this.open(new ProfileCard(this, node, this.colour()));
    }
    this.changed();
  }

  open(card) {
    this.cards.push(card);
    this.box.append(card.element);
  }

  remove(card) {
    card.close();
    card.element.remove();
    this.cards = this.cards.filter((each) => each !== card);
    this.isOwn = true;
    this.changed();
  }

  /** The number of the colour that is used least. */
  colour() {
    const used = new Array(COLOURS).fill(0);
    for (const card of this.cards) {
      for (const each of card.series ?? (card.colour === undefined ? [] : [card])) used[each.colour]++;
    }
    return used.indexOf(Math.min(...used));
  }

  changed() {
    document.getElementById("hint").hidden = this.cards.length > 0;
    document.getElementById("clear").hidden = this.cards.length === 0;
    document.getElementById("card-count").textContent = this.cards.length > 0 ? `(${this.cards.length})` : "";
    this.remember();
  }

  remember() {
    if (!this.isOwn) return;
    const words = new URLSearchParams();
    const ids = [...this.ids(), ...this.wanted];
    if (ids.length > 0) words.set("watch", ids.join("\n"));
    if (this.span !== 30) words.set("span", String(this.span));
    const hash = words.toString();
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  /** Opens the nodes that the fragment names; without a fragment, a picture and a number that changes. */
  meet(now) {
    if (this.tree === null || this.store.count === 0) return;
    this.openedAt ??= now;
    if (this.wanted.length > 0 && now - (this.lookedAt ?? 0) > 400) {
      this.lookedAt = now;
      for (const id of [...this.wanted]) {
        const node = this.tree.node(id);
        if (node === undefined) continue;
        this.wanted = this.wanted.filter((each) => each !== id);
        if (node.use && this.cardOf(id) === null) this.watch(node, false);
      }
    }
    if (!this.isOwn && this.wanted.length === 0 && now - this.openedAt < 5000) this.guess(now);
  }

  guess(now) {
    const found = [];
    for (const channel of this.store.channels) {
      const entry = channel.entries.values().next().value;
      if (entry === undefined) continue;
      const top = this.tree.top(channel);
      const head = top.entry === null ? top.children()[0] : top;
      collect(head, found, 0);
    }
    const pictures = this.cards.filter((card) => card instanceof PictureCard).length;
    for (const node of found.filter((each) => each.use === "picture" && isPicture(each)).slice(0, 2 - pictures)) {
      if (this.cardOf(node.id) === null) this.watch(node, false);
    }
    if (this.cards.some((card) => card instanceof PlotCard) || now - this.openedAt < 500) return;
    const moving = found.find((node) => {
      if (node.use !== "plot" || !/^f(32|64)$/.test(bare(node.type).name ?? "")) return false;
      const value = node.value();
      const before = (node.before ??= value);
      return before !== value;
    });
    if (moving !== undefined) this.watch(moving, false);
  }

  draw(now, theme) {
    const top = this.box.scrollTop;
    const bottom = top + this.box.clientHeight;
    for (const card of this.cards) {
      const { offsetTop, offsetHeight } = card.element;
      const at = offsetTop - this.box.offsetTop;
      if (at + offsetHeight >= top - 50 && at <= bottom + 50) card.draw(now, theme, this);
    }
  }
}

function collect(node, found, depth) {
  for (const child of node.children()) {
    if (found.length > 200) return;
    if (child.use) found.push(child);
    else if (depth < 3) collect(child, found, depth + 1);
  }
}
