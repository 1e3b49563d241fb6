"use strict";
// Everything from the server becomes text nodes: what documents hold is never markup.

const $ = (id) => document.getElementById(id);
let indexes = [];
let canJudge = false;
let judgements = {};
let asked = 0; // number of the last search: answers of earlier ones are dropped
let shown = null; // {query, sides: [{name, answer}]}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

async function ask(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (response.status === 401) { await askKey(); return ask(path, body); }
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function askKey() {
  return new Promise((resolve) => {
    $("key-form").onsubmit = () => { sessionStorage.setItem("key", $("key").value); resolve(); };
    $("ask-key").oncancel = (event) => event.preventDefault(); // nothing can be asked without it
    if (!$("ask-key").open) $("ask-key").showModal();
  });
}

function say(text, error = false) {
  $("message").textContent = text;
  $("message").className = error ? "error" : "";
}

const number = (value) => value.toLocaleString("en");
const weight = (value) => value.toFixed(2);

function highlighted(pieces) {
  const most = Math.max(0, ...pieces.map((piece) => piece[1]));
  return pieces.map(([text, adds]) => {
    if (!adds) return document.createTextNode(text);
    const strength = adds > most * 0.66 ? 3 : adds > most * 0.33 ? 2 : 1;
    return element("mark", { class: `w${strength}`, title: `adds ${weight(adds)}` }, text);
  });
}

function chip(kind, token, value, title) {
  return element("span", { class: `chip ${kind}`, title }, token, " ", element("small", {}, weight(value)));
}

// How a hit's rank differs from that on the other side.
function moved(id, rank, other) {
  if (!other) return null;
  const there = other.answer.hits.findIndex((hit) => hit.id === id);
  if (there < 0) return element("span", { class: "moved only" }, "only here");
  const by = there - rank;
  if (by === 0) return element("span", { class: "moved", title: "the same rank" }, "=");
  const text = by > 0 ? `▲${by}` : `▼${-by}`;
  return element("span", { class: `moved ${by > 0 ? "up" : "down"}`, title: `rank ${there + 1} in ${other.name}` }, text);
}

function judgeButtons(id) {
  if (!canJudge) return null;
  const grade = judgements[id];
  const button = (kind, text, value) => element("button", {
    type: "button", class: kind, "aria-pressed": String(grade === value),
    onclick: (event) => { event.stopPropagation(); judge(id, grade === value ? null : value === 1); },
  }, text);
  return element("span", { class: "judge" }, button("yes", "relevant", 1), button("no", "not", 0));
}

function hitItem(hit, rank, side, other) {
  const matched = hit.matched || [];
  const addedMatches = matched.filter((match) => !match.in_text);
  const state = judgements[hit.id] === 1 ? " relevant" : judgements[hit.id] === 0 ? " not" : "";
  const known = new Set(matched.map((match) => match.token));
  const expansion = (hit.expansion || []).filter(([token]) => !known.has(token));
  return element("li", { class: `hit${state}`, tabindex: "-1", "data-id": hit.id, "data-side": side.name },
    element("div", { class: "hit-head" },
      element("span", { class: "rank" }, String(rank + 1)),
      element("button", { type: "button", class: "open", tabindex: "-1", onclick: () => openDocument(side.name, hit.id) }, hit.id),
      element("span", { class: "score", title: "score" }, weight(hit.score)),
      moved(hit.id, rank, other),
      judgeButtons(hit.id)),
    element("p", { class: "snippet" },
      hit.snippet.before ? "… " : "", ...highlighted(hit.snippet.pieces), hit.snippet.after ? " …" : ""),
    addedMatches.length === 0 ? null : element("div", { class: "words" },
      element("span", { class: "label" }, "matched, though not in the text:"),
      ...addedMatches.map((match) => chip("added", match.token, match.contribution, "adds to the score"))),
    expansion.length === 0 ? null : element("details", {},
      element("summary", {}, "more tokens that the model added"),
      element("div", { class: "words" }, ...expansion.map(([token, value]) => chip("added other", token, value, "weight in the document")))));
}

function column(side, other) {
  const answer = side.answer;
  const cost = `${number(answer.postings)} postings read · ${answer.milliseconds.toFixed(1)} ms · ${number(answer.documents)} documents · ${answer.mode}`;
  const none = answer.query_tokens.length === 0
    ? "none of the query's tokens is known, so nothing can match" : "no document holds any of the query's tokens";
  return element("section", { class: "column", "data-side": side.name, "aria-label": `hits of ${side.name}` },
    element("h2", {}, side.name),
    element("p", { class: "cost" }, cost),
    element("ul", { class: "tokens", "aria-label": "tokens of the query" },
      ...answer.query_tokens.map((one) => element("li", {}, one.token, " ", element("small", {}, weight(one.weight))))),
    answer.hits.length === 0 ? element("p", {}, none)
      : element("ol", { class: "hits" }, ...answer.hits.map((hit, rank) => hitItem(hit, rank, side, other))));
}

function draw() {
  if (!shown) return;
  const at = document.activeElement && document.activeElement.closest ? document.activeElement.closest(".hit") : null;
  const [left, right] = shown.sides;
  $("columns").classList.toggle("single", !right);
  $("columns").replaceChildren(...[column(left, right), right ? column(right, left) : null].filter(Boolean));
  if (at) {
    const same = hits(at.dataset.side).find((hit) => hit.dataset.id === at.dataset.id);
    if (same) same.focus();
  }
}

async function search() {
  const query = $("query").value.trim();
  if (!query) return;
  const turn = ++asked;
  const names = [$("left").value, $("right").value].filter((name, place, all) => name && all.indexOf(name) === place);
  const state = new URLSearchParams({ q: query, left: $("left").value, right: $("right").value, k: $("k").value });
  history.replaceState(null, "", `?${state}`);
  say("searching …");
  try {
    const k = Number($("k").value);
    const [found, ...answers] = await Promise.all([
      canJudge ? ask(`/judgements?${new URLSearchParams({ query })}`) : { judgements: {} },
      ...names.map((index) => ask("/search", { query, index, k, explain: true })),
    ]);
    if (turn !== asked) return;
    judgements = found.judgements;
    shown = { query, sides: names.map((name, place) => ({ name, answer: answers[place] })) };
    draw();
    const ids = answers.map((answer) => answer.hits.map((hit) => hit.id));
    const both = ids.length === 2 ? ids[0].filter((id) => ids[1].includes(id)).length : null;
    say(both === null ? `${ids[0].length} hits` : `${ids[0].length} and ${ids[1].length} hits, ${both} in both`);
  } catch (error) {
    if (turn === asked) say(error.message, true);
  }
}

async function judge(id, relevant) {
  if (!canJudge || !shown) return;
  try {
    const answer = await ask("/judgements", { query: shown.query, id, relevant, index: shown.sides[0].name });
    judgements = answer.judgements;
    showJudged(answer.queries, answer.count);
    draw();
  } catch (error) {
    say(error.message, true);
  }
}

function showJudged(queries, count) {
  $("judged").textContent = `${number(count)} judged hits of ${number(queries)} ${queries === 1 ? "query" : "queries"}`;
}

async function openDocument(index, id) {
  try {
    const found = await ask(`/document?${new URLSearchParams({ index, id, query: shown ? shown.query : "" })}`);
    $("document-title").textContent = found.id;
    $("document-text").replaceChildren(...highlighted(found.text));
    $("vector-title").textContent = `Vector in ${index}: ${number(found.tokens)} tokens`;
    const most = found.vector.length ? found.vector[0].weight : 1;
    $("vector").replaceChildren(...found.vector.map((one) => element("tr", {},
      element("td", {}, one.in_text ? one.token : element("span", { class: "added", title: "added by the model" }, one.token)),
      element("td", { class: "number" }, weight(one.weight)),
      element("td", { class: "bar" }, element("meter", { min: 0, max: most, value: one.weight, "aria-hidden": "true" })),
      element("td", {}, one.matched ? "matched" : ""))));
    $("document").showModal();
    $("document").scrollTop = 0;
  } catch (error) {
    say(error.message, true);
  }
}

const hits = (side) => [...document.querySelectorAll(".hit")].filter((hit) => !side || hit.dataset.side === side);

function move(down, across) {
  const at = document.activeElement.closest(".hit");
  if (!at) { const first = hits()[0]; if (first) first.focus(); return; }
  const sides = shown.sides.map((side) => side.name);
  const side = at.dataset.side;
  const place = hits(side).indexOf(at);
  const aim = across ? sides[sides.indexOf(side) + across] : side;
  const column = aim ? hits(aim) : [];
  const next = column[Math.min(place + down, column.length - 1)];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (typing) {
    if (event.target === $("query") && (event.key === "ArrowDown" || event.key === "Escape")) { event.preventDefault(); move(0, 0); }
    return;
  }
  const at = event.target.closest(".hit");
  const actions = {
    "/": () => { $("query").focus(); $("query").select(); },
    j: () => move(1, 0), ArrowDown: () => move(1, 0),
    k: () => move(-1, 0), ArrowUp: () => move(-1, 0),
    h: () => move(0, -1), ArrowLeft: () => move(0, -1),
    l: () => move(0, 1), ArrowRight: () => move(0, 1),
    y: () => at && judge(at.dataset.id, true),
    n: () => at && judge(at.dataset.id, false),
    u: () => at && judge(at.dataset.id, null),
    Enter: () => at && event.target === at && openDocument(at.dataset.side, at.dataset.id),
    "?": () => $("help").showModal(),
  };
  if (!(event.key in actions) || (event.key === "Enter" && event.target !== at)) return;
  event.preventDefault();
  actions[event.key]();
});

async function start() {
  for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  for (const id of ["left", "right", "k"]) $(id).addEventListener("change", search);
  try {
    const about = await ask("/indexes");
    indexes = about.indexes;
    canJudge = about.judgements !== null;
    if (canJudge) showJudged(about.judgements.queries, about.judgements.judgements);
  } catch (error) {
    say(error.message, true);
    return;
  }
  const names = indexes.map((one) => one.name);
  $("left").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  $("right").replaceChildren(element("option", { value: "" }, "nothing"), ...names.map((name) => element("option", { value: name }, name)));
  const wanted = new URLSearchParams(location.search);
  $("left").value = names.includes(wanted.get("left")) ? wanted.get("left") : names[0];
  const right = wanted.get("right");
  $("right").value = right !== null && (right === "" || names.includes(right)) ? right : names[1] || "";
  if (wanted.get("k")) $("k").value = wanted.get("k");
  if (!$("k").value) $("k").value = "10";
  if (wanted.get("q")) { $("query").value = wanted.get("q"); search(); }
}

start();
