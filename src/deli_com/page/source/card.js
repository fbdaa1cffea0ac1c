// --- cards: the open nodes on the board ---

/** A card for one node: its head has the node's name, a text beside it, and the button that closes it. */
class NodeCard {
  constructor(board, node, style) {
    this.node = node;
    this.element = make("article", style);
    this.more = make("span", "more");
    const head = make("h3");
    head.append(make("span", "what", plainText(node.id)), this.more, closer(() => board.remove(this)));
    this.element.append(head);
  }

  close() {}

  ids() {
    return [this.node.id];
  }
}

function closer(close) {
  const button = make("button", "close", "×");
  button.type = "button";
  button.title = "Close";
  button.setAttribute("aria-label", "Close");
  button.addEventListener("click", close);
  return button;
}
