// What pages do beyond what they do without a script: they show themselves anew, copy, and change their colours without a reload.

const live = document.getElementById("live");

// morph makes old look like fresh by changing only what differs, so that focus, selections and scrolled boxes stay.
// What has data-keep belongs to the person who types in it.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id || key(old) !== key(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.isEqualNode(fresh) || (old.dataset.keep !== undefined && fresh.dataset.keep !== undefined)) return;
  attributes(old, fresh);
  children(old, fresh);
}

const key = (node) => node.dataset?.key;

function attributes(old, fresh) {
  const own = new Set(["open", "hidden"]); // what a person or this script has changed
  for (const { name } of [...old.attributes]) {
    if (!own.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (!own.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function children(old, fresh) {
  const kept = new Map([...old.children].filter(key).map((child) => [key(child), child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = key(wanted) && kept.get(key(wanted));
    if (same && same !== place) old.insertBefore(same, place);
    else if (!place) { old.append(wanted); continue; }
    else if (!same && key(wanted)) { old.insertBefore(wanted, place); continue; }
    const here = same || place;
    place = here.nextSibling;
    morph(here, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// Pages that change show themselves anew while somebody can see them, one request at a time.
let timer;
let asking;
let again;

function later() {
  clearTimeout(timer);
  const every = Number(document.getElementById("main").dataset.every);
  if (every && !document.hidden) timer = setTimeout(refresh, every);
}

async function refresh() {
  if (asking) { again = true; return; }
  asking = new AbortController();
  try {
    const answer = await fetch(location.href, { headers: { "Postrider-Fragment": "main" }, cache: "no-store",
      signal: AbortSignal.any([asking.signal, AbortSignal.timeout(15000)]) });
    const html = await answer.text();
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("main");
    const failed = document.getElementById("main").dataset.failed !== undefined; // then anything is better
    if (fresh && (answer.status < 500 || failed)) show(fresh);
    else if (answer.status === 401) location.reload();
    else say(fresh?.querySelector(".lead")?.textContent ?? `the relay answered ${answer.status}`);
  } catch (error) {
    if (!asking.signal.aborted) say("the relay does not answer");
  } finally {
    asking = undefined;
    if (again && !document.hidden) refresh(); else later();
    again = false;
  }
}

function show(fresh) {
  const main = document.getElementById("main");
  const said = document.getElementById("said"); // what an action said stays until the next page
  if (said && !fresh.querySelector("#said")) fresh.prepend(said.cloneNode(true));
  morph(main, fresh);
  document.title = document.getElementById("main").dataset.title;
  prepare();
  if (live.textContent) { live.textContent = ""; live.className = ""; document.getElementById("main").classList.remove("old"); }
}

function say(trouble) {
  const text = `These figures are old: ${trouble}. Trying again.`;
  if (live.textContent !== text) live.textContent = text;
  live.className = "trouble";
  document.getElementById("main").classList.add("old");
}

// What the relay tells of is shown at once. Where it cannot be heard, the page looks all the same.
let feed;

function listen() {
  const { events } = document.getElementById("main").dataset;
  if (!events || document.hidden || feed) return;
  feed = new EventSource(events);
  feed.addEventListener("change", refresh);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { clearTimeout(timer); asking?.abort(); feed?.close(); feed = undefined; } else { refresh(); listen(); }
});

// Buttons that copy show only where this script runs.
function prepare() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

document.querySelector(".theme").addEventListener("submit", (event) => {
  event.preventDefault();
  const theme = event.submitter.value;
  document.cookie = `postrider_theme=${theme}; path=/; max-age=31536000; samesite=strict`;
  document.documentElement.dataset.theme = theme;
  for (const button of event.target.querySelectorAll("button")) button.setAttribute("aria-pressed", button.value === theme);
});

// "/" goes to the first field of a search, as it does elsewhere.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
  const field = document.querySelector("[role=search] input:not([type=hidden])");
  if (field) { event.preventDefault(); field.focus(); }
});

prepare();
later();
listen();
