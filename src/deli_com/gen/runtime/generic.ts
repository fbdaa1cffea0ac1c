// --- values of any schema, read by its text without generated code (docs/wire.md section 9) ---

/** The values that are sent cannot be read. Each difference is described from the reader's side. */
export class SchemaError extends Error {
⟦  readonly differences: readonly string[];
⟧
  constructor(message⟦: string⟧, differences⟦: readonly string[]⟧ = []) {
    const lines = differences.map(
      (line) => `\n${/^[-+] /.test(line) ? "" : "  "}${line}`,
    );
    super(message + (lines.length === 0 ? "" : ":") + lines.join(""));
    this.name = "SchemaError";
    this.differences = differences;
  }
}

⟦/** A type in a schema text. */
export type SchemaType =
  | { is: "scalar"; name: string }
  | { is: "ref"; name: string }
  | { is: "option" | "list"; item: SchemaType }
  | { is: "fixed"; item: SchemaType; count: number }
  | { is: "product"; items: SchemaType[] };⟧

⟦export type SchemaField = { name: string; type: SchemaType; notes: string };⟧
⟦export type SchemaVariant = {
  name: string;
  fields: SchemaField[];
  notes: string;
};⟧
⟦export type SchemaDefinition =
  | { is: "struct"; name: string; fields: SchemaField[]; notes: string }
  | { is: "sealed"; name: string; variants: SchemaVariant[]; notes: string }
  | { is: "enum"; name: string; members: string[] };⟧

⟦type Read = (r: Reader) => unknown;⟧
⟦type Cell = { read: Read };⟧
⟦type NumberArray = new (data: ArrayBuffer | ArrayLike<never>) => unknown;⟧

const INTEGERS_BIG⟦: boolean⟧ = @big@;
const SCHEMA_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}";
const SCHEMA_ARGUMENT = `(?:${SCHEMA_NAME}|[+-]?[0-9]{1,32}(?:\\.[0-9]{1,32})?(?:[eE][+-]?[0-9]{1,4})?)`;
const SCHEMA_NOTE = `(?: @${SCHEMA_NAME}(?:\\(${SCHEMA_ARGUMENT}(?:,${SCHEMA_ARGUMENT})*\\))?)*`;
const DEFINITION_LINE = new RegExp(
  `^(struct|sealed|enum) (${SCHEMA_NAME})(${SCHEMA_NOTE})$`,
);
const FIELD_LINE = new RegExp(
  `^ {1,2}(${SCHEMA_NAME}) ([^ ]+)(${SCHEMA_NOTE})$`,
);
const DUNDER = /^(?=__).*__$/;
const VARIANT_LINE = new RegExp(
  `^ (0|[1-9][0-9]{0,5}) (${SCHEMA_NAME})(${SCHEMA_NOTE})$`,
);
const SCALAR_READERS⟦: Record<string, Read>⟧ = {
  u8: (r) => r.u8(),
  u16: (r) => r.u16(),
  u32: (r) => r.u32(),
  u64: (r) => (INTEGERS_BIG ? r.u64() : safe(r.u64(), r.at - 8)),
  i8: (r) => r.i8(),
  i16: (r) => r.i16(),
  i32: (r) => r.i32(),
  i64: (r) => (INTEGERS_BIG ? r.i64() : safe(r.i64(), r.at - 8)),
  f32: (r) => r.f32(),
  f64: (r) => r.f64(),
  bool: (r) => r.bool(),
  str: (r) => r.str(),
  bytes: (r) => r.data(),
};
const NUMBER_ARRAYS⟦: Record<string, unknown>⟧ = {
  ...{ u8: Uint8Array, u16: Uint16Array, u32: Uint32Array },
  ...{ i8: Int8Array, i16: Int16Array, i32: Int32Array },
  ...{ f32: Float32Array, f64: Float64Array },
  ...(INTEGERS_BIG ? { u64: BigUint64Array, i64: BigInt64Array } : {}),
};

function numberSize(name⟦: string⟧)⟦: number | undefined⟧ {
  return /^[uif]/.test(name) ? Number(name.slice(1)) / 8 : undefined;
}

