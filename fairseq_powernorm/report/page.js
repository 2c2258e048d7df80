// The browser of translations. Text of the corpus only ever becomes text nodes, never markup.
"use strict";
const STEP = 50;
const $ = (id) => document.getElementById(id);
const state = { data: null, order: [], shown: 0 };

function load() {
  state.data = JSON.parse($("data-" + $("test-set").value).textContent);
  const labels = Object.keys(state.data.hypotheses);
  for (const [id, place] of [["first", labels.length - 1], ["second", 0]]) {
    const before = $(id).value;
    $(id).replaceChildren(...labels.map((label) => new Option(label, label)));
    $(id).value = labels.includes(before) ? before : labels[place];
  }
  arrange();
}

function arrange() {
  const { reference, source, hypotheses, scores } = state.data;
  const wanted = $("search").value.toLowerCase();
  const texts = [reference, ...(source ? [source] : []), ...Object.values(hypotheses)];
  const numbers = [...reference.keys()].filter(
    (number) => !wanted || texts.some((lines) => lines[number].toLowerCase().includes(wanted)));
  const [first, second] = [scores[$("first").value], scores[$("second").value]];
  const difference = (number) => first[number] - second[number];
  if ($("order").value === "down") numbers.sort((a, b) => difference(b) - difference(a));
  if ($("order").value === "up") numbers.sort((a, b) => difference(a) - difference(b));
  state.order = numbers;
  state.shown = 0;
  $("sentences").replaceChildren();
  $("found").textContent = `${numbers.length} of ${reference.length} sentences`;
  showMore();
}

function showMore() {
  const end = Math.min(state.shown + STEP, state.order.length);
  for (const number of state.order.slice(state.shown, end)) $("sentences").append(sentence(number));
  state.shown = end;
  $("more").hidden = end === state.order.length;
}

function sentence(number) {
  const { reference, source, hypotheses, scores } = state.data;
  const table = document.createElement("table");
  if (source) row(table, "source", [source[number]]);
  row(table, "reference", [reference[number]]);
  for (const [label, lines] of Object.entries(hypotheses)) {
    row(table, `${label}  ${scores[label][number].toFixed(1)}`, marked(lines[number], reference[number]));
  }
  const box = document.createElement("div");
  box.className = "sentence";
  const title = document.createElement("div");
  title.className = "muted";
  title.textContent = `sentence ${number + 1}`;
  box.append(title, table);
  return box;
}

function row(table, name, content) {
  const line = table.insertRow();
  line.insertCell().textContent = name;
  line.insertCell().append(...content);
}

// The words of a text, those marked that are not in a longest common subsequence with the reference.
function marked(text, reference) {
  const words = text.split(" "), others = reference.split(" ");
  const length = Array.from({ length: words.length + 1 }, () => new Array(others.length + 1).fill(0));
  for (let i = words.length - 1; i >= 0; i--) {
    for (let j = others.length - 1; j >= 0; j--) {
      length[i][j] = words[i] === others[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const content = [];
  let j = 0;
  for (let i = 0; i < words.length; i++) {
    while (j < others.length && words[i] !== others[j] && length[i][j + 1] > length[i + 1][j]) j++;
    const common = j < others.length && words[i] === others[j];
    const node = common ? document.createTextNode(words[i]) : document.createElement("mark");
    if (common) j++;
    else node.textContent = words[i];
    content.push(node, " ");
  }
  return content;
}

$("test-set").addEventListener("change", load);
for (const id of ["order", "first", "second"]) $(id).addEventListener("change", arrange);
$("search").addEventListener("input", arrange);
$("more").addEventListener("click", showMore);
load();
