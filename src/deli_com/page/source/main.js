// --- the page ---

const COLOURS = 8;
const LIGHT = ["#0b5fc9", "#c2410c", "#15803d", "#be123c", "#7c3aed", "#0e7490", "#8a6500", "#9d2f7e"];
const DARK = ["#5aa7ff", "#ffb050", "#5fd38d", "#ff7b8e", "#b795ff", "#3fd0d9", "#e3d25c", "#f78fc8"];
const TEXTS_MS = 80; // between two texts of a row, so that they can be read
const MAX_EVENTS = 200;

const page = document.documentElement;
const element = (id) => document.getElementById(id);
const wantsUp = page.dataset.send === "yes";
const events = [];
let store = null;
let theme = null;
let stateName = "";
let messages = 0;
let received = 0;
let countedAt = performance.now();
let textsAt = 0;
let gaps = 0;

function note(text) {
  const time = new Date().toTimeString().slice(0, 8);
  events.unshift(`${time}  ${text}`);
  events.length = Math.min(events.length, MAX_EVENTS);
  if (element("help-box").open) showEvents();
}

function showEvents() {
  element("events").replaceChildren(...events.map((text) => make("li", "", text)));
}

function toast(text) {
  const box = element("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(box.timer);
  box.timer = setTimeout(() => (box.hidden = true), 1800);
}

function setTheme(name) {
  page.dataset.theme = name;
  const style = getComputedStyle(page);
  const of = (variable) => style.getPropertyValue(variable).trim();
  theme = {
    colours: name === "dark" ? DARK : LIGHT,
    line: of("--line"),
    dim: of("--dim"),
    font: `11px ${of("--mono")}`,
  };
}

function kept(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    // not allowed here
  }
  return null;
}

async function copy(node) {
  const value = node.entry === null ? Object.fromEntries(node.children().map((each) => [each.label, each.value()])) : node.value();
  const text = jsonText(value);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS, and not on this machine, browsers have no other clipboard.
    const area = make("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`Copied ${plainText(node.id)}`);
}

function setPaused(isPaused) {
  if (store === null) return;
  store.pausedAt = performance.now();
  store.pause(isPaused);
  element("pause").setAttribute("aria-pressed", String(isPaused));
  element("pause-text").textContent = isPaused ? "Go on" : "Pause";
}

function showTab(name) {
  element("main").dataset.tab = name;
  for (const button of element("tabs").children) button.setAttribute("aria-pressed", String(button.dataset.tab === name));
}

const board = new Board();
const list = new List({
  copy,
  watch: (node) => board.watch(node),
  mark: (node) => {
    const card = board.cardOf(node.id);
    if (card === null) return null;
    const colour = card.series?.find((each) => each.id === node.id)?.colour ?? card.colour;
    return colour === undefined ? "" : theme.colours[colour];
  },
});

const stream = new Stream(streamUrl(page.dataset.path, wantsUp), wantsUp, {
  schema(text) {
    if (store !== null && store.text === text) return;
    store = new Store(text);
    setPaused(false);
    list.use(store);
    board.use(store, list.tree);
    element("title").textContent = page.dataset.title || typeText(store.generic.root);
    document.title = `${element("title").textContent} – ${location.host}`;
  },
  up(text) {
    sendBox.use(text);
    element("send").hidden = !wantsUp || text === null;
  },
  value(data) {
    messages++;
    received += data.byteLength;
    store.take(data, performance.now());
  },
  gap(name, counts) {
    const reason = counts.get("reason");
    if (reason !== undefined) {
      const seconds = counts.get("seconds");
      note(seconds === undefined ? `the source is gone (${reason})` : `the source is back after ${seconds} s (${reason})`);
      return;
    }
    const count = Number(counts.get("skipped") ?? 0) + Number(counts.get("superseded") ?? 0);
    if (gaps === 0) note(`the server left out messages for this page: ${name}, ${count}`);
    gaps += count;
  },
  state(name, text, why = "") {
    if (name === "live" && stateName !== "live") note("connected");
    stateName = name;
    page.dataset.state = name;
    put(element("state-text"), text);
    put(element("banner-text"), why === "" ? "" : plainBanner(why));
    element("banner").hidden = why === "";
  },
  event: note,
  lost() {
    element("send").hidden = true;
    if (store === null) return;
    const now = performance.now();
    for (const card of board.cards) for (const series of card.series ?? []) series.push(now, NaN);
  },
});

/** Keeps line breaks. */
function plainBanner(text) {
  return text.split("\n").map(plainText).join("\n");
}

const sendBox = new SendBox((bytes) => stream.send(bytes));

function countTotals(now) {
  const passed = (now - countedAt) / 1000;
  if (passed < 1) return;
  const pad = (text, width) => text.padStart(width);
  put(element("per-second"), pad(`${WHOLE.format(Math.round(messages / passed))} msg/s`, 12));
  put(element("bytes"), pad(`${sizeText(received / passed)}/s`, 10));
  messages = received = 0;
  countedAt = now;
  if (store === null) return;
  if (store.isPaused) put(element("state-text"), `paused, ${WHOLE.format(store.missed)} since`);
  else if (stateName === "live") {
    put(element("state-text"), gaps > 0 ? `live, ${WHOLE.format(gaps)} left out` : "live");
    if (store.fault !== "") {
      note(`a message that cannot be read: ${store.fault}`);
      store.fault = "";
    }
  }
}

let frames = 0;
function frame() {
  requestAnimationFrame(frame);
  const now = performance.now();
  frames++;
  page.dataset.frames = String(frames);
  const withTexts = now - textsAt >= TEXTS_MS;
  if (withTexts) textsAt = now;
  countTotals(now);
  const tab = getComputedStyle(element("tabs")).display === "none" ? "" : element("main").dataset.tab;
  if (tab !== "watch") list.draw(now, withTexts);
  if (withTexts) board.meet(now);
  if (tab !== "values") board.draw(store?.isPaused ? store.pausedAt : now, theme);
}

const scheme = matchMedia("(prefers-color-scheme: dark)");
setTheme(kept("deli-theme") ?? (scheme.matches ? "dark" : "light"));
scheme.addEventListener("change", () => kept("deli-theme") ?? setTheme(scheme.matches ? "dark" : "light"));

function turnTheme() {
  const name = page.dataset.theme === "dark" ? "light" : "dark";
  setTheme(name);
  kept("deli-theme", name);
}

element("theme").addEventListener("click", turnTheme);
element("pause").addEventListener("click", () => setPaused(!store?.isPaused));
element("retry").addEventListener("click", () => stream.now());
element("filter").addEventListener("input", (event) => list.filter(event.target.value));
element("help").addEventListener("click", () => {
  showEvents();
  element("help-box").showModal();
});
element("send").addEventListener("click", () => element("send-box").showModal());
element("tabs").addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.tab;
  if (name) showTab(name);
});
addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape" && event.target === element("filter")) {
    element("filter").value = "";
    list.filter("");
    element("list").focus();
  }
  if (event.key === "ArrowDown" && event.target === element("filter")) element("list").focus();
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const does = {
    "/": () => element("filter").focus(),
    " ": () => event.target.tagName !== "BUTTON" && (setPaused(!store?.isPaused), true),
    t: turnTheme,
    "?": () => element("help").click(),
    s: () => element("send").hidden || element("send").click(),
  }[event.key];
  if (does !== undefined && does() !== false) event.preventDefault();
  else if (event.target === document.body) list.onKey(event);
});

element("title").textContent = page.dataset.title || location.host;
stream.open();
frame();
