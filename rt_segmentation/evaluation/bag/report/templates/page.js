"use strict";
// One frame at a time instead of a row of them, chosen by slider, buttons, or arrow keys on the picture.
for (const strip of document.querySelectorAll(".strip")) {
  const figures = [...strip.querySelectorAll("figure")];
  const slider = strip.querySelector("input[type=range]");
  const show = (number) => {
    slider.value = number;
    figures.forEach((figure, i) => figure.classList.toggle("current", i + 1 === slider.valueAsNumber));
    slider.setAttribute("aria-valuetext", figures[slider.valueAsNumber - 1].textContent.trim());
  };
  const step = (by) => show(slider.valueAsNumber + by);
  slider.addEventListener("input", () => step(0));
  strip.querySelector(".previous").addEventListener("click", () => step(-1));
  strip.querySelector(".next").addEventListener("click", () => step(1));
  strip.querySelector(".frames").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      event.preventDefault();
      step(by);
    }
  });
  strip.classList.add("scripted");
  strip.querySelector(".scrubber").hidden = false;
  show(1);
}

// A confusion matrix is one stop of the Tab key; arrows move inside it, and the cell is read out below.
for (const table of document.querySelectorAll(".matrix")) {
  const region = table.parentElement;
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  const readout = region.nextElementSibling;
  const tell = (event) => {
    const cell = event.target.closest("td");
    if (cell) readout.textContent = cell.title;
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  region.removeAttribute("tabindex");
  readout.textContent = "Point at a cell, or move with the arrow keys, to read its numbers.";
  for (const cell of rows.flat()) cell.tabIndex = -1;
  rows[0][0].tabIndex = 0;
  table.addEventListener("pointerover", tell);
  table.addEventListener("focusin", tell);
  table.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    const from = event.target.closest("td");
    if (!move || !from) return;
    event.preventDefault();
    const row = rows.findIndex((cells) => cells.includes(from));
    const to = rows[row + move[0]]?.[rows[row].indexOf(from) + move[1]];
    if (!to) return;
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
}

for (const button of document.querySelectorAll(".copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: copy it";
    }
  });
}
