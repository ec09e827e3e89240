
"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;  // nothing has run
  const shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("#rows .row")];
  const failures = [...document.querySelectorAll("#failures > li")];
  const inShard = (from, to, wanted) => wanted === null || (wanted >= from && wanted < to);
  const hasKind = (kinds, wanted) => !wanted || (wanted === "any" ? kinds !== "" : kinds.split(" ").includes(wanted));
  const killed = new Set(["crash", "out-of-memory", "timeout"]);
  const ofKind = (kind, wanted) => !wanted || wanted === "any" || (wanted === "killed") === killed.has(kind);

  function apply() {
    const typed = form.elements.shard.value.trim();
    const shard = /^\d+$/.test(typed) ? Number(typed) : null;
    const kind = form.elements.kind.value;
    let visible = 0;
    for (const row of rows) {
      const { from, to, kinds } = row.dataset;
      row.hidden = !(inShard(Number(from), Number(to), shard) && hasKind(kinds, kind));
      visible += row.hidden ? 0 : 1;
    }
    for (const item of failures) {
      const at = Number(item.dataset.shard);
      item.hidden = !(inShard(at, at + 1, shard) && ofKind(item.dataset.kind, kind));
    }
    shown.textContent = rows.length ? `${visible} of ${rows.length} rows` : "";
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
})();
