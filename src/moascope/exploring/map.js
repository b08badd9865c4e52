"use strict";
// The list and the filters work without this script, which draws the map and lets keys move.
const points = JSON.parse(document.getElementById("points").textContent);
const canvas = document.getElementById("map"), tip = document.getElementById("tip");
const COLOURS = ["#56B4E9", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#B8A800",
  "#8a949e", "#b6bfc8", "#1d2733"];
const MARGIN = 14;

function mark(context, code, x, y, size) {
  const path = (...corners) => {
    corners.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx * size, y + dy * size));
    context.closePath();
  };
  context.beginPath();
  if (code === 1) path([-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]);
  else if (code === 2) path([0, -1.15], [1.1, .85], [-1.1, .85]);
  else if (code === 3) path([0, -1.25], [1.1, 0], [0, 1.25], [-1.1, 0]);
  else if (code === 4) path([0, 1.15], [1.1, -.85], [-1.1, -.85]);
  else if (code === 5) path([-.4, -1.1], [.4, -1.1], [.4, -.4], [1.1, -.4], [1.1, .4], [.4, .4],
    [.4, 1.1], [-.4, 1.1], [-.4, .4], [-1.1, .4], [-1.1, -.4], [-.4, -.4]);
  else if (code === 6) path([-1.1, -.55], [-.55, -1.1], [0, -.5], [.55, -1.1], [1.1, -.55], [.5, 0],
    [1.1, .55], [.55, 1.1], [0, .5], [-.55, 1.1], [-1.1, .55], [-.5, 0]);
  else context.arc(x, y, code === 8 ? size * .75 : size, 0, 7);
  if (code === 7) { context.lineWidth = size * .4; context.strokeStyle = COLOURS[7]; context.stroke(); return; }
  context.fillStyle = COLOURS[code];
  context.fill();
  if (code === 9) { context.lineWidth = size * .45; context.strokeStyle = "#fff"; context.beginPath();
    context.arc(x, y, size * .45, 0, 7); context.stroke(); }
}

let box = null, at = -1, width = 0, height = 0;
const place = i => [MARGIN + points.x[i] / 1000 * (width - 2 * MARGIN),
  MARGIN + points.y[i] / 1000 * (height - 2 * MARGIN)];

function draw() {
  const ratio = window.devicePixelRatio || 1;
  width = canvas.clientWidth; height = canvas.clientHeight;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const many = points.x.length > 1500, size = many ? 3 : width < 500 ? 4 : 5;
  // What is not asked for lies behind, and classes lie above what is not known.
  const order = [...points.x.keys()].sort((a, b) =>
    points.matched[a] - points.matched[b] || (points.code[b] > 6) - (points.code[a] > 6));
  for (const i of order) {
    const [x, y] = place(i);
    context.globalAlpha = points.matched[i] ? .92 : .12;
    mark(context, points.code[i], x, y, points.matched[i] ? size : size * .7);
  }
  context.globalAlpha = 1;
  if (at >= 0) {
    const [x, y] = place(at);
    context.lineWidth = 2.5; context.strokeStyle = "#000";
    context.beginPath(); context.arc(x, y, size + 5, 0, 7); context.stroke();
  }
  if (box) {
    context.lineWidth = 1.5; context.setLineDash([5, 4]); context.strokeStyle = "#000";
    context.strokeRect(...box.map((value, i) => i < 2 ? value : value - box[i - 2]));
  }
}

function show(i) {
  if (i === at) return;
  at = i;
  tip.hidden = i < 0;
  document.querySelectorAll("#list tr.at").forEach(row => row.classList.remove("at"));
  if (i >= 0) {
    const [x, y] = place(i);
    tip.textContent = points.name[i] + (points.of[i] ? " · " + points.of[i] : "");
    tip.style.left = Math.min(x + 12, Math.max(width - tip.offsetWidth - 4, 0)) + "px";
    tip.style.top = Math.min(y + 12, height - tip.offsetHeight - 4) + "px";
    document.querySelector(`#list a[data-name="${CSS.escape(points.name[i])}"]`)
      ?.closest("tr").classList.add("at");
  }
  draw();
}

function nearest(event) {
  const frame = canvas.getBoundingClientRect();
  const x = event.clientX - frame.left, y = event.clientY - frame.top;
  let best = -1, least = 14 ** 2;
  for (let i = 0; i < points.x.length; i++) {
    const [px, py] = place(i), apart = (px - x) ** 2 + (py - y) ** 2;
    if (apart < least && points.matched[i]) { least = apart; best = i; }
  }
  return [best, x, y];
}

let start = null;
canvas.addEventListener("pointerdown", event => { const [, x, y] = nearest(event); start = [x, y];
  canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", event => {
  const [best, x, y] = nearest(event);
  if (start && event.pointerType === "mouse" && Math.hypot(x - start[0], y - start[1]) > 6) {
    box = [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
    draw();
  } else show(best);
});
canvas.addEventListener("pointerleave", () => show(-1));
canvas.addEventListener("pointercancel", () => { start = box = null; draw(); });
canvas.addEventListener("pointerup", event => {
  const [best] = nearest(event);
  start = null;
  if (box) {
    const part = box.map((value, i) => (value - MARGIN) / ((i % 2 ? height : width) - 2 * MARGIN));
    const to = new URL(location);
    to.searchParams.set("box", part.map(value => Math.min(Math.max(value, 0), 1).toFixed(4)).join(","));
    to.searchParams.delete("page");
    location = to;
  } else if (best >= 0) location = "/compound?name=" + encodeURIComponent(points.name[best]);
});
const rows = new Map(points.name.map((name, i) => [name, i]));
const links = [...document.querySelectorAll("#list a")];
for (const link of links) {
  link.addEventListener("focus", () => show(rows.get(link.dataset.name) ?? -1));
  link.closest("tr").addEventListener("mouseenter", () => show(rows.get(link.dataset.name) ?? -1));
}
document.addEventListener("keydown", event => {
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input:not([type=checkbox], [type=search])")) return;
  const now = links.indexOf(document.activeElement);
  const next = links[event.key === "ArrowDown" ? now + 1 : now - 1];
  if (next) { next.focus(); event.preventDefault(); }
});
document.querySelectorAll("#filters select").forEach(select =>
  select.addEventListener("change", () => select.form.requestSubmit()));
document.getElementById("filters").addEventListener("formdata", event => {
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});
document.querySelectorAll(".legend canvas").forEach(one =>
  mark(one.getContext("2d"), +one.dataset.code, 16, 16, 10));
addEventListener("resize", draw);
draw();
