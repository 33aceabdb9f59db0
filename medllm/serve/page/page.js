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

function sentence(text) {
  const end = !text || /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}

function finding(each) {
  const item = element("li", "", each.severity);
  item.append(element("b", `${each.severity}: `), each.message, " ", sentence(each.action || ""));
  const year = each.year ? `, ${each.year}` : "";
  const checked = each.verified ? "" : "; not verified";
  item.append(element("div", `${each.source}${year}${checked} (${each.rule})`, "source"));
  return item;
}

function findings(kept) {
  const list = element("ul", "", "findings");
  list.append(...kept.map(finding));
  return list;
}

function showReport({ article, body }, report) {
  const graver = new Set(report.findings.filter((each) => each.severity !== "info").map((each) => each.rule));
  const said = report.findings.filter((each) => each.severity !== "info" || !graver.has(each.rule));
  const isUrgent = (each) => each.kind === "missing" || each.severity === "contraindicated";
  const urgent = said.filter(isUrgent);
  if (urgent.length) {  // before the answer: it may be long, and the screen small
    const list = findings(urgent);
    list.setAttribute("role", "alert");
    article.insertBefore(list, body);
  }
  const many = report.findings.length;
  const told = many ? `risk level ${report.risk_level} of 3` : "nothing found by the automatic check";
  article.append(
    findings(said.filter((each) => !isUrgent(each))),
    element("div", `${told}; what its rules do not cover is not checked`, "foot"),
  );
  if (report.not_checked.length) {
    const more = element("details", "", "foot");
    const list = element("ul");
    list.append(...report.not_checked.map((each) => element("li", each)));
    more.append(element("summary", `not checked (${report.not_checked.length})`), list);
    article.append(more);
  }
}

const WRONG_KEY = "This key is missing or wrong, or holds no longer: type it again, or ask whoever gave it to you.";

// What a response that is an error says; a proxy on the way may answer with a page of its own.
async function refusal(response) {
  const said = await response.json().catch(() => null);
  const isKey = response.status === 401;
  const told = said?.error?.message || `the server answered ${response.status}`;
  const problem = new Error(isKey ? WRONG_KEY : told);
  problem.needsKey = isKey;
  return problem;
}

function unreachable() {
  return new Error("the server cannot be reached: is it running, and this device in its network?");
}

async function ask(place, options) {
  try {
    return await fetch(place, { headers: headers(), ...options });
  } catch (problem) {
    throw problem.name === "AbortError" ? problem : unreachable();
  }
}

function labelled(text, field, kind) {
  const label = element("label", "", kind);
  label.append(...(kind === "tick" ? [field, ` ${text}`] : [text, field]));
  return label;
}

let questions = 0;

function marks(title, low, high) {
  const set = element("fieldset");
  const name = `marks-${(questions += 1)}`;
  set.append(element("legend", `${title} (1 ${low}, 5 ${high})`));
  for (let mark = 1; mark <= 5; mark += 1) {
    const field = element("input");
    Object.assign(field, { type: "radio", name, value: mark });
    set.append(labelled(String(mark), field, "tick"));
  }
  return { set, value: () => Number(set.querySelector("input:checked")?.value) || null };
}

function area(title) {
  const field = element("textarea");
  field.rows = 2;
  field.maxLength = 8000;
  return { field, label: labelled(title, field) };
}

function showFeedback(article, id, asked, answered) {
  const details = element("details", "", "rate");
  const form = element("form");
  const helpful = marks("How helpful is it?", "no help", "very");
  const accurate = marks("Is it right?", "wrong", "nothing in it is wrong");
  const comment = area("Comment");
  const correction = area("What should have been answered");
  const keep = element("input");
  keep.type = "checkbox";
  const told = element("p", "", "foot");
  told.setAttribute("role", "status");
  const send = element("button", "Send feedback");
  correction.field.addEventListener("input", () => { if (correction.field.value) keep.checked = true; });
  form.append(
    helpful.set, accurate.set, comment.label, correction.label,
    labelled("Keep the question and the answer with it, to train on", keep, "tick"), send, told,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { response_id: id, helpfulness: helpful.value(), accuracy: accurate.value() };
    for (const [name, each] of [["comment", comment], ["correction", correction]]) {
      if (each.field.value.trim()) body[name] = each.field.value.trim();
    }
    if (!body.helpfulness) { told.textContent = "Say first how helpful it is."; return; }
    if (keep.checked) Object.assign(body, { messages: asked, answer: answered });
    try {
      const response = await ask("feedback", { method: "POST", body: JSON.stringify(body) });
      if (!response.ok) throw await refusal(response);
      told.textContent = "Kept. Thank you.";
      send.disabled = true;
    } catch (problem) {
      told.textContent = problem.message;
    }
  });
  details.append(element("summary", "Rate this answer"), form);
  article.append(details);
}

async function* events(response) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read().catch((problem) => {
      throw problem.name === "AbortError" ? problem : new Error("the connection broke off: the answer is not whole");
    });
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

const CUT = "Cut off: this is as long as an answer may be here, and it is not whole.";

async function answer(shown) {
  const asked = [...turns];
  const body = { messages: asked, stream: true };
  const known = patient();
  if (known) body.patient_context = known;
  const response = await ask("v1/chat/completions", {
    method: "POST", body: JSON.stringify(body), signal: running.signal,
  });
  if (!response.ok) throw await refusal(response);
  let text = "";
  let id = "";
  let whole = false;
  for await (const event of events(response)) {
    if (event === "[DONE]") { whole = true; break; }
    const told = JSON.parse(event);
    if (told.error) {
      if (told.error.code === "review_failed") shown.body.textContent = "";  // nobody checked it
      throw new Error(told.error.message);
    }
    text += told.choices?.[0]?.delta?.content || "";
    shown.body.textContent = text;
    const reason = told.choices?.[0]?.finish_reason;
    if (reason === "length") shown.article.append(element("div", CUT, "error"));
    if (told.safety_report) showReport(shown, told.safety_report);
    if (reason && told.id) {
      id = told.id;
      shown.article.append(element("div", `id ${id}`, "foot"));
    }
  }
  if (!whole) throw new Error("the answer broke off: it is not whole");
  showFeedback(shown.article, id, asked, text);
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
    if (!at("question").value) at("question").value = question;  // to be sent again
    if (problem.needsKey) at("access").open = true;
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

function showCard(card) {
  at("card").replaceChildren();
  if (!card) return;
  const data = card.datasets.length ? `: ${card.datasets.join(", ")}` : "";
  for (const line of card.told) at("card").append(element("li", line));
  at("card").append(element("li", `trained on ${card.access} data${data}`));
  at("card").append(element("li", `identity ${card.identity.slice(0, 12)}`));
  at("card").className = card.evaluation === "passed" ? "foot" : "notice";
}

async function tellModel() {
  let response;
  try {
    response = await ask("v1/models");
    if (!response.ok) throw await refusal(response);
  } catch (problem) {
    at("model").textContent = problem.needsKey && !at("key").value ? "a key is needed" : problem.message;
    if (problem.needsKey) at("access").open = true;
    return;
  }
  const model = (await response.json()).data[0];
  at("model").textContent = `${model.id}, ${model.max_model_len.toLocaleString()} tokens of context`;
  showCard(model.card);
}

tellModel();