function sizeOf(tp⟦: SchemaType⟧)⟦: number⟧ {
  return tp.is === "scalar" ? (numberSize(tp.name) ?? 0) : 0;
}

function arrayOf(tp⟦: SchemaType⟧)⟦: NumberArray | undefined⟧ {
  return tp.is === "scalar"⟦
   ⟧ ? ⟦(⟧NUMBER_ARRAYS[tp.name]⟦ as NumberArray | undefined)
   ⟧ : undefined;
}

/** The text of a type in a schema. */
function typeText(tp⟦: SchemaType⟧)⟦: string⟧ {
  switch (tp.is) {
    case "scalar":
    case "ref":
      return tp.name;
    case "option":
      return `${typeText(tp.item)}?`;
    case "list":
      return `[${typeText(tp.item)}]`;
    case "fixed":
      return `[${typeText(tp.item)};${tp.count}]`;
    case "product":
      return `(${tp.items.map(typeText).join(",")})`;
  }
}

/**
 * A schema made from its text. It reads values of a type that is not known at build time.
 *
 * Structs become objects, variants objects with `kind`, members of enums their names. A field `kind` of a
 * variant becomes `kind_`. Throws `SchemaError` if the text is no schema.
 */
export class Generic {
  ⟦readonly text: string;⟧
  ⟦readonly root: SchemaType;⟧
  ⟦readonly ⟧definitions⟦: Map<string, SchemaDefinition>⟧ = new Map();
  /** Names that fields must not have here. They get a trailing `_`. */
  ⟦readonly reserved: ReadonlySet<string>;⟧
  ⟦private readonly ⟧cells⟦: Map<string, Cell>⟧ = new Map();
  ⟦private readonly ⟧sizes⟦: Map<string, number>⟧ = new Map();
  ⟦private readonly ⟧again⟦: Set<string>⟧ = new Set();
  ⟦private whole: Read | undefined;⟧

  constructor(text⟦: string⟧, reserved⟦: Iterable<string>⟧ = []) {
    this.text = text;
    this.reserved = new Set(reserved);
    const lines = text.split("\n");
    if (
      text.length > 262144 ||
      /[^\x00-\x7f]/.test(text) ||
      lines.pop() !== "" ||
      lines[0] !== "deli 1"
    ) {
      throw new SchemaError(
        "a schema begins with 'deli 1', ends with a line feed and has at most 256 KiB of ASCII",
      );
    }
    const root = /^root ([^ ]+)$/.exec(lines[1] ?? "");
    if (root === null) throw wrong(lines, 1, "expected 'root' and a type");
    this.root = parseType(root[1]⟦!⟧, lines, 1);
    this.parse(lines);
    this.measure();
  }

  /** Decode a value; bytes after it are ignored unless `strict`. Throws `DecodeError`. */
  decode(bytes⟦: Uint8Array | ArrayBuffer⟧, strict⟦: boolean⟧ = false)⟦: unknown⟧ {
    this.whole ??= this.reader(this.root);
    const r = new Reader(bytes);
    return finish(r, this.whole(r), strict);
  }

  /**
   * A function that reads values of another writer's schema as values of this one. Fields are matched by
   * name. Fields that this schema lacks are skipped. Fields that the writer lacks become null or empty, or
   * are a difference. The function gives `undefined` for a variant that this schema lacks. Throws
   * `SchemaError` with all differences.
   */
  reading(writer⟦: Generic⟧)⟦: (bytes: Uint8Array | ArrayBuffer) => unknown⟧ {
    const read = new Resolver(this, writer).resolve();
    return (bytes) => read(new Reader(bytes));
  }

  /** The names of fields in values. */
  names(fields⟦: readonly SchemaField[]⟧, ...taken⟦: string[]⟧)⟦: string[]⟧ {
    const wanted = new Set([
      ...fields.map((field) => field.name),
      ...taken,
      ...this.reserved,
    ]);
    return fields.map(({ name }) => {
      if (!this.reserved.has(name) && !taken.includes(name)) return name;
      let found = name + "_";
      while (wanted.has(found)) found += "_";
      wanted.add(found);
      return found;
    });
  }

