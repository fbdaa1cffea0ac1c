// Node's ws. --style: "ws" sends to each client; "corked" also corks the sockets for each turn, so that a turn
// is one system call a client.
//
// --mode uplink counts the "message" events of all clients.
//
// The turns are those of bench/floor_server.c. Node cannot map memory: the control page is read and written by
// system calls, one or two a turn.
import fs from "node:fs";
import { WebSocketServer } from "ws";

const given = {};
for (let i = 2; i < process.argv.length; i += 2) given[process.argv[i].slice(2)] = process.argv[i + 1];
const number = (name, otherwise) => (name in given ? Number(given[name]) : otherwise);

const READY = 0, TURNS = 8, WANT = 16, STOP = 24; // cells of 8 bytes; layout in net.h
const page = fs.openSync(given.control, "r+");
const fifo = fs.openSync(given.fifo, fs.constants.O_RDWR);
const cell = Buffer.alloc(8);
const load = (index) => {
  fs.readSync(page, cell, 0, 8, index * 8);
  return Number(cell.readBigUInt64LE());
};
const store = (index, value) => {
  cell.writeBigUInt64LE(BigInt(value));
  fs.writeSync(page, cell, 0, 8, index * 8);
};
const waiting = Buffer.alloc(64);
const turnRead = async (turn) => {
  while (load(TURNS) < turn) {
    store(WANT, turn);
    if (load(TURNS) >= turn) break;
    await new Promise((done) => fs.read(fifo, waiting, 0, 64, null, done));
  }
  store(WANT, 0);
};
const round = () => new Promise((done) => setImmediate(done)); // what was put off is written

function stamped(size, sequence) {
  const payload = Buffer.alloc(size);
  for (let at = 0; at < size; at++) payload[at] = at % 251;
  payload.writeBigUInt64LE(process.hrtime.bigint(), 0);
  payload.writeBigUInt64LE(BigInt(sequence), 8);
  return payload;
}

const count = number("clients", 1);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
server.on("error", (error) => { throw error; });

function finish(messages, turns, started, before) {
  const wall = (performance.now() - started) / 1000;
  const after = process.resourceUsage();
  store(STOP, 1);
  console.log(JSON.stringify({
    turns,
    messages,
    wall_s: wall,
    user_s: (after.userCPUTime - before.userCPUTime) / 1e6,
    sys_s: (after.systemCPUTime - before.systemCPUTime) / 1e6,
  }));
  process.exit();
}

if (given.mode === "uplink") {
  const total = number("messages", 0), first = Math.max(1, Math.floor(total / 10));
  let got = 0, started, before;
  server.on("connection", (client) => client.on("message", () => {
    got++;
    if (got === first) {
      before = process.resourceUsage();
      started = performance.now();
    } else if (got === total) {
      finish(total - first, 0, started, before);
    }
  }));
  await new Promise(() => {});
}

const corked = given.style === "corked";
const size = number("size", 64), burst = number("burst", 1), window = number("window", 8);
while (server.clients.size < count || load(READY) < count) await new Promise((done) => setTimeout(done, 2));
const clients = [...server.clients];
const pool = Array.from({ length: size >= 32768 ? 4 : 1 }, (_, index) => stamped(size, index));
let turn = 0, first = 0, started = null, before;
let until = performance.now() + number("warmup", 0.1) * 1000;
for (;;) {
  if (performance.now() >= until) {
    await turnRead(turn);
    if (started !== null) break;
    first = turn;
    before = process.resourceUsage();
    started = performance.now();
    until = started + number("seconds", 0.5) * 1000;
  }
  if (corked) for (const client of clients) client._socket.cork();
  for (let index = 0; index < burst; index++) {
    const message = number("check", 0) ? stamped(size, turn * burst + index) : pool[turn % pool.length];
    for (const client of clients) client.send(message);
  }
  if (corked) for (const client of clients) client._socket.uncork();
  await round();
  turn++;
  if (load(TURNS) <= turn - window) await turnRead(turn - window + 1);
}
finish((turn - first) * burst, turn - first, started, before);
