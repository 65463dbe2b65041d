"use strict";
const readout = document.getElementById("readout");

function add(parent, name, text, style) {
  const element = parent.appendChild(document.createElement(name));
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  return element;
}

function show(event, title, rows) {
  readout.replaceChildren();
  add(readout, "b", title);
  const table = add(readout, "table");
  for (const [colour, name, value] of rows) {
    const row = add(table, "tr");
    const cell = add(row, "td");
    if (colour) add(cell, "i", "", colour);
    cell.append(name);
    add(row, "td", value);
  }
  readout.hidden = false;
  const box = readout.getBoundingClientRect();
  const left = Math.min(event.clientX + 16, innerWidth - box.width - 8);
  const above = event.clientY - box.height - 14;
  readout.style.left = Math.max(8, left) + "px";
  readout.style.top = (above > 8 ? above : event.clientY + 22) + "px";
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return x - points[low][0] <= points[high][0] - x ? points[low] : points[high];
}

for (const area of document.querySelectorAll(".area")) {
  let chart;
  const clear = () => {
    area.querySelectorAll(".hair, .mark").forEach(element => element.remove());
    readout.hidden = true;
  };
  const move = event => {
    chart ??= JSON.parse(area.dataset.chart);
    const box = area.getBoundingClientRect();
    const [low, high] = chart.x;
    const at = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const series = chart.series.filter(([, , points]) => points.length > 0);
    if (series.length === 0) return;
    const wanted = low + at * (high - low);
    const picked = series.map(([, , points]) => nearest(points, wanted));
    const place = x => 100 * (x - low) / (high - low) + "%";
    const distance = point => Math.abs(point[0] - wanted);
    const [x] = picked.reduce((a, b) => distance(a) <= distance(b) ? a : b);
    clear();
    add(area, "div", "", "hair").style.left = place(x);
    const rows = picked.map((point, index) => {
      const [name, colour] = series[index];
      const mark = add(area, "div", "", "mark " + colour);
      mark.style.left = place(point[0]);
      mark.style.bottom = 100 * point[1] + "%";
      return [colour, point[0] === x ? name : `${name} (at ${point[0]})`, point[2]];
    });
    show(event, `${chart.along} ${+x.toPrecision(6)}`, rows);
  };
  area.addEventListener("pointermove", move);
  area.addEventListener("pointerdown", move);
  area.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") clear(); });
  document.addEventListener("pointerdown", event => { if (!area.contains(event.target)) clear(); }, true);
}

let marked;
function unmark() {
  marked?.classList.remove("on");
  marked = undefined;
}
function leave() {
  unmark();
  readout.hidden = true;
}
for (const tokens of document.querySelectorAll(".tokens")) {
  const look = event => {
    const token = event.target.closest(".t");
    unmark();
    if (!token) { readout.hidden = true; return; }
    marked = token;
    token.classList.add("on");
    const chance = logprob => `${logprob}  (${(100 * Math.exp(logprob)).toPrecision(3)}%)`;
    const { s, t } = token.dataset;
    const rows = [["", "log student", chance(s)]];
    rows.push(["", "log teacher", t === undefined ? "no score" : chance(t)]);
    if (t !== undefined) rows.push(["", "KL", (s - t).toFixed(4) + " nats"]);
    show(event, `“${token.textContent}”`, rows);
  };
  tokens.addEventListener("pointerover", look);
  tokens.addEventListener("pointerdown", look);
  tokens.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") leave(); });
}
document.addEventListener("pointerdown", event => { if (!event.target.closest(".t, .area")) leave(); });
