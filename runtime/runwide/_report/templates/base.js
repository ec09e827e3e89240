
"use strict";
// In a frame made from text, a link to a part of the page would lead to the page around the frame.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const part = link && document.getElementById(link.hash.slice(1));
  if (!part) return;
  event.preventDefault();
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
  part.scrollIntoView();
});

// A sandboxed frame has no clipboard, but may copy a selection.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const code = button.previousElementSibling;
  getSelection().selectAllChildren(code);
  const copied = document.execCommand("copy");
  if (!copied && navigator.clipboard) navigator.clipboard.writeText(code.textContent);
  button.textContent = copied || navigator.clipboard ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
for (const button of document.querySelectorAll("button.copy")) button.hidden = false;

function hint() {
  for (const part of document.querySelectorAll(".scroll")) {
    part.classList.toggle("more", part.scrollWidth > part.clientWidth + 1);
  }
}
addEventListener("resize", hint);
hint();
