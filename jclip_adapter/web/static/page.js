// The page: asks the local server for the state once a second, and shows only the photos that are in view.

const byId = (id) => document.getElementById(id);
const grid = byId("grid");
const token = document.querySelector("meta[name=csrf-token]").content;
const PAGE = 100; // photos per request
const TEXT = 58; // pixels below a picture
const numbers = new Intl.NumberFormat("en");
const count = (n, noun) => `${numbers.format(n)} ${noun}${n === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.005 ? 1 : 0)} %`;

let state = null;
let order = []; // numbers of the photos in this view
let shown = -1; // version of the state that `order` is of
let known = new Map(); // what is known of photos, by number
let asked = new Set();
let chosen = new Set();
let current = 0; // place in `order`
let anchor = 0;
let show = "all";
let layout = { columns: 1, width: 160, height: 200 };
const cells = new Map();

function make(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The program does not answer. Is it still running? Start it again, then load this page again.");
  }
  const text = await answer.text();
  let value = text;
  try { value = JSON.parse(text); } catch { /* a refusal is plain text */ }
  if (!answer.ok) throw new Error(value.error || text || `The program answered ${answer.status}.`);
  return value;
}

const post = (path, value) => ask(`/api/${path}`, {
  method: "POST",
  headers: { "content-type": "application/json", "x-jclip-token": token },
  body: JSON.stringify(value),
});

function complain(error) {
  byId("error").textContent = error ? String(error.message || error) : "";
  byId("error").hidden = !error;
}

