(() => {
  "use strict";
  for (const element of document.querySelectorAll(".script-only")) element.hidden = false;
  for (const panel of document.querySelectorAll(".panel")) {
    panel.addEventListener("click", () => panel.classList.toggle("large"));
  }
  const form = document.querySelector("form.filter");
  if (!form) return;
  const selects = [...form.querySelectorAll("select")];
  const fits = (element) => selects.every((select) => !select.value || element.dataset[select.dataset.filter] === select.value);
  const update = () => {
    const cases = [...document.querySelectorAll("article")];
    let shown = 0;
    for (const article of cases) {
      let any = false;
      for (const row of article.querySelectorAll("tr[data-texture]")) {
        const fit = fits(row);
        row.classList.toggle("dim", !fit);
        any = any || fit;
      }
      article.hidden = !any;
      shown += any;
    }
    for (const path of document.querySelectorAll(".site")) path.style.display = fits(path) ? "" : "none";
    form.querySelector("output").textContent = `${shown} of ${cases.length} shown`;
  };
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
