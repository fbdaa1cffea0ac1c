// A program that uses a generated client, in a page and in Node: what it sees goes into `lines`.
export function start(wire, url, options, lines) {
  const client = new wire.Client(url, {
    ...options,
    backoff: [20, 200],
    onState: (state) => lines.push(`state ${state}`),
    onError: (error) => lines.push(`error ${error.name}: ${error.message}`),
    onLive: () => lines.push(`live ${client.how}`),
    onGap: (gap) => lines.push(`gap ${gap.name} ${gap.skipped} ${gap.superseded} ${gap.reason}`),
  });
  (async () => {
    try {
      for await (const value of client) {
        lines.push(`value ${JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v))}`);
        if (value.name === "answer me") {
          lines.push(`sent ${client.send({ kind: "Speed", metres: value.id })}`);
        }
      }
      lines.push("end");
    } catch (error) {
      lines.push(`thrown ${error.name}`);
    }
  })();
  return client;
}