  /** Least bytes of a value. */
  least(tp⟦: SchemaType⟧)⟦: number⟧ {
    switch (tp.is) {
      case "scalar":
        return tp.name === "bool" ? 1 : (numberSize(tp.name) ?? 4);
      case "ref":
        return this.sizes.get(tp.name) ?? Infinity;
      case "option":
        return 1;
      case "list":
        return 4;
      case "fixed":
        return tp.count === 0 ? 0 : tp.count * this.least(tp.item);
      case "product":
        return tp.items.reduce((sum, item) => sum + this.least(item), 0);
    }
  }

  /** A function that reads one value of a type. */
  reader(tp⟦: SchemaType⟧)⟦: Read⟧ {
    switch (tp.is) {
      case "scalar":
        return SCALAR_READERS[tp.name]⟦!⟧;
      case "ref": {
        const cell = this.cell(tp.name);
        return (r) => cell.read(r);
      }
      case "option": {
        const item = this.reader(tp.item);
        return (r) => (r.bool() ? item(r) : null);
      }
      case "list":
      case "fixed": {
        const array = arrayOf(tp.item);
        const least = this.least(tp.item);
        const count = tp.is === "fixed" ? tp.count : undefined;
        if (array !== undefined)
          return (r) => new array(r.copy(least * (count ?? r.count(least))));
        const item = this.reader(tp.item);
        if (count === undefined) return (r) => r.list(least, item);
        return (r) => r.fixed(count, least * count, item);
      }
      case "product": {
        const items = tp.items.map((item) => this.reader(item));
        return (r) => items.map((item) => item(r));
      }
    }
  }

  ⟦private ⟧cell(name⟦: string⟧)⟦: Cell⟧ {
    const known = this.cells.get(name);
    if (known !== undefined) return known;
    const cell⟦: Cell⟧ = { read: () => undefined };
    this.cells.set(name, cell);
    const definition = this.definitions.get(name)⟦!⟧;
    if (definition.is === "enum") {
      const members = definition.members;
      cell.read = (r) => members[r.index(members.length)];
    } else if (definition.is === "struct") {
      cell.read = this.counted(name, this.struct(definition.fields));
    } else {
      const variants = definition.variants.map((variant) =>
        this.struct(variant.fields, variant.name),
      );
      cell.read = this.counted(name, (r) =>
        variants[r.index(variants.length)]⟦!⟧(r),
      );
    }
    return cell;
  }

  ⟦private ⟧struct(fields⟦: SchemaField[]⟧, kind⟦?: string⟧)⟦: Read⟧ {
    const names =
      kind === undefined ? this.names(fields) : this.names(fields, "kind");
    const reads = fields.map((field) => this.reader(field.type));
    return (r) => {
      const value⟦: Record<string, unknown>⟧ = {};
      if (kind !== undefined) value.kind = kind;
      for (let i = 0; i < reads.length; i++) value[names[i]⟦!⟧] = reads[i]⟦!⟧(r);
      return value;
    };
  }

  /** The same function. It counts its depth if a value can contain another of its type. */
  counted(name⟦: string⟧, read⟦: Read⟧)⟦: Read⟧ {
    if (!this.again.has(name)) return read;
    return (r) => {
      r.enter();
      const value = read(r);
      r.leave();
      return value;
    };
  }

