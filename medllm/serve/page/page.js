"use strict";
// A conversation with the model behind this server: no library, no request to anywhere else.

const at = (id) => document.getElementById(id);
const turns = [];
let running = null;

function headers() {
  const key = at("key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function lines(id) {
  return at(id).value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function patient() {
  const known = {};
  for (const id of ["age", "egfr"]) if (at(id).value !== "") known[id] = Number(at(id).value);
  if (at("pregnant").checked) known.pregnant = true;
  for (const id of ["conditions", "allergies", "medications"]) {
    if (lines(id).length) known[id] = lines(id);
  }
  return Object.keys(known).length ? known : null;
}

function show(role, text) {
  const article = element("article", "", role);
  const body = element("div", text, "text");
  article.append(element("div", role === "user" ? "You" : "Model", "source"), body);
  at("turns").append(article);
  article.scrollIntoView({ block: "nearest" });
  return { article, body };
}

function showReport(article, report) {
  const list = element("ul", "", "findings");
  for (const each of report.findings) {
    const item = element("li", "", each.severity);
    item.append(element("b", `${each.severity}: `), each.message, " ", each.action || "");
    const year = each.year ? `, ${each.year}` : "";
    const checked = each.verified ? "" : "; not verified";
    item.append(element("div", `${each.source}${year}${checked} (${each.rule})`, "source"));
    list.append(item);
  }
  const many = report.findings.length;
  const told = many ? `risk level ${report.risk_level}` : "nothing found by the automatic check";
  article.append(list, element("div", `${told}; what its rules do not cover is not checked`, "foot"));
}

async function* events(response) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function answer(shown) {
  const body = { messages: turns, stream: true };
  const known = patient();
  if (known) body.patient_context = known;
  const response = await fetch("v1/chat/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal,
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  let text = "";
  let whole = false;
  for await (const event of events(response)) {
    if (event === "[DONE]") { whole = true; break; }
    const told = JSON.parse(event);
    if (told.error) throw new Error(told.error.message);
    text += told.choices?.[0]?.delta?.content || "";
    shown.body.textContent = text;
    if (told.safety_report) showReport(shown.article, told.safety_report);
    if (told.choices?.[0]?.finish_reason && told.id) {
      shown.article.append(element("div", `id ${told.id}`, "foot"));
    }
  }
  if (!whole) throw new Error("the answer broke off: it is not whole");
  return text;
}

function setRunning(is) {
  at("send").disabled = is;
  at("stop").disabled = !is;
}

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!question || running) return;
  turns.push({ role: "user", content: question });
  show("user", question);
  const shown = show("assistant", "");
  at("question").value = "";
  at("status").textContent = "The model is answering …";
  running = new AbortController();
  setRunning(true);
  try {
    turns.push({ role: "assistant", content: await answer(shown) });
    at("status").textContent = "";
  } catch (problem) {
    turns.pop();
    const told = problem.name === "AbortError" ? "stopped: the answer is not whole" : problem.message;
    shown.article.append(element("div", told, "error"));
    at("status").textContent = "";
    if (problem.message.includes("key")) at("access").open = true;
  }
  running = null;
  setRunning(false);
  at("question").focus();
});

at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
at("stop").addEventListener("click", () => running?.abort());
at("clear").addEventListener("click", () => {
  running?.abort();
  turns.length = 0;
  at("turns").replaceChildren();
  at("question").focus();
});
at("key").addEventListener("change", tellModel);

async function tellModel() {
  const response = await fetch("v1/models", { headers: headers() });
  if (!response.ok) {
    at("model").textContent = "a key is needed";
    at("access").open = true;
    return;
  }
  const model = (await response.json()).data[0];
  at("model").textContent = `${model.id}, ${model.max_model_len.toLocaleString()} tokens of context`;
}

tellModel();
