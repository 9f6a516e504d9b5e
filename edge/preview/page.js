// Asks for the state, and for the pictures that are new, as often as the daemon allows; while nobody sees the page, not at all.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
/** Seconds over which rates are taken, and between attempts when there is no answer. */
const WINDOW = 5, AGAIN = 3;
const STATES = ["online", "offline", "paused"];
const viewer = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const cards = new Map();
let timer = 0, asking = false, colours = {};

const find = (id) => document.getElementById(id);
const copy = (id) => find(id).content.firstElementChild.cloneNode(true);

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function lasting(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function trouble(text) {
  put(find("trouble"), text);
  find("trouble").hidden = !text;
}

async function look() {
  clearTimeout(timer);
  if (document.hidden || asking) return;
  asking = true;
  const wait = await ask();
  asking = false;
  timer = setTimeout(look, 1000 * wait);
}

/** Ask once and show the answer; returns seconds until the next time. */
async function ask() {
  try {
    const answer = await fetch(`preview/state?viewer=${viewer}`, { signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) location.reload();
    if (answer.ok) {
      const state = await answer.json();
      trouble("");
      show(state);
      return state.wait;
    }
    if (answer.status !== 429) trouble(`The daemon says: ${await answer.text()}`);
  } catch {
    trouble("The daemon does not answer. Trying again.");
    cards.forEach((card) => (card.counts = []));
  }
  return AGAIN;
}

function show(state) {
  document.title = `${state.node} · emotion-edge`;
  put(find("node"), state.node);
  put(find("version"), `emotion-edge ${state.version}`);
  const names = state.emotions.map(([name]) => name);
  if (names.join() !== Object.keys(colours).join()) showLegend(state.emotions);
  const wanted = new Set(state.cameras.map((camera) => camera.name));
  for (const [name, card] of cards) if (!wanted.has(name)) card.root.remove(), cards.delete(name);
  for (const camera of state.cameras) showCamera(camera, names);
}

function showLegend(emotions) {
  colours = Object.fromEntries(emotions);
  find("legend").replaceChildren(...emotions.map(([name, colour]) => {
    const entry = document.createElement("span");
    entry.textContent = name;
    entry.style.setProperty("--colour", colour);
    return entry;
  }));
}

function makeCard(name) {
  const root = copy("camera");
  const part = (selector) => root.querySelector(selector);
  const card = {
    root, part, image: part("img"), shown: null, counts: [], faces: new Map(), drawn: "",
  };
  put(part(".name"), name);
  card.image.alt = `what camera ${name} sees`;
  card.image.onerror = () => (card.image.hidden = true);
  find("cameras").append(root);
  cards.set(name, card);
  return card;
}

function showCamera(camera, names) {
  const card = cards.get(camera.name) ?? makeCard(camera.name);
  card.root.classList.remove(...STATES);
  card.root.classList.add(camera.state);
  put(card.part(".state"), `${camera.state} for ${lasting(camera.seconds)}`);
  showPicture(card, camera);
  showFigures(card, camera);
  const faces = camera.faces !== undefined;
  card.part(".timeline").hidden = card.part(".faces").hidden = !faces;
  if (!faces) return;
  showTimeline(card, camera.timeline, names);
  showFaces(card, camera.faces);
}

function showPicture(card, camera) {
  const { image } = card, words = card.part(".words");
  if (camera.picture === null || camera.picture === undefined) {
    const quiet = camera.picture === undefined ? "Pictures are not shown: privacy is set to aggregate." : "";
    put(words, camera.words || quiet || "Waiting for a picture.");
    image.hidden = true;
    image.removeAttribute("src");
    card.shown = null;
  } else if (camera.picture !== card.shown && image.complete) {
    card.shown = camera.picture;
    image.src = `preview/camera/${camera.name}.jpg?${camera.picture}`;
    image.hidden = false;
  }
  words.hidden = !image.hidden;
}

/** Show rates over the last seconds, from counts that this page has heard. */
function showFigures(card, camera) {
  const { captured, analysed, dropped } = camera.frames;
  const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0);
  const now = performance.now() / 1000;
  card.counts.push({ now, captured, analysed, lost });
  while (card.counts.length > 2 && now - card.counts[1].now >= WINDOW) card.counts.shift();
  const first = card.counts[0], seconds = now - first.now;
  const rate = (after, before) => (seconds < 1 || after < before ? "…" : `${((after - before) / seconds).toFixed(1)}/s`);
  const rows = [
    ["read", rate(captured, first.captured)],
    ["analysed", rate(analysed, first.analysed)],
    ["dropped", rate(lost, first.lost)],
    ["age", camera.age === null ? "–" : `${Math.round(1000 * camera.age)} ms`],
  ];
  const list = card.part(".figures");
  if (!list.children.length) {
    for (const [name] of rows) {
      const group = document.createElement("div");
      group.append(document.createElement("dt"), document.createElement("dd"));
      put(group.firstChild, name);
      list.append(group);
    }
    list.append(Object.assign(document.createElement("div"), { className: "reasons" }));
  }
  rows.forEach(([, value], place) => put(list.children[place].lastChild, value));
  const reasons = Object.entries(dropped).map(([reason, count]) => `${count} ${reason}`);
  put(list.lastChild, reasons.length ? `dropped since the start: ${reasons.join(", ")}` : "no frame dropped since the start");
}

/** Draw how long faces showed each emotion, a column for each step of five seconds. */
function showTimeline(card, timeline, names) {
  const drawn = JSON.stringify(timeline);
  if (drawn === card.drawn) return;
  card.drawn = drawn;
  const sum = (step) => step.reduce((all, seconds) => all + seconds, 0);
  const most = Math.max(5, ...timeline.map(sum));
  const columns = timeline.flatMap((step, place) => {
    let top = 20;
    return step.map((seconds, emotion) => {
      const height = (20 * seconds) / most;
      top -= height;
      return height && bar(place, top, height, colours[names[emotion]]);
    }).filter(Boolean);
  });
  const svg = card.part("svg");
  svg.replaceChildren(...columns);
  const totals = names.map((name, emotion) => [name, sum(timeline.map((step) => step[emotion] ?? 0))]);
  const seen = totals.filter(([, seconds]) => seconds >= 1).sort((one, other) => other[1] - one[1]);
  const text = seen.map(([name, seconds]) => `${name} ${Math.round(seconds)} s`);
  svg.setAttribute("aria-label", `the last five minutes: ${text.join(", ") || "nobody seen"}`);
  put(card.part(".most"), text.slice(0, 2).join(", ") || "nobody seen");
}

function bar(place, top, height, colour) {
  const rectangle = document.createElementNS(SVG, "rect");
  const attributes = { x: place + 0.08, y: top.toFixed(2), width: 0.84, height: height.toFixed(2), fill: colour };
  for (const [name, value] of Object.entries(attributes)) rectangle.setAttribute(name, value);
  return rectangle;
}

function showFaces(card, faces) {
  const wanted = new Set(faces.map((face) => face.number));
  for (const [number, root] of card.faces) if (!wanted.has(number)) root.remove(), card.faces.delete(number);
  for (const face of faces) {
    const root = card.faces.get(face.number) ?? makeFace(card, face);
    root.classList.toggle("away", !face.in_sight);
    put(root.querySelector(".emotion"), face.emotion);
    put(root.querySelector("small"), `face ${face.number}, ${lasting(face.seconds)}`);
    Object.values(face.probabilities).forEach((share, place) => {
      const row = root.querySelector(".bars").children[place];
      if (!row) return;
      row.querySelector(".fill").style.width = `${100 * share}%`;
      put(row.querySelector(".value"), `${Math.round(100 * share)} %`);
    });
  }
}

function makeFace(card, face) {
  const root = copy("face");
  root.querySelector(".bars").replaceChildren(...Object.keys(face.probabilities).map((name) => {
    const row = copy("bar");
    put(row.querySelector(".label"), name);
    row.style.setProperty("--colour", colours[name] ?? "currentColor");
    return row;
  }));
  card.part(".faces").append(root);
  card.faces.set(face.number, root);
  return root;
}

document.addEventListener("visibilitychange", look);
look();
