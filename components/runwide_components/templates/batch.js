
"use strict";
(() => {
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const table = document.getElementById("runs");
  const rows = table ? [...table.tBodies[0].rows] : [];

  function apply() {
    const wanted = form.elements.find.value.trim().toLowerCase();
    const state = form.elements.state.value;
    let visible = 0;
    for (const row of rows) {
      row.hidden = !((!state || row.dataset.state === state) && row.textContent.toLowerCase().includes(wanted));
      visible += row.hidden ? 0 : 1;
    }
    shown.textContent = rows.length ? `${visible} of ${rows.length} runs` : "";
  }

  const valueOf = (cell) => {
    const data = cell.querySelector("data");
    const text = data ? data.value : cell.textContent.trim();
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text.toLowerCase();
  };
  // numbers before texts, and nothing last whichever way
  const compare = (a, b, way) => {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
    if (typeof a !== typeof b) return way * (typeof a === "number" ? -1 : 1);
    return way * (a < b ? -1 : a > b ? 1 : 0);
  };

  function sort(head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const place = head.cellIndex;
    const keyed = rows.map((row) => [valueOf(row.cells[place]), row]);
    keyed.sort(([a], [b]) => compare(a, b, down ? -1 : 1));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  if (table) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sort(button.closest("th"));
    });
  }
  apply();
})();
