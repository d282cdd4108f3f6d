// sparkplug-payload behind a pipe: a payload a line comes in, what it holds goes out.
"use strict";

const readline = require("readline");
const sparkplug = require("sparkplug-payload").get("spBv1.0");
const { Payload } = require("sparkplug-payload/lib/sparkplugPayloadProto").org.eclipse.tahu.protobuf;

// What a host knows from the birth: which name an alias stands for, and each metric's datatype.
function complete(raw, birth) {
  const has = (metric, key) => Object.prototype.hasOwnProperty.call(metric, key);
  const data = Payload.decode(raw);
  const names = new Map();
  const datatypes = new Map();
  for (const metric of Payload.decode(birth).metrics) {
    if (has(metric, "alias")) names.set(String(metric.alias), metric.name);
    datatypes.set(metric.name, metric.datatype);
  }
  for (const metric of data.metrics) {
    if (!has(metric, "name")) metric.name = names.get(String(metric.alias));
    if (!has(metric, "datatype")) metric.datatype = datatypes.get(metric.name);
  }
  return Payload.encode(data).finish();
}

// 64-bit numbers do not fit JavaScript's own: they go as text.
const plain = (value) => (value !== null && typeof value === "object" ? String(value) : value);

function decode(request) {
  let raw = Buffer.from(request.payload, "base64");
  if (request.birth) raw = complete(raw, Buffer.from(request.birth, "base64"));
  return sparkplug.decodePayload(raw).metrics.map((metric) => ({
    name: metric.name === undefined ? null : metric.name,
    alias: metric.alias === undefined ? null : Number(metric.alias),
    datatype: metric.type,
    value: plain(metric.value === undefined ? null : metric.value),
    timestamp: Number(metric.timestamp),
    properties: Object.fromEntries(
      Object.entries(metric.properties || {}).map(([key, property]) => [key, plain(property.value)]),
    ),
  }));
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  let answer;
  try {
    answer = { metrics: decode(JSON.parse(line)) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
