import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey, recording] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const create = (fields) =>
  client.audio.transcriptions.create({ file: createReadStream(recording), model: "whisper-1", ...fields });

const plain = await create({});
assert.ok(plain.text);
assert.ok(plain.usage.seconds > 0);
for (const response_format of ["text", "srt", "vtt"]) {
  assert.ok((await create({ response_format })).length > 0);
}
const verbose = await create({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] });
assert.equal(typeof verbose.duration, "number");
assert.ok(verbose.segments.length && verbose.words.length);
const diarized = await create({ response_format: "diarized_json", model: "gpt-4o-transcribe-diarize" });
assert.equal(diarized.segments[0].speaker, "A");
let text = "";
for await (const event of await create({ stream: true })) {
  if (event.type === "transcript.text.delta") text += event.delta;
  else assert.deepEqual([event.type, event.text], ["transcript.text.done", text]);
}
assert.ok(text);
await assert.rejects(create({ model: "gpt-5" }), { status: 400, param: "model", code: "unknown_model" });
console.log("transcribed, streamed, refused");