// A change asked for by the user, after which everything is read again.
async function change(path, value) {
  try {
    const answer = await post(path, value);
    complain("");
    if (answer.message) announce(answer.message);
    await refresh(true);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

let notice = "";
let until = 0;
function announce(text) {
  notice = text;
  until = Date.now() + 4000;
  byId("status").textContent = text;
}

async function refresh(force = false) {
  const fresh = await ask("/api/state");
  const old = state;
  state = fresh;
  if (!old || old.version !== fresh.version || old.doing !== fresh.doing) showState();
  else if (notice && Date.now() > until) showStatus();
  if (fresh.error) complain(fresh.error);
  // The order changes under nobody's hands: not while photos are selected.
  if (force || (shown !== fresh.version && !chosen.size && !byId("larger").open)) await reorder();
  else if (shown !== fresh.version) reload();
}

async function reorder(top = false) {
  const version = state.version;
  const kept = order[current];
  const query = new URLSearchParams({ show, sort: byId("sort").value });
  order = await ask(`/api/order?${query}`);
  shown = version;
  chosen = new Set([...chosen].filter((id) => order.includes(id)));
  const place = order.indexOf(kept);
  current = top ? 0 : place >= 0 ? place : Math.min(current, Math.max(0, order.length - 1));
  anchor = current;
  if (top) grid.scrollTop = 0;
  reload();
}

function reload() { // ask again for what is in view
  asked = new Set();
  draw();
  showSelection();
}

function showStatus() {
  notice = "";
  const parts = [count(state.photos, "photo")];
  if (state.unlabelled) parts.push(`${numbers.format(state.unlabelled)} without label`);
  if (state.unreadable) parts.push(`${numbers.format(state.unreadable)} unreadable`);
  if (state.doing) parts.push(`${state.doing} …`);
  const text = parts.join(", ");
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function toggle(parent, entries) {
  const focused = document.activeElement?.dataset?.show;
  parent.replaceChildren(...entries.map(([value, name, amount]) => {
    const button = make("button", name);
    button.type = "button";
    button.dataset.show = value;
    button.setAttribute("aria-pressed", String(show === value));
    button.append(make("span", numbers.format(amount), "number"));
    button.addEventListener("click", async () => {
      show = value;
      chosen.clear();
      showState();
      try { await reorder(true); } catch (error) { complain(error); }
    });
    return button;
  }));
  if (focused) parent.querySelector(`[data-show="${CSS.escape(focused)}"]`)?.focus();
}

function fill(select, names, value) {
  const old = value ?? select.value;
  if (select.dataset.names !== JSON.stringify(names)) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.dataset.names = JSON.stringify(names);
    if (names.includes(old)) select.value = old;
  }
}

function showState() {
  if (Date.now() > until) showStatus();
  if (show.startsWith("class:") && !state.classes.some((each) => `class:${each.name}` === show)) show = "all";
  const views = [["all", "All", state.photos], ["unlabelled", "Without label", state.unlabelled]];
  if (state.none) views.push(["none", "None of these", state.none]);
  if (state.differs) views.push(["differs", "Label and prediction differ", state.differs]);
  if (state.test) views.push(["test", "Test photos", state.test]);
  if (state.unreadable) views.push(["unreadable", "Unreadable", state.unreadable]);
  toggle(byId("views"), views);
  toggle(byId("classes"), state.classes.map((each) => [`class:${each.name}`, each.name, each.count]));
  fill(byId("target"), state.classes.map((each) => each.name));
  fill(byId("method"), state.methods, byId("method").value || state.method);
  byId("undo").disabled = !state.undo;
  byId("undo").title = state.undo ? `take back: ${state.undo}` : "";
  byId("train").disabled = state.doing.startsWith("training") || !state.labelled;
  byId("folder").hidden = !state.local;
  byId("result").hidden = !state.result;
  byId("remove").hidden = !show.startsWith("class:");
  showReport();
}

function showReport() {
  const found = state.report;
  const lines = [];
  if (found.method) {
    lines.push([`${found.method}, trained on ${count(found.shots, "photo")} of ${count(found.classes, "class")}.`]);
    if (found.after !== undefined) {
      const [low, high] = found.interval.map((each) => each.toFixed(0));
      lines.push([`Correct on ${count(found.held_out, "held-out photo")}: ${found.after.toFixed(1)} % `
        + `(95 % interval ${low}–${high} %), before the training ${found.before.toFixed(1)} % (${found.baseline === "prototypes" ? "nearest class mean" : found.baseline})`
        + (found.last === undefined ? "." : `; the training before this one: ${found.last.toFixed(1)} %.`), "gain"]);
    } else if (found.run !== undefined) {
      lines.push(["No photo could be held out to measure the accuracy: label two or more per class."]);
    }
    if (found.run) lines.push([found.run]);
  }
  byId("report").replaceChildren(...lines.map(([text, name]) => make("p", text, name)));
  byId("report").hidden = !lines.length;
}

function showSelection() {
  const total = count(order.length, "photo");
  byId("count").textContent = chosen.size ? `${numbers.format(chosen.size)} of ${total} selected` : total;
  const nothing = !chosen.size;
  byId("assign").disabled = nothing || !state.classes.length;
  byId("none").disabled = byId("clear").disabled = nothing;
  byId("empty").hidden = order.length > 0;
  byId("empty").textContent = state.photos ? "No photo is in this view." : "There are no photos yet: drop some here.";
}

// The list: only the cells in view exist.

function measure() {
  const width = grid.clientWidth || 300;
  const columns = Math.max(2, Math.floor(width / 170));
  const cell = Math.floor(width / columns);
  layout = { columns, width: cell, height: Math.round(cell * 0.8) + TEXT };
}

function draw() {
  measure();
  const { columns, width, height } = layout;
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - 2) * columns;
  const last = Math.min(order.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / height) + 2) * columns);
  byHeight(Math.ceil(order.length / columns) * height);
  const wanted = new Set();
  for (let place = first; place < last; place++) wanted.add(order[place]);
  if (order.length) wanted.add(order[current]);
  for (const [id, cell] of cells) if (!wanted.has(id)) { cell.remove(); cells.delete(id); }
  const missing = [];
  let before = spacer; // cells stand in the document as they stand in view
  const add = (place) => {
    const id = order[place];
    let cell = cells.get(id);
    if (!cell) { cell = newCell(id); cells.set(id, cell); }
    if (before.nextSibling !== cell) before.after(cell);
    before = cell;
    cell.style.cssText = `left:${(place % columns) * width}px;top:${Math.floor(place / columns) * height}px;`
      + `width:${width}px;height:${height}px`;
    cell.dataset.place = place;
    cell.setAttribute("aria-posinset", place + 1);
    cell.setAttribute("aria-setsize", order.length);
    cell.setAttribute("aria-selected", String(chosen.has(id)));
    cell.classList.toggle("current", place === current);
    if (known.has(id)) fillCell(cell, known.get(id));
    if (!asked.has(id)) missing.push(id);
  };
  for (let place = first; place < last; place++) add(place);
  if (order.length && (current < first || current >= last)) add(current);
  if (order.length) grid.setAttribute("aria-activedescendant", `photo-${order[current]}`);
  else grid.removeAttribute("aria-activedescendant");
  if (missing.length) fetchDetails(missing);
}

