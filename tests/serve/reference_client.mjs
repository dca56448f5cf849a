// What Tickiti's own client does when it reads, as its tests do it, with Node's fetch.
// usage: node reference_client.mjs BASE TOKEN NUMBER
import assert from "node:assert/strict";

const [base, token, number] = process.argv.slice(2);

async function callV1(path, body, { headers = {}, raw = false } = {}) {
  const answer = await fetch(`${base.replace(/\/+$/, "")}/api/v1/${path}`, {
    method: "POST",
    headers: {
      ...(raw ? {} : { "Content-Type": "application/json" }),
      Accept: "application/json",
      Authorization: `Bearer ${token}`,
      ...headers,
    },
    body: raw ? body : JSON.stringify(body ?? {}),
  });
  const type = answer.headers.get("content-type") ?? "";
  assert.ok(type.includes("application/json"), `${path}: ${type}`);
  return { ok: answer.ok, status: answer.status, body: await answer.json() };
}

async function must(path, body) {
  const answer = await callV1(path, body);
  assert.ok(answer.ok, `${path}: ${JSON.stringify(answer.body)}`);
  assert.equal(answer.body.ok, true);
  return answer.body.data;
}

const shown = await must("tickets/show", { ticket_number: number });
const id = Number(shown.ticket.id);
assert.ok(Number.isInteger(id) && id > 0);
for (const response of shown.responses) assert.ok(Array.isArray(response.attachments));
const files = shown.responses.flatMap((response) => response.attachments);
const file = files.find((each) => each.name === "notes.csv");
assert.equal(file.is_inline, false);
assert.match(file.sha256, /^[0-9a-f]{64}$/);

const again = await must("tickets/show", { ticket_id: id });
assert.equal(String(again.ticket.number), number);
assert.ok(Array.isArray((await must("tickets/responses", { ticket_id: id })).responses));
for (const wrong of [{ ticket_id: id, ticket_number: number }, {}]) {
  const refused = await callV1("tickets/show", wrong);
  assert.equal(refused.status, 422);
  assert.equal(typeof refused.body.message, "string");
  assert.equal(typeof refused.body.errors, "object");
}
const got = await must("tickets/attachment", {
  ticket_id: id,
  response_attachment_id: file.id,
  intent: "review_ok",
});
assert.equal(Buffer.from(got.content_base64, "base64").toString("utf8"), "id,name\n1,Ann\n");
assert.equal(got.file_size, 14);

// The tools of October, and the sweep over all paths: bad is what is not 2xx or tells an error.
const response = await must("tickets/response", { response_id: file.response_id });
assert.equal(String(response.response_id), file.response_id);
for (const [path, body] of [
  ["tickets/queues", {}],
  ["tickets/staff", { search: "a" }],
  ["tickets/teams", {}],
  ["tickets/resolutions", {}],
  ["tickets/search-modes", {}],
  ["tickets/links", { ticket_id: id }],
  ["tickets/query", { search_object: { search_perspective: "All" }, row_limit: 5000 }],
  ["tickets/responses/query", { limit: 500, count_only: false, metadata_only: true }],
  ["token", {}],
]) {
  const data = await must(path, body);
  for (const key of ["my_error", "amf_error", "error"]) assert.ok(!(key in data), path);
}

// What it writes is refused in words, a file in a form too.
const form = new FormData();
form.append("file", new Blob([Buffer.alloc(3_000_000)]), "diagnosis.txt");
for (const answer of [
  await callV1("tickets/attachment-upload", form, { raw: true }),
  await callV1("tickets", { data: {} }, { headers: { "Idempotency-Key": crypto.randomUUID() } }),
]) {
  assert.equal(answer.status, 403);
  assert.equal(answer.body.error, "forbidden");
  assert.match(answer.body.message, /read-only archive|lacks the ability/);
}
console.log("all steps passed");