  ⟦private ⟧parse(lines⟦: string[]⟧)⟦: void⟧ {
    let count = 0;
    for (let at = 2; at < lines.length; ) {
      const head = DEFINITION_LINE.exec(lines[at]⟦!⟧);
      if (
        head === null ||
        this.definitions.has(head[2]⟦!⟧) ||
        this.definitions.size === 4096 ||
        Object.hasOwn(SCALAR_READERS, head[2]⟦!⟧) ||
        DUNDER.test(head[2]⟦!⟧) ||
        (head[1] === "enum" && head[3] !== "")
      ) {
        throw wrong(
          lines,
          at,
          "expected 'struct', 'sealed' or 'enum' and a new name",
        );
      }
      const [, is, name, notes] = head⟦ as unknown as [
        string,
        string,
        string,
        string,
      ]⟧;
      const parts⟦: { name: string; fields: SchemaField[]; notes: string }[]⟧ =⟦
       ⟧ [];
      if (is === "struct") parts.push({ name, fields: [], notes });
      for (at++; at < lines.length && lines[at]⟦!⟧.startsWith(" "); at++) {
        const variant = is === "struct" ? null : VARIANT_LINE.exec(lines[at]⟦!⟧);
        if (
          variant !== null &&
          parts.every((each) => each.name !== variant[2])
        ) {
          if (
            Number(variant[1]) !== parts.length ||
            DUNDER.test(variant[2]⟦!⟧) ||
            (is === "enum" && variant[3] !== "")
          )
            throw wrong(lines, at, "expected another index or name");
          parts.push({ name: variant[2]⟦!⟧, fields: [], notes: variant[3]⟦!⟧ });
          continue;
        }
        const indent = is === "struct" ? 1 : 2;
        const field = is === "enum" ? null : FIELD_LINE.exec(lines[at]⟦!⟧);
        const part = parts[parts.length - 1];
        if (
          field === null ||
          part === undefined ||
          DUNDER.test(field[1]⟦!⟧) ||
          lines[at]⟦!⟧.search(/[^ ]/) !== indent
        ) {
          throw wrong(lines, at, "expected a field: a name, a type and notes");
        }
        if (
          ++count > 65536 ||
          part.fields.some((each) => each.name === field[1])
        ) {
          throw wrong(
            lines,
            at,
            "a field is declared twice, or there are more than 65536",
          );
        }
        part.fields.push({
          name: field[1]⟦!⟧,
          type: parseType(field[2]⟦!⟧, lines, at),
          notes: field[3]⟦!⟧,
        });
      }
      if (parts.length === 0)
        throw wrong(lines, at - 1, "expected variants or members");
      if (is === "struct") this.definitions.set(name, { is, ...parts[0]⟦!⟧ });
      else if (is === "sealed")
        this.definitions.set(name, { is, name, variants: parts, notes });
      else
        this.definitions.set(name, {
          is: "enum",
          name,
          members: parts.map((each) => each.name),
        });
    }
  }

  /** Compute least sizes and recursion, and check that all names are defined. */
  ⟦private ⟧measure()⟦: void⟧ {
    const ways = new Map⟦<string, [number, SchemaType[]][]>⟧();
    for (const [name, each] of this.definitions) {
      if (each.is === "enum") ways.set(name, [[4, []]]);
      else if (each.is === "struct")
        ways.set(name, [[0, each.fields.map((field) => field.type)]]);
      else {
        ways.set(
          name,
          each.variants.map((variant) => [
            4,
            variant.fields.map((field) => field.type),
          ]),
        );
      }
    }
    const inside = new Map⟦<string, Set<string>>⟧();
    for (const [name, own] of [...ways, ["", [[0, [this.root]]]]⟦ as const⟧]) {
      inside.set(
        name,
        new Set(own.flatMap(([, types]) => types.flatMap(refsOf))),
      );
      for (const ref of inside.get(name)⟦!⟧) {
        if (!ways.has(ref))
          throw new SchemaError(`no schema: ${ref} is not defined`);
      }
    }
    this.checkOrder(inside);
    const order = [...ways.keys()].reverse(); // inner definitions mostly come later in the text
    for (let changed = true; changed; ) {
      changed = false;
      for (const name of order) {
        const sums = ways
          .get(name)⟦!⟧
          .map(
            ([own, types]) => own + this.least({ is: "product", items: types }),
          );
        const size = sums.reduce((a, b) => Math.min(a, b));
        if (size < (this.sizes.get(name) ?? Infinity)) {
          this.sizes.set(name, size);
          changed = true;
        }
      }
    }
    for (const tp of [
      this.root,
      ...order.map((name) => ({ is: "ref"⟦ as const⟧, name })),
    ]) {
      if (!(this.least(tp) <= 2 ** 40)) {
        throw new SchemaError(
          `no schema: no value of ${typeText(tp)} ends, or it takes over 2^40 bytes`,
        );
      }
    }
    this.findCycles(inside);
  }