const spacer = make("div");
spacer.setAttribute("role", "presentation");
function byHeight(height) {
  if (!spacer.parentNode) grid.prepend(spacer);
  spacer.style.height = `${height}px`;
}

function newCell(id) {
  const cell = make("div", "", "cell");
  cell.id = `photo-${id}`;
  cell.setAttribute("role", "option");
  const card = make("div", "", "card");
  const image = make("img");
  image.alt = "";
  image.decoding = "async";
  image.src = `/photo/${id}/small?start=${state.start}`;
  card.append(image, make("div", "", "says"));
  cell.append(card);
  return cell;
}

function fillCell(cell, photo) {
  const stamp = JSON.stringify([photo.label, photo.best[0], photo.why]);
  if (cell.dataset.stamp === stamp) return;
  cell.dataset.stamp = stamp;
  const [name, share] = photo.best[0] || ["", 0];
  const label = photo.label === "" ? "none of these" : photo.label || (photo.test ? "test photo" : "no label");
  const agrees = photo.label && name ? (photo.label === name ? "same" : "other") : "";
  const guess = photo.why || (name ? `${percent(share)} ${name}` : "no prediction yet");
  const file = photo.name.split("/").pop();
  const says = cell.querySelector(".says");
  says.replaceChildren(make("div", label, `label ${agrees}`), make("div", guess, "guess"));
  cell.title = photo.name;
  cell.querySelector("img").alt = file;
}

async function fetchDetails(ids) {
  ids.forEach((id) => asked.add(id));
  try {
    for (let at = 0; at < ids.length; at += PAGE) {
      for (const photo of await ask(`/api/photos?ids=${ids.slice(at, at + PAGE)}`)) {
        known.set(photo.id, photo);
        const cell = cells.get(photo.id);
        if (cell) fillCell(cell, photo);
      }
    }
  } catch (error) {
    complain(error);
  }
}

// Selection.

function selectRange(from, to) {
  for (let place = Math.min(from, to); place <= Math.max(from, to); place++) chosen.add(order[place]);
}

function flip(place) {
  const id = order[place];
  if (!chosen.delete(id)) chosen.add(id);
  anchor = place;
}

function moveTo(place, extend) {
  current = Math.max(0, Math.min(order.length - 1, place));
  if (extend) { chosen.clear(); selectRange(anchor, current); } else anchor = current;
  const top = Math.floor(current / layout.columns) * layout.height;
  if (top < grid.scrollTop) grid.scrollTop = top;
  if (top + layout.height > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + layout.height - grid.clientHeight;
  draw();
  showSelection();
}

grid.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const place = Number(cell.dataset.place);
  current = place;
  if (event.shiftKey) selectRange(anchor, place); else flip(place);
  draw();
  showSelection();
});
grid.addEventListener("dblclick", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) open(order[Number(cell.dataset.place)]);
});
grid.addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); });

const selected = () => (chosen.size ? [...chosen] : order.length ? [order[current]] : []);

