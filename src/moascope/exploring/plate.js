"use strict";
// The page works without this script, which lets keys move and changes pictures without a reload.
const wells = new Map([...document.querySelectorAll("#wells a")].map(one => [one.dataset.at, one]));
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
// Tab enters the plate at one well and leaves it again; arrows move inside.
const first = document.querySelector("#wells a[aria-current]") || wells.values().next().value;
for (const one of wells.values()) one.tabIndex = one === first ? 0 : -1;
document.getElementById("wells").addEventListener("keydown", event => {
  const move = MOVES[event.key];
  if (!move || !event.target.dataset.at) return;
  let [row, column] = event.target.dataset.at.split(",").map(Number);
  for (let step = 0; step < 48; step++) {
    row += move[0]; column += move[1];
    const next = wells.get(`${row},${column}`);
    if (next) {
      event.target.tabIndex = -1; next.tabIndex = 0; next.focus(); break;
    }
  }
  event.preventDefault();
});
document.querySelector("#choose select").addEventListener("change", event => event.target.form.requestSubmit());
const look = document.getElementById("look");
if (look) {
  look.querySelector("button").hidden = true;
  let waiting = 0;
  const update = () => {
    const asked = new FormData(look);
    for (const picture of document.querySelectorAll(".pair img")) {
      const to = new URL(picture.src);
      to.searchParams.delete("channel");
      asked.getAll("channel").forEach(name => to.searchParams.append("channel", name));
      for (const name of ["low", "high"]) to.searchParams.set(name, asked.get(name));
      if (!("fixed" in picture.dataset)) to.searchParams.set("site", asked.get("site"));
      if (to.href !== picture.src) { picture.src = to; picture.parentElement.href = to; }
    }
  };
  look.addEventListener("input", event => {
    const said = event.target.parentElement.querySelector("output");
    if (said) said.textContent = event.target.value;
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
}