  /** Definitions must be in the order in which a walk from the root meets them, and it must meet all. */
  ⟦private ⟧checkOrder(inside⟦: Map<string, Set<string>>⟧)⟦: void⟧ {
    const met = new Set⟦<string>⟧();
    const names = [...this.definitions.keys()];
    for (const todo = [...inside.get("")⟦!⟧].reverse(); todo.length > 0; ) {
      const name = todo.pop()⟦!⟧;
      if (met.has(name)) continue;
      if (names[met.size] !== name) {
        throw new SchemaError(
          `no schema: ${name} must be defined before ${names[met.size]}`,
        );
      }
      met.add(name);
      todo.push(...[...inside.get(name)⟦!⟧].reverse());
    }
    if (met.size < names.length) {
      throw new SchemaError(`no schema: nothing refers to ${names[met.size]}`);
    }
  }

  /** Tarjan's components: definitions whose values can contain the same definition count their depth. */
  ⟦private ⟧findCycles(inside⟦: Map<string, Set<string>>⟧)⟦: void⟧ {
    const low = new Map⟦<string, number>⟧();
    const held⟦: string[]⟧ = [];
    const visit = (name⟦: string⟧)⟦: number⟧ => {
      const own = low.size;
      low.set(name, own);
      held.push(name);
      let least = own;
      for (const ref of inside.get(name)⟦!⟧) {
        const found = low.get(ref);
        if (found === undefined) least = Math.min(least, visit(ref));
        else if (held.includes(ref)) least = Math.min(least, found);
      }
      if (least === own) {
        const part = held.splice(held.indexOf(name));
        if (part.length > 1 || inside.get(name)⟦!⟧.has(name))
          part.forEach((each) => this.again.add(each));
      }
      return least;
    };
    visit("");
  }
}

function wrong(lines⟦: string[]⟧, at⟦: number⟧, what⟦: string⟧)⟦: SchemaError⟧ {
  const line =
    lines[at] === undefined ? "the end" : `'${lines[at]⟦!⟧.slice(0, 60)}'`;
  return new SchemaError(`no schema: ${what} (line ${at + 1}, ${line})`);
}

function refsOf(tp⟦: SchemaType⟧)⟦: string[]⟧ {
  if (tp.is === "ref") return [tp.name];
  if (tp.is === "product") return tp.items.flatMap(refsOf);
  return tp.is === "scalar" ? [] : refsOf(tp.item);
}

function parseType(text⟦: string⟧, lines⟦: string[]⟧, at⟦: number⟧)⟦: SchemaType⟧ {
  const tokens = text.match(/[A-Za-z0-9_]+|[^A-Za-z0-9_]/g) ?? [];
  let next = 0;
  const fail = () => wrong(lines, at, "expected a type");
  const take = (wanted⟦: string⟧) => {
    const token = tokens[next++] ?? "";
    if (token === "" || !wanted.includes(token)) throw fail();
    return token;
  };
  const one = (room⟦: number⟧)⟦: SchemaType⟧ => {
    if (room === 0)
      throw wrong(lines, at, "types are nested more than 200 deep");
    const token = tokens[next++] ?? "";
    let made⟦: SchemaType⟧;
    if (token === "[") {
      const item = one(room - 1);
      if (take(";]") === "]") {
        if (item.is === "scalar" && item.name === "u8") throw fail(); // bytes
        made = { is: "list", item };
      } else {
        const count = tokens[next++] ?? "";
        if (!/^(0|[1-9][0-9]{0,7})$/.test(count) || Number(count) > 16777216)
          throw fail();
        take("]");
        made = { is: "fixed", item, count: Number(count) };
      }
    } else if (token === "(") {
      const items⟦: SchemaType[]⟧ = [];
      if (tokens[next] === ")") next++;
      else {
        do items.push(one(room - 1));
        while (take(",)") === ",");
      }
      made = { is: "product", items };
    } else if (Object.hasOwn(SCALAR_READERS, token))
      made = { is: "scalar", name: token };
    else if (/^[A-Za-z_]/.test(token)) made = { is: "ref", name: token };
    else throw fail();
    if (tokens[next] !== "?") return made;
    next++;
    return { is: "option", item: made };
  };
  const found = one(201);
  if (next !== tokens.length) throw fail();
  if (depthOf(found) > 201)
    throw wrong(lines, at, "types are nested more than 200 deep");
  return found;
}

