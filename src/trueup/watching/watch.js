// Asks once a second for what has changed, and puts it in its place. What does the work is the server; without
// this script the page is complete and reloads itself.
"use strict";

const EVERY = 1000;
const AWAY = 5000;
let have = "";
let paused = false;
const byId = (id) => document.getElementById(id);

function put(id, html) {
  const place = byId(id);
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = Array.from(place.querySelectorAll(".scroll[id]"), (e) => [e.id, e.scrollLeft]);
  place.innerHTML = html;
  for (const [id, left] of scrolled) if (byId(id)) byId(id).scrollLeft = left;
  if (focused && byId(focused)) byId(focused).focus({ preventScroll: true });
}

function say(id, text) {
  // A live region that is written to is read out, even where it says the same.
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function chosen(id) {
  // Who marks text to copy it keeps it.
  const marked = document.getSelection();
  return marked && !marked.isCollapsed && byId(id).contains(marked.anchorNode);
}

async function look() {
  let pause = EVERY;
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch(`live?have=${have}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const news = await answer.json();
      const kept = Object.keys(news.parts).filter(chosen);
      for (const [id, html] of Object.entries(news.parts)) if (!kept.includes(id)) put(id, html);
      if (!kept.length) have = news.have;
      document.title = `${news.title} · trueup watch`;
      say("status", news.status);
      byId("trouble").hidden = true;
    } catch {
      pause = AWAY;
      say("trouble", "trueup watch does not answer: it was ended, or the connection is gone. What is below is as it was.");
      byId("trouble").hidden = false;
    }
  }
  setTimeout(look, pause);
}

byId("pause").hidden = false;
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").textContent = paused ? "Go on" : "Pause";
});
setTimeout(look, EVERY);
