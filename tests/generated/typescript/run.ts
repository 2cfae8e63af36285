// Submit, wait, transcript, 422 with the types that openapi-typescript generates and the client openapi-fetch.

import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type Status = components["schemas"]["JobStatus"];

const SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav";
const FINAL: Status[] = ["succeeded", "partial", "failed", "canceled"];

const [baseUrl, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: baseUrl ?? "", headers: { Authorization: `Bearer ${token}` } });

const created = await client.POST("/v1/jobs", {
  params: { header: { "Idempotency-Key": "typescript-1" } },
  body: { file_urls: [SAMPLE], metadata: { call: "4711" } },
});
assert(created.data, created.error?.detail);

const waited = await client.GET("/v1/jobs/{job_id}", {
  params: { path: { job_id: created.data.id }, query: { wait: 60 } },
});
assert(waited.data);
assert(FINAL.includes(waited.data.status));
const transcriptId = waited.data.files[0]?.transcript_id;
assert(transcriptId);

const path = { transcript_id: transcriptId };
const read = await client.GET("/v1/transcripts/{transcript_id}", { params: { path } });
assert(read.data);
assert.match(read.data.text, /world/i);
const endTime: number | undefined = read.data.transcripts[0]?.sentences[0]?.end_time;
assert(endTime);
const captions = await client.GET("/v1/transcripts/{transcript_id}/srt", { params: { path }, parseAs: "text" });
assert.match(captions.data ?? "", / --> /);

const refused = await client.POST("/v1/jobs", {
  body: { file_urls: [SAMPLE], parameters: { speaker_count: 1 } },
});
assert.equal(refused.response.status, 422);
assert.equal(refused.error?.code, "validation_failed");
assert.equal(refused.error.errors[0]?.pointer, "/parameters/speaker_count");

console.log("submitted, waited, read, refused");