/** The nesting depth of a type: 1 for a scalar or a name. */
function depthOf(tp⟦: SchemaType⟧)⟦: number⟧ {
  if (tp.is === "scalar" || tp.is === "ref") return 1;
  const items = tp.is === "product" ? tp.items : [tp.item];
  return 1 + items.reduce((most, item) => Math.max(most, depthOf(item)), 0);
}

/** A variant or member that the reader lacks. It is no error if it is the whole message. */
class UnknownVariant extends InvalidVariant {}

/** Reads a writer's values as the reader's values (docs/wire.md section 9). */
class Resolver {
  ⟦private readonly here: Generic;⟧
  ⟦private readonly there: Generic;⟧
  ⟦private readonly ⟧cells⟦: Map<string, Cell>⟧ = new Map();
  ⟦private readonly ⟧todo⟦: (() => void)[]⟧ = [];
  ⟦private readonly ⟧rows⟦: [string, string][]⟧ = [];
  /** Whether an unknown variant or member at offset 0 is the whole message. */
  ⟦private readonly message: boolean;⟧

  constructor(here⟦: Generic⟧, there⟦: Generic⟧) {
    this.here = here;
    this.there = there;
    const root = here.root;
    this.message =
      root.is === "ref" && here.definitions.get(root.name)⟦!⟧.is !== "struct";
  }

  resolve()⟦: Read⟧ {
    const read = this.compare(this.there.root, this.here.root, "");
    if (read === null)
      this.differ("the message", this.there.root, this.here.root);
    for (let next; (next = this.todo.shift()) !== undefined; ) next();
    if (read === null || this.rows.length > 0) {
      const bare = (name⟦: string⟧) => name.replace(/^- /, "");
      const width = Math.max(...this.rows.map(([name]) => bare(name).length));
      const lines = this.rows.map(([name, words]) => {
        return `${name}${" ".repeat(width - bare(name).length)}  ${words}`;
      });
      throw new SchemaError(
        `another ${typeText(this.here.root)} is sent here`,
        lines,
      );
    }
    if (!this.message) return read;
    return (r) => {
      try {
        return read(r);
      } catch (error) {
        if (error instanceof UnknownVariant && error.offset === 0)
          return undefined;
        throw error;
      }
    };
  }

  ⟦private ⟧differ(where⟦: string⟧, there⟦: SchemaType⟧, here⟦: SchemaType⟧)⟦: void⟧ {
    this.rows.push([where, `${typeText(here)} here, ${typeText(there)} there`]);
  }

  /** A function that reads a writer's type as a reader's type; null if that is not possible. */
  ⟦private ⟧compare(
    there⟦: SchemaType⟧,
    here⟦: SchemaType⟧,
    path⟦: string⟧,
  )⟦: Read | null⟧ {
    if (here.is === "option" && there.is !== "option")
      return this.compare(there, here.item, path);
    if (here.is === "scalar" && there.is === "scalar") {
      if (here.name === there.name) return SCALAR_READERS[here.name]⟦!⟧;
      const read = SCALAR_READERS[there.name]⟦!⟧;
      const change = widened(there.name, here.name);
      return change && ((r) => change(read(r)));
    }
    if (here.is === "ref" && there.is === "ref")
      return this.pair(there.name, here.name, path);
    if (here.is === "option" && there.is === "option") {
      const item = this.compare(there.item, here.item, path);
      return item && ((r) => (r.bool() ? item(r) : null));
    }
    if (here.is === "product" && there.is === "product") {
      if (here.items.length !== there.items.length) return null;
      const items = here.items.map((item, i) =>
        this.compare(there.items[i]⟦!⟧, item, `${path}[${i}]`),
      );
      if (items.includes(null)) return null;
      return (r) => items.map((item) => item⟦!⟧(r));
    }
    const own = itemsOf(here);
    const other = itemsOf(there);
    if (own === null || other === null || own.count !== other.count)
      return null;
    return this.items(other, own, path);
  }

