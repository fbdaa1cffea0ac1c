// --- a form for a value that the server receives, and its bytes ---

/** Write a value of any type of a schema. Throws `EncodeError`. */
function encodeAny(generic, type, value, w, path) {
  switch (type.is) {
    case "option":
      w.bool(value !== null, path);
      if (value !== null) encodeAny(generic, type.item, value, w, path);
      return;
    case "product":
      type.items.forEach((item, i) => encodeAny(generic, item, value[i], w, `${path}.${i}`));
      return;
    case "fixed":
      w.exactly(value, type.count, path);
      value.forEach((item, i) => encodeAny(generic, type.item, item, w, `${path}[${i}]`));
      return;
    case "list":
      w.count(value, path);
      value.forEach((item, i) => encodeAny(generic, type.item, item, w, `${path}[${i}]`));
      return;
    case "scalar":
      if (type.name === "bytes") w.data(value, path);
      else w[type.name](value, path);
      return;
  }
  const definition = generic.definitions.get(type.name);
  if (definition.is === "enum") return w.index(value, definition.members, path);
  let fields = definition.fields;
  let taken = [];
  if (definition.is === "sealed") {
    const names = definition.variants.map((each) => each.name);
    w.index(value.kind, names, path);
    fields = definition.variants[names.indexOf(value.kind)].fields;
    taken = ["kind"];
  }
  w.enter(path);
  for (const field of namedFields(generic, fields, ...taken)) {
    encodeAny(generic, field.type, value[field.key], w, path === "" ? field.label : `${path}.${field.label}`);
  }
  w.leave();
}

function bytesOf(generic, value) {
  const w = new Writer();
  encodeAny(generic, generic.root, value, w, "");
  return w.done();
}

/** An editor of one value: `element`, and `read()`, which throws an Error for an invalid value. */
function editorOf(generic, type, label, depth = 0) {
  const tp = type;
  if (depth > 8) return { element: make("p", "hint", `${label}: too deep for a form`), read: () => failWith(label, "too deep for a form") };
  if (tp.is === "option") return optionEditor(generic, tp, label, depth);
  if (tp.is === "list" || tp.is === "fixed") return listEditor(generic, tp, label, depth);
  if (tp.is === "product") {
    const parts = tp.items.map((item, i) => editorOf(generic, item, String(i), depth + 1));
    return { element: group(label, parts), read: () => parts.map((each) => each.read()) };
  }
  if (tp.is === "scalar") return scalarEditor(tp.name, label);
  const definition = generic.definitions.get(tp.name);
  if (definition.is === "enum") {
    const select = selectOf(definition.members);
    return { element: labelled(label, select), read: () => select.value };
  }
  if (definition.is === "struct") {
    const fields = fieldEditors(generic, definition.fields, [], depth);
    return { element: group(label, fields), read: () => valueOf(fields) };
  }
  const select = selectOf(definition.variants.map((each) => each.name));
  const box = make("div");
  let fields = [];
  const choose = () => {
    const variant = definition.variants[select.selectedIndex];
    fields = fieldEditors(generic, variant.fields, ["kind"], depth);
    box.replaceChildren(...fields.map((each) => each.element));
  };
  select.addEventListener("change", choose);
  choose();
  const whole = make("fieldset");
  whole.append(make("legend", "", label), labelled("kind", select), box);
  return { element: whole, read: () => ({ kind: select.value, ...valueOf(fields) }) };
}

function fieldEditors(generic, fields, taken, depth) {
  return namedFields(generic, fields, ...taken).map(({ label, key, type }) => ({
    ...editorOf(generic, type, label, depth + 1),
    key,
  }));
}

function valueOf(fields) {
  return Object.fromEntries(fields.map((each) => [each.key, each.read()]));
}

function optionEditor(generic, type, label, depth) {
  const check = make("input");
  check.type = "checkbox";
  const inner = editorOf(generic, type.item, label, depth + 1);
  inner.element.hidden = true;
  check.addEventListener("change", () => (inner.element.hidden = !check.checked));
  const box = make("div");
  box.append(labelled(`${label} is given`, check), inner.element);
  return { element: box, read: () => (check.checked ? inner.read() : null) };
}