async function label(value) {
  const photos = selected();
  const before = current;
  chosen.clear();
  if (await change("label", { ...value, photos })) current = Math.min(before, Math.max(0, order.length - 1));
  else { chosen = new Set(photos); }
  draw();
  showSelection();
}

function open(id) {
  const photo = known.get(id);
  if (!photo) return;
  byId("picture").src = `/photo/${id}/large?start=${state.start}`;
  byId("picture").alt = photo.name;
  byId("facts").replaceChildren(
    make("p", photo.name),
    make("p", photo.label === null ? "no label" : `label: ${photo.label || "none of these"}`),
    ...photo.best.map(([name, share]) => make("div", `${name}: ${percent(share)}`)),
  );
  byId("larger").showModal();
}
byId("close").addEventListener("click", () => byId("larger").close());

const keys = {
  ArrowRight: (event) => moveTo(current + 1, event.shiftKey),
  ArrowLeft: (event) => moveTo(current - 1, event.shiftKey),
  ArrowDown: (event) => moveTo(current + layout.columns, event.shiftKey),
  ArrowUp: (event) => moveTo(current - layout.columns, event.shiftKey),
  Home: (event) => moveTo(0, event.shiftKey),
  End: (event) => moveTo(order.length - 1, event.shiftKey),
  " ": () => { flip(current); draw(); showSelection(); },
  Escape: () => { chosen.clear(); draw(); showSelection(); },
  Enter: () => {
    const best = known.get(order[current])?.best[0];
    if (best) label({ to: "class", class: best[0] });
  },
  n: () => label({ to: "none" }),
  u: () => change("undo", {}),
  o: () => open(order[current]),
};
grid.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "a") {
    chosen = new Set(order);
    draw();
    showSelection();
  } else if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (/^[1-9]$/.test(event.key)) {
    const target = state.classes[Number(event.key) - 1];
    if (target) label({ to: "class", class: target.name });
  } else if (keys[event.key]) {
    keys[event.key](event);
  } else {
    return;
  }
  event.preventDefault();
});

// Buttons and forms.

byId("assign").addEventListener("click", () => label({ to: "class", class: byId("target").value }));
byId("none").addEventListener("click", () => label({ to: "none" }));
byId("clear").addEventListener("click", () => label({ to: "clear" }));
byId("undo").addEventListener("click", () => change("undo", {}));
byId("train").addEventListener("click", () => change("train", { method: byId("method").value }));
byId("remove").addEventListener("click", () => change("remove", { class: show.slice("class:".length) }));
byId("sort").addEventListener("change", () => reorder(true).catch(complain));
byId("new-classes").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await change("classes", { names: byId("names").value })) byId("names").value = "";
});
byId("folder").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await change("folder", { path: byId("path").value })) byId("path").value = "";
});

async function upload(files) {
  const failed = [];
  let done = 0;
  for (const file of files) {
    announce(`uploading ${numbers.format(++done)} of ${count(files.length, "photo")}`);
    try {
      await ask(`/api/upload?${new URLSearchParams({ name: file.name })}`, {
        method: "POST",
        headers: { "content-type": "application/octet-stream", "x-jclip-token": token },
        body: file,
      });
    } catch (error) {
      failed.push(error.message);
    }
  }
  complain(failed.length ? `${count(failed.length, "photo")} refused. ${failed[0]}` : "");
  announce(`${count(files.length - failed.length, "photo")} uploaded`);
  await refresh(true).catch(complain);
}
byId("files").addEventListener("change", async (event) => {
  await upload([...event.target.files]);
  event.target.value = "";
});
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  upload([...event.dataTransfer.files]);
});

grid.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
new ResizeObserver(() => { if (state) draw(); }).observe(grid);

async function poll() {
  try {
    await refresh();
    if (byId("error").textContent.startsWith("The program does not answer")) complain("");
  } catch (error) {
    complain(error);
  }
  setTimeout(poll, state?.doing ? 400 : 1500);
}
poll();