  ⟦private ⟧items(there⟦: Items⟧, here⟦: Items⟧, path⟦: string⟧)⟦: Read | null⟧ {
    const least = this.there.least(there.item);
    const count = here.count;
    const array = arrayOf(here.item);
    const source = arrayOf(there.item);
    if (array !== undefined && array === source) {
      return (r) => new array(r.copy(least * (count ?? r.count(least))));
    }
    const item = this.compare(there.item, here.item, `${path}[]`);
    if (item === null) return null;
    const list⟦: Read⟧ =
      count === undefined
        ? (r) => r.list(least, item)
        : (r) => r.fixed(count, least * count, item);
    return array === undefined ? list : (r) => new array(list(r)⟦ as never[]⟧);
  }

  ⟦private ⟧pair(there⟦: string⟧, here⟦: string⟧, path⟦: string⟧)⟦: Read | null⟧ {
    const key = `${there} ${here}`;
    let cell = this.cells.get(key);
    const own = this.here.definitions.get(here)⟦!⟧;
    const other = this.there.definitions.get(there)⟦!⟧;
    if (own.is !== other.is) return null;
    if (cell === undefined) {
      const made⟦: Cell⟧ = { read: () => undefined };
      cell = made;
      this.cells.set(key, made);
      this.todo.push(() => {
        if (own.is === "enum" && other.is === "enum")
          made.read = members(other.members, own.members);
        else if (own.is === "struct" && other.is === "struct") {
          made.read = this.there.counted(
            there,
            this.struct(other.fields, own.fields, path),
          );
        } else if (own.is === "sealed" && other.is === "sealed") {
          made.read = this.there.counted(
            there,
            this.variants(other.variants, own.variants, path),
          );
        }
      });
    }
    const found = cell;
    return (r) => found.read(r);
  }

  ⟦private ⟧variants(
    there⟦: SchemaVariant[]⟧,
    here⟦: SchemaVariant[]⟧,
    path⟦: string⟧,
  )⟦: Read⟧ {
    const cells = there.map((variant) => {
      const own = here.find((each) => each.name === variant.name);
      if (own === undefined)
        return variant.fields.map((field) => this.skipper(field.type));
      const cell⟦: Cell⟧ = { read: () => undefined };
      const where = path === "" ? variant.name : `${path}.${variant.name}`;
      this.todo.push(
        () =>
          (cell.read = this.struct(
            variant.fields,
            own.fields,
            where,
            own.name,
          )),
      );
      return cell;
    });
    return (r) => {
      const at = r.at;
      const index = r.index(cells.length);
      const cell = cells[index]⟦!⟧;
      if (!Array.isArray(cell)) return cell.read(r);
      if (this.message && at === 0) cell.forEach((skip) => skip(r));
      throw new UnknownVariant(index, at);
    };
  }

