// The dashboard's own script. Pages also work without it: it adds live refresh, local times, copying.
"use strict";

// Live parts --------------------------------------------------------------------------------------

/** The state of each live part, as the server named it. */
const tags = new WeakMap();
const live = (event) => {
  const element = event.detail.ctx?.sourceElement;
  return element?.matches?.("[data-live]") ? element : null;
};

document.addEventListener("htmx:config:request", (event) => {
  const element = live(event);
  if (!element) return;
  if (document.hidden) return event.preventDefault(); // a page in the background costs nothing
  if (tags.has(element)) event.detail.ctx.request.headers["If-None-Match"] = tags.get(element);
});

document.addEventListener("htmx:after:request", (event) => {
  const element = live(event);
  if (!element) return;
  const { status, headers } = event.detail.ctx.response;
  if (status === 401) return location.reload(); // the session has ended
  connected(status < 500, "refused");
  const tag = headers.get("ETag");
  if (tag) tags.set(element, tag);
});

document.addEventListener("htmx:error", (event) => {
  if (live(event)) connected(false);
});

/** Say that the page is old, and why: the attribute `data-${why}`, or the lost connection. */
function connected(well, why) {
  const banner = document.getElementById("connection");
  if (!banner) return;
  banner.dataset.lost ??= banner.textContent;
  const text = banner.dataset[why] ?? banner.dataset.lost;
  if (!well && banner.textContent !== text) banner.textContent = text;
  banner.hidden = well;
}

// Times -------------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
/** A date and a time are each whole, so a line may end only between them. */
const localTime = (at) => clock.format(at).replace(/ (?!\d+[:.]\d\d[:.]\d\d)/g, "\u00a0");

/** Show times in the zone of the viewer. The title has UTC. */
function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (isNaN(at)) continue;
    const text = localTime(at);
    if (element.textContent === text) continue;
    element.title = element.dateTime.slice(0, 19).replace("T", " ") + " UTC";
    element.textContent = text;
  }
}

document.addEventListener("htmx:after:swap", () => localTimes(document));
localTimes(document);

/** Name the zone, with its present difference to UTC. */
const { timeZone } = clock.resolvedOptions();
const names = new Intl.DateTimeFormat("en", { timeZone, timeZoneName: "longOffset" }).formatToParts();
const offset = names.find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");
for (const place of document.querySelectorAll("[data-zone]"))
  if (timeZone !== "UTC") place.textContent = `Times are those of ${timeZone} (${offset}).`;

// The menu is always open on a wide screen ---------------------------------------------------------

const menu = document.querySelector("details.menu");
const wide = matchMedia("(min-width: 77.5rem)");
if (menu) {
  const follow = () => (menu.open = wide.matches);
  wide.addEventListener("change", follow);
  follow();
}

// A choice that is a form of its own ---------------------------------------------------------------

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

// Copying -----------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  announce("Copied");
});

/** Tell people who do not see the screen, and show it for a moment. */
function announce(text) {
  const place = document.getElementById("announcer");
  place.textContent = text;
  place.classList.add("shown");
  setTimeout(() => place.classList.remove("shown"), 2000);
}

// Rows: ticks and keys ------------------------------------------------------------------------------

const all = (selector) => [...document.querySelectorAll(selector)];

/** Show how many rows are ticked. */
function countTicks() {
  const place = document.querySelector("[data-ticked]");
  if (!place) return;
  const [boxes, ticked] = [all("[data-rows] [name=job]"), all("[data-rows] [name=job]:checked")];
  if (place.textContent !== `${ticked.length} ticked`) place.textContent = `${ticked.length} ticked`;
  document.querySelector("[data-tick-all]").checked = boxes.length > 0 && boxes.length === ticked.length;
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-tick-all]")) for (const box of all("[data-rows] [name=job]")) box.checked = target.checked;
  countTicks();
});
document.addEventListener("htmx:after:swap", countTicks);
countTicks(); // the browser may have kept ticks of an earlier visit

document.addEventListener("click", ({ target }) => {
  const opener = target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
});

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest("input:not([type=checkbox]), select, textarea, dialog, summary")) return;
  const row = target.closest("[data-rows] > tr");
  const step = { j: 1, k: -1, ArrowDown: row && 1, ArrowUp: row && -1 }[key];
  if (step) {
    const rows = all("[data-rows] > tr");
    const next = rows[row ? rows.indexOf(row) + step : 0];
    next?.querySelector("a").focus();
  } else if (key === "x" && row) row.querySelector("[name=job]")?.click();
  else if (key === "Enter" && row && target.matches("[name=job]")) row.querySelector("a").click();
  else if (key === "/") document.getElementById("q")?.focus();
  else if (key === "?") document.getElementById("keys")?.showModal();
  else return;
  event.preventDefault();
});