function listEditor(generic, type, label, depth) {
  const items = [];
  const box = make("div", "items");
  const add = () => {
    const editor = editorOf(generic, type.item, `[${items.length}]`, depth + 1);
    items.push(editor);
    box.append(editor.element);
  };
  const read = () => items.map((each) => each.read());
  const whole = group(label, []);
  whole.append(box);
  if (type.is === "fixed") {
    if (type.count > 256) return { element: whole, read: () => failWith(label, `${type.count} items are too many for a form`) };
    for (let i = 0; i < type.count; i++) add();
    return { element: whole, read };
  }
  const more = make("button", "", "Add");
  more.type = "button";
  more.addEventListener("click", add);
  const less = make("button", "", "Remove the last");
  less.type = "button";
  less.addEventListener("click", () => items.pop()?.element.remove());
  const ends = make("div", "ends");
  ends.append(more, less);
  whole.append(ends);
  return { element: whole, read };
}

function scalarEditor(name, label) {
  const input = make("input");
  if (name === "bool") {
    input.type = "checkbox";
    return { element: labelled(label, input), read: () => input.checked };
  }
  input.autocomplete = "off";
  input.spellcheck = false;
  if (name === "str") return { element: labelled(label, input), read: () => input.value };
  if (name === "bytes") {
    input.placeholder = "hexadecimal: 00 ff";
    return {
      element: labelled(label, input),
      read: () => {
        const digits = input.value.replace(/\s+/g, "");
        if (!/^([0-9a-fA-F]{2})*$/.test(digits)) failWith(label, "pairs of hexadecimal digits are needed");
        return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
      },
    };
  }
  input.inputMode = name[0] === "f" ? "decimal" : "numeric";
  input.placeholder = name;
  input.value = "0";
  const read = () => {
    const text = input.value.trim();
    if (name[0] === "f") {
      const words = { nan: NaN, inf: Infinity, "-inf": -Infinity };
      const found = words[text.toLowerCase()] ?? Number(text);
      if (text === "" || (Number.isNaN(found) && text.toLowerCase() !== "nan")) failWith(label, `${name} is a number`);
      return found;
    }
    if (!/^-?[0-9]+$/.test(text)) failWith(label, `${name} is a whole number`);
    return name === "u64" || name === "i64" ? BigInt(text) : Number(text);
  };
  return { element: labelled(label, input), read };
}

function failWith(label, text) {
  throw new Error(`${label}: ${text}`);
}

function selectOf(names) {
  const select = make("select");
  for (const name of names) select.append(make("option", "", name));
  return select;
}

function labelled(text, input) {
  const label = make("label");
  label.append(make("span", "", text), input);
  return label;
}

function group(label, parts) {
  const whole = make("fieldset");
  whole.append(make("legend", "", label), ...parts.map((each) => each.element));
  return whole;
}

/** The box with the form. */
class SendBox {
  constructor(send) {
    this.send = send;
    this.generic = null;
    this.editor = null;
    this.box = document.getElementById("send-box");
    this.said = document.getElementById("sent");
    document.getElementById("send-close").addEventListener("click", () => this.box.close());
    document.getElementById("send-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  use(text) {
    if (text === null || text === this.generic?.text) return;
    this.generic = new Generic(text);
    this.editor = editorOf(this.generic, this.generic.root, typeText(this.generic.root));
    document.getElementById("fields").replaceChildren(this.editor.element);
  }

  submit() {
    let text;
    try {
      const bytes = bytesOf(this.generic, this.editor.read());
      text = this.send(bytes) ? `Sent, ${WHOLE.format(bytes.length)} bytes.` : "Not sent: there is no connection.";
      this.said.classList.toggle("bad", !text.startsWith("Sent"));
    } catch (error) {
      text = error.message;
      this.said.classList.add("bad");
    }
    this.said.textContent = text;
  }
}