  ⟦private ⟧struct(
    there⟦: SchemaField[]⟧,
    here⟦: SchemaField[]⟧,
    path⟦: string⟧,
    kind⟦?: string⟧,
  )⟦: Read⟧ {
    const names =
      kind === undefined
        ? this.here.names(here)
        : this.here.names(here, "kind");
    const at = (name⟦: string⟧) => (path === "" ? name : `${path}.${name}`);
    const places = new Map(there.map((field, i) => [field.name, i]));
    const steps⟦: (Read | null)[]⟧ = there.map((field) =>⟦
     ⟧ this.skipper(field.type)⟦,
    ⟧);
    const targets = there.map(() => "");
    const absent⟦: [string, () => unknown][]⟧ = [];
    const left⟦: [string, string][]⟧ = [];
    here.forEach((field, i) => {
      const place = places.get(field.name);
      if (place !== undefined) {
        steps[place] = this.compare(
          there[place]⟦!⟧.type,
          field.type,
          at(field.name),
        );
        targets[place] = names[i]⟦!⟧;
        if (steps[place] === null)
          this.differ(at(field.name), there[place]⟦!⟧.type, field.type);
        return;
      }
      const make = emptyOf(field.type);
      if (make !== null) absent.push([names[i]⟦!⟧, make]);
      else
        left.push([
          `- ${at(field.name)}`,
          `${typeText(field.type)}, only here and without a default`,
        ]);
    });
    this.rows.push(...left);
    // Values have the reader's fields in the reader's order, whatever the order of the writer.
    return (r) => {
      const value⟦: Record<string, unknown>⟧ = {};
      if (kind !== undefined) value.kind = kind;
      for (const name of names) value[name] = undefined;
      for (let i = 0; i < steps.length; i++) {
        const found = steps[i]⟦!⟧(r);
        if (targets[i] !== "") value[targets[i]⟦!⟧] = found;
      }
      for (const [name, make] of absent) value[name] = make();
      return value;
    };
  }

  /** A function that skips one value of the writer. */
  ⟦private ⟧skipper(tp⟦: SchemaType⟧)⟦: Read⟧ {
    if (
      tp.is === "list" ||
      (tp.is === "scalar" && (tp.name === "bytes" || tp.name === "str"))
    ) {
      const size = tp.is === "list" ? sizeOf(tp.item) : 1;
      if (size > 0) return (r) => r.take(size * r.count(size));
    }
    if (tp.is === "fixed" && sizeOf(tp.item) > 0)
      return (r) => r.take(sizeOf(tp.item) * tp.count);
    return this.there.reader(tp);
  }
}

⟦type Items = { item: SchemaType; count: number | undefined };⟧

function itemsOf(tp⟦: SchemaType⟧)⟦: Items | null⟧ {
  if (tp.is === "scalar" && tp.name === "bytes") {
    return { item: { is: "scalar", name: "u8" }, count: undefined };
  }
  if (tp.is === "list") return { item: tp.item, count: undefined };
  return tp.is === "fixed" ? { item: tp.item, count: tp.count } : null;
}

/** Members by name. A member that the reader lacks is an error. */
function members(there⟦: string[]⟧, here⟦: string[]⟧)⟦: Read⟧ {
  return (r) => {
    const at = r.at;
    const index = r.index(there.length);
    if (!here.includes(there[index]⟦!⟧)) throw new UnknownVariant(index, at);
    return there[index];
  };
}

/** The value of a field that is not sent; null if it needs a default, which a schema does not have. */
function emptyOf(tp⟦: SchemaType⟧)⟦: (() => unknown) | null⟧ {
  if (tp.is === "option") return () => null;
  if (tp.is === "list" || (tp.is === "scalar" && tp.name === "bytes")) {
    const array =⟦
     ⟧ tp.is === "list"⟦
       ⟧ ? arrayOf(tp.item)⟦
       ⟧ : ⟦(⟧Uint8Array⟦ as unknown as NumberArray)⟧;
    return array === undefined ? () => [] : () => new array([]);
  }
  return null;
}

/** A function that converts a number to a wider kind; null if some numbers would not fit. */
function widened(
  source⟦: string⟧,
  target⟦: string⟧,
)⟦: ((value: unknown) => unknown) | null⟧ {
  const size = numberSize(source);
  const room = numberSize(target);
  if (size === undefined || room === undefined) return null;
  const [from, to] = [source.charAt(0), target.charAt(0)];
  if (from === to || (from === "u" && to === "i")) {
    if (room <= size) return null;
    return to !== "f" && room === 8 && INTEGERS_BIG
      ? (value) => BigInt(value⟦ as number⟧)
      : (value) => value;
  }
  return from !== "f" && target === "f64" && size <= 4
    ? (value) => value
    : null;
}
