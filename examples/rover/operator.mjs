// An operator in Node: node operator.mjs ws://127.0.0.1:8765/ (below Node 22: npm install ws)
import { Client } from "./wire.mjs";

const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
const client = new Client(process.argv[2], { WebSocket });
for await (const event of client) {
  if (event.kind === "Pose" && event.mode === "IDLE") {
    client.send({ speed: 1.5, mode: "DRIVE" });
  } else if (event.kind === "Pose") {
    console.log(`${event.name} drives, trail of ${event.trail.length}`);
    break;
  }
}
client.close();
