"use strict";
const form = document.querySelector("form");
const columns = JSON.parse(form.dataset.columns);
const items = [...form.querySelectorAll("section")];
const said = document.querySelector("output");
let unsaved = false;

const value = (item, column) => form.elements[`${item.id}|${column}`].value.trim();
const isWhole = (item) => columns.slice(1, -1).every((column) => value(item, column));
const isBegun = (item) => columns.slice(1).some((column) => value(item, column));

function count() {
  const whole = items.filter(isWhole).length;
  for (const item of items) item.classList.toggle("half", isBegun(item) && !isWhole(item));
  said.textContent = `${whole} of ${items.length} rated`;
  return items.filter((item) => isBegun(item) && !isWhole(item));
}

// a spreadsheet runs what begins like a formula
const harmless = (text) => (/^'*[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text);
const cell = (text) => `"${harmless(text).replaceAll('"', '""')}"`;

function save() {
  const half = count();
  if (half.length) {
    said.textContent = `not saved: ${half[0].id} is rated in part; complete it or clear it`;
    half[0].scrollIntoView();
    return;
  }
  const rated = items.filter(isWhole);
  const rows = rated.map((item) => [item.id, ...columns.slice(1).map((name) => value(item, name))]);
  const lines = [columns, ...rows].map((row) => row.map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = "ratings.csv";
  link.click();
  unsaved = false;
  said.textContent = `${rated.length} of ${items.length} saved as ratings.csv: give the file your name`;
}

form.addEventListener("input", () => { unsaved = true; count(); });
form.addEventListener("submit", (event) => { event.preventDefault(); save(); });
for (const button of form.querySelectorAll("button[type=button]")) {
  button.addEventListener("click", () => {
    for (const field of button.closest("section").querySelectorAll("input, textarea")) {
      if (field.type === "radio") field.checked = false; else field.value = "";
    }
    count();
  });
}
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
count();
