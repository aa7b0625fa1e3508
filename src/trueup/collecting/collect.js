// Keys, drafts, and answers that are sent until the server has them. Without this script every page works.
"use strict";

const AGAIN = 2000;
const byId = (id) => document.getElementById(id);
const draftOf = (form) => `trueup-draft-${form.dataset.task}`;
let sending = false;

function say(text, trouble = false) {
  const state = byId("state");
  if (!state) return;
  state.textContent = text;
  state.classList.toggle("trouble", trouble);
}

function fieldsOf(form, button) {
  const data = new URLSearchParams(new FormData(form));
  if (button?.name) data.set(button.name, button.value);
  return data;
}

async function send(form, button) {
  if (sending) return;
  sending = true;
  // The same fields each time, their key among them: what the server has kept it does not keep twice.
  const body = fieldsOf(form, button);
  say("Sending …");
  for (;;) {
    try {
      const answer = await fetch(form.getAttribute("action"), { method: "POST", body, credentials: "same-origin" });
      if (answer.status >= 500) throw new Error(`${answer.status}`);
      const text = await answer.text();
      sending = false;
      say("");
      if (answer.ok || answer.status === 422) return put(text, form, answer.ok);
      return say(text, true);
    } catch {
      say("Not saved yet: the server does not answer. It is sent again until it does.", true);
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }
}

function put(text, form, kept) {
  const page = new DOMParser().parseFromString(text, "text/html");
  if (kept) try { localStorage.removeItem(draftOf(form)); } catch { /* a browser without one */ }
  document.title = page.title;
  document.body.replaceWith(page.body);
  window.htmx?.process(document.body);
  scrollTo(0, 0);
  begin();
  const missing = document.querySelector("[role=alert]");
  const head = missing ?? document.querySelector("h1");
  head?.setAttribute("tabindex", "-1");
  head?.focus({ preventScroll: true });
}

function keep(form) {
  const fields = [...new FormData(form)].filter(([name]) => !["stamp", "task", "key", "began"].includes(name));
  try { localStorage.setItem(draftOf(form), JSON.stringify(fields)); } catch { /* full, or none */ }
}

function restore(form) {
  let fields = null;
  try { fields = JSON.parse(localStorage.getItem(draftOf(form))); } catch { /* none */ }
  for (const [name, value] of fields ?? []) {
    for (const field of form.elements) {
      if (field.name !== name) continue;
      if (field.type === "radio" || field.type === "checkbox") field.checked ||= field.value === value;
      else if (field.tagName === "TEXTAREA" || field.type === "text") field.value = value;
    }
  }
}

function keysOn() {
  try { return localStorage.getItem("trueup-keys") !== "off"; } catch { return true; }
}

// An answer that is dropped on another one takes the rank there, and those from there on make room. Buttons and keys do
// the same, so that nobody has to drag.
function drags(form) {
  const sides = [...form.querySelectorAll(".ranks")];
  const rankOf = (side) => Number(side.querySelector("fieldset input:checked")?.value ?? sides.length);
  let held = null;
  sides.forEach((side, place) => {
    const head = side.querySelector("h2");
    head.draggable = true;
    head.addEventListener("dragstart", (event) => {
      held = side;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", String(place));
    });
    head.addEventListener("dragend", () => {
      held = null;
      for (const one of sides) one.classList.remove("over");
    });
    side.addEventListener("dragover", (event) => {
      if (!held || held === side) return;
      event.preventDefault();
      for (const one of sides) one.classList.toggle("over", one === side);
    });
    side.addEventListener("drop", (event) => {
      if (!held || held === side) return;
      event.preventDefault();
      const chosen = sides.filter((one) => one.querySelector("fieldset input:checked") || one === side);
      const others = chosen.filter((one) => one !== held).sort((a, b) => rankOf(a) - rankOf(b));
      others.splice(others.indexOf(side), 0, held);
      others.forEach((one, rank) => one.querySelector(`input[value="${rank + 1}"]`).click());
    });
  });
}

function begin() {
  const form = byId("task");
  if (!form) return;
  restore(form);
  drags(form);
  form.classList.add("live");
  form.addEventListener("input", () => keep(form));
  form.addEventListener("htmx:after:request", () => say("Draft kept"));
  byId("keys-switch").hidden = false;
  byId("keys").checked = keysOn();
  byId("keys").addEventListener("change", () => {
    try { localStorage.setItem("trueup-keys", byId("keys").checked ? "on" : "off"); } catch { /* none */ }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, event.submitter ?? form.querySelector("button.main"));
  });
}

function chosen(form, key) {
  // A digit answers where one is: in the row that a letter chose, or in the only one there is.
  const rows = [...form.querySelectorAll("fieldset[data-letter]")];
  const row = rows.find((one) => one.classList.contains("here")) ?? rows.find((one) => !one.querySelector(":checked"));
  const field = (row ?? form).querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!field) return false;
  field.click();
  const next = row && rows[rows.indexOf(row) + 1];
  if (row) row.classList.remove("here");
  if (next && !next.querySelector(":checked")) next.classList.add("here");
  return true;
}

function lettered(form, key) {
  const row = form.querySelector(`fieldset[data-letter="${CSS.escape(key)}"]`);
  if (!row) return false;
  for (const one of form.querySelectorAll("fieldset.here")) one.classList.remove("here");
  row.classList.add("here");
  row.scrollIntoView({ block: "nearest" });
  return true;
}

function acted(form, key) {
  if (key === "s") {
    const skip = form.querySelector(".skip");
    skip.open = true;
    skip.querySelector("input").focus();
  } else if (key === "c" && form.querySelector(".comment")) {
    form.querySelector(".comment").open = true;
    byId("comment").focus();
  } else if (key === "u" && form.querySelector("[value=undo]")) {
    form.querySelector("[value=undo]").click();
  } else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  const form = byId("task");
  if (!form || event.altKey || event.metaKey) return;
  const at = event.target;
  const writes = at.matches?.("textarea, input[type=text]");
  if (event.key === "Escape" && writes) return at.blur();
  if (event.key === "Enter") {
    if ((writes && !event.ctrlKey) || at.matches?.("button, summary, a, .skip *")) return;
    event.preventDefault();
    return form.querySelector("button.main").click();
  }
  if (writes || !keysOn() || event.ctrlKey || event.key.length !== 1 || at.matches?.(".skip *")) return;
  const key = event.key.toLowerCase();
  if (/[1-9]/.test(key) ? chosen(form, key) : lettered(form, key) || acted(form, key)) event.preventDefault();
});

document.addEventListener("DOMContentLoaded", () => {
  begin();
  // A link is shown whole, as it is to be sent to somebody.
  const link = byId("link");
  if (link?.dataset.path.startsWith("/")) link.textContent = location.origin + link.dataset.path;
});
