"use strict";

const HEIGHT = 210, LEFT = 50, RIGHT = 12, TOP = 8, BOTTOM = 38;
const DASHES = ["", "7 4", "2 3", "8 3 2 3"];
const NUM_COLORS = 8;
const panels = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();
const box = document.getElementById("values");
const shows = { raw: true, log: false };

function element(name, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function format(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.001 || size >= 1e6) return value.toExponential(2);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function formatTick(value, step) {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return Number(value.toPrecision(6)).toExponential();
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((size) => size >= rough);
  const places = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) places.push(i * step + 0); // + 0: no -0
  return { step, places };
}

function logTicks(low, high) {
  const places = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const m of [1, 2, 5]) places.push(m * 10 ** power);
  }
  return places.filter((value) => value >= low && value <= high);
}

const color = (panel, series) =>
  panel.layers ? `var(--l${series.color})` : `var(--r${series.color % NUM_COLORS})`;
const dash = (panel, series) =>
  panel.layers ? "" : DASHES[Math.floor(series.color / NUM_COLORS) % DASHES.length];
const shown = (panel) =>
  panel.layers ? panel.series : panel.series.filter((series) => !hidden.has(series.color));

// A few wild values do not flatten the others; a curve that stays high does not start at 0.
function limits(panel, isLog) {
  const all = shown(panel).flatMap((series) => series.y).sort((a, b) => a - b);
  const smoothed = shown(panel).flatMap((series) => series.smooth || series.y);
  const most = smoothed.reduce((a, b) => Math.max(a, b), all[Math.floor(0.98 * (all.length - 1))]);
  if (isLog) {
    const positive = all.filter((value) => value > 0);
    const least = positive[Math.floor(0.01 * positive.length)];
    return [least / 1.1, Math.max(most, least) * 1.1];
  }
  if (panel.unit === "%") return [0, Math.min(102, Math.max(1.12 * most, 1))];
  const low = all[0] < 0 ? all[0] : all[0] < 0.6 * most ? 0 : all[0] - 0.15 * (most - all[0]);
  return most > low ? [low, most + 0.06 * (most - low)] : [low - 0.5 * Math.abs(low), low + (0.5 * Math.abs(low) || 1)];
}

function scales(panel, width, isLog) {
  const steps = shown(panel).flatMap((series) => [series.x[0], series.x[series.x.length - 1]]);
  const first = Math.min(...steps), last = Math.max(...steps);
  const [low, high] = limits(panel, isLog);
  const rise = isLog ? Math.log : (value) => value;
  const bottom = HEIGHT - BOTTOM;
  return {
    first, last, low, high,
    x: (step) => LEFT + ((width - LEFT - RIGHT) * (step - first)) / (last - first || 1),
    y: (value) => bottom - ((bottom - TOP) * (rise(Math.max(value, isLog ? low / 2 : value)) - rise(low))) / (rise(high) - rise(low)),
  };
}

function path(scale, xs, ys) {
  let words = "";
  for (let i = 0; i < xs.length; i++) {
    words += `${i ? "L" : "M"}${scale.x(xs[i]).toFixed(1)} ${scale.y(ys[i]).toFixed(1)}`;
  }
  return words;
}

function drawAxes(svg, panel, scale, width, isLog) {
  const bottom = HEIGHT - BOTTOM;
  const logarithmic = isLog ? logTicks(scale.low, scale.high) : [];
  const rows = logarithmic.length > 2 ? { places: logarithmic } : ticks(scale.low, scale.high, 5);
  for (const value of rows.places) {
    const y = scale.y(value);
    element("path", { class: "grid", d: `M${LEFT} ${y.toFixed(1)}H${width - RIGHT}` }, svg);
    element("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, svg, formatTick(value, rows.step ?? value));
  }
  const steps = scale.last > scale.first
    ? ticks(scale.first, scale.last, Math.max(2, Math.min(6, width / 80))).places.filter(Number.isInteger)
    : [scale.first];
  for (const step of steps) {
    const text = step.toLocaleString("en"), x = scale.x(step);
    const isCut = x + 3.5 * text.length > width; // half of letters that are about 7 pixels wide
    const place = isCut ? { x: width, "text-anchor": "end" } : { x, "text-anchor": "middle" };
    element("text", { ...place, y: bottom + 15 }, svg, text);
  }
  element("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, svg, "step");
  const middle = (TOP + bottom) / 2;
  element("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(10 ${middle}) rotate(-90)` }, svg, panel.unit);
}

function drawCurves(svg, panel, scale, clip) {
  const lines = element("g", { "clip-path": `url(#${clip})` }, svg);
  for (const series of shown(panel)) {
    const stroke = color(panel, series);
    if (series.smooth && shows.raw && !panel.layers) {
      element("path", { class: "raw", stroke, d: path(scale, series.x, series.y), style: `stroke:${stroke}` }, lines);
    }
  }
  for (const series of shown(panel)) {
    const style = `stroke:${color(panel, series)};stroke-dasharray:${dash(panel, series) || "none"}`;
    const values = series.smooth || series.y;
    element("path", { class: "line", d: path(scale, series.x, values), style }, lines);
    if (series.x.length < 25 && !series.smooth) {
      series.x.forEach((step, i) => element("circle", { cx: scale.x(step), cy: scale.y(values[i]), r: 2.2, style: `fill:${color(panel, series)}` }, svg));
    }
  }
  for (const series of shown(panel)) {
    if (!series.best) continue;
    element("circle", { class: "dot", cx: scale.x(series.best[0]), cy: scale.y(series.best[1]), r: 4.5, style: `fill:${color(panel, series)}` }, svg);
  }
}

function describeBest(figure, panel) {
  const caption = figure.querySelector("figcaption");
  for (const old of caption.querySelectorAll(".best, .legend")) old.remove();
  const marked = shown(panel).filter((series) => series.best);
  for (const series of marked.length > 4 ? [] : marked) {
    const line = document.createElement("span");
    line.className = "best";
    line.style.color = color(panel, series);
    const whose = panel.series.length > 1 ? `${series.label}: ` : "";
    line.textContent = `${whose}best ${format(series.best[1])} at step ${series.best[0].toLocaleString("en")}`;
    caption.append(line);
  }
  if (!panel.layers) return;
  const legend = document.createElement("div");
  legend.className = "legend";
  for (const series of panel.series) legend.append(entry(panel, series, series.label));
  caption.append(legend);
}

function entry(panel, series, text) {
  const line = document.createElement("span"), swatch = document.createElement("i");
  swatch.className = "swatch";
  swatch.style.background = color(panel, series);
  line.append(swatch, text);
  return line;
}

function draw(figure) {
  const number = Number(figure.dataset.panel), panel = panels[number];
  const width = figure.clientWidth;
  if (!width) return;
  figure.querySelector("svg")?.remove();
  describeBest(figure, panel);
  if (!shown(panel).length) return;
  const isLog = shows.log && panel.unit === "loss" && shown(panel).some((series) => series.y.some((value) => value > 0));
  const title = figure.querySelector("b").textContent;
  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": title }, figure);
  const scale = scales(panel, width, isLog);
  const clip = `clip${number}`;
  element("rect", { x: LEFT - 2, y: TOP - 4, width: width - LEFT - RIGHT + 6, height: HEIGHT - BOTTOM - TOP + 6 }, element("clipPath", { id: clip }, svg));
  drawAxes(svg, panel, scale, width, isLog);
  drawCurves(svg, panel, scale, clip);
  const marks = element("g", {}, svg);
  svg.addEventListener("pointermove", (event) => point(event, svg, marks, panel, scale));
  svg.addEventListener("pointerdown", (event) => point(event, svg, marks, panel, scale));
  svg.addEventListener("pointerleave", () => { marks.replaceChildren(); box.hidden = true; });
}

function nearest(steps, wanted) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < wanted) low = middle; else high = middle;
  }
  return wanted - steps[low] <= steps[high] - wanted ? low : high;
}

function point(event, svg, marks, panel, scale) {
  const width = svg.clientWidth, x = event.clientX - svg.getBoundingClientRect().left;
  const share = Math.min(1, Math.max(0, (x - LEFT) / (width - LEFT - RIGHT)));
  const wanted = scale.first + share * (scale.last - scale.first);
  marks.replaceChildren();
  box.replaceChildren();
  const head = document.createElement("b");
  box.append(head);
  let step = null;
  for (const series of shown(panel)) {
    const i = nearest(series.x, wanted), value = (series.smooth || series.y)[i];
    if (step === null || Math.abs(series.x[i] - wanted) < Math.abs(step - wanted)) step = series.x[i];
    element("circle", { class: "dot", cx: scale.x(series.x[i]), cy: scale.y(value), r: 4, style: `fill:${color(panel, series)}` }, marks);
    const exact = series.smooth ? ` (here ${format(series.y[i])})` : "";
    const line = entry(panel, series, `${panel.series.length > 1 ? series.label + ": " : ""}${format(value)}${exact}`);
    line.style.display = "block";
    box.append(line);
  }
  const unit = panel.unit && panel.unit !== "loss" ? `, ${panel.unit}` : "";
  head.textContent = `step ${step.toLocaleString("en")}${unit}`;
  element("path", { class: "at", d: `M${scale.x(step).toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}` }, marks);
  box.hidden = false;
  const left = event.pageX + 14 + box.offsetWidth > window.scrollX + document.documentElement.clientWidth
    ? event.pageX - 14 - box.offsetWidth : event.pageX + 14;
  box.style.left = `${Math.max(window.scrollX + 4, left)}px`;
  box.style.top = `${event.pageY + 12}px`;
}

const figures = [...document.querySelectorAll("figure.panel")];
const drawAll = () => figures.forEach(draw);

for (const button of document.querySelectorAll("button.run")) {
  button.addEventListener("click", () => {
    const run = Number(button.dataset.run);
    if (!hidden.delete(run)) hidden.add(run);
    button.setAttribute("aria-pressed", String(!hidden.has(run)));
    drawAll();
  });
}
for (const name of ["raw", "log"]) {
  const input = document.getElementById(name);
  shows[name] = input.checked;
  input.addEventListener("change", () => { shows[name] = input.checked; drawAll(); });
}
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", drawAll);

let drawnWidth = document.body.clientWidth;
window.addEventListener("resize", () => {
  if (document.body.clientWidth === drawnWidth) return; // a phone hides its address bar
  drawnWidth = document.body.clientWidth;
  drawAll();
});
drawAll();
