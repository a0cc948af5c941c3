"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  table.classList.add("can-sort");
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const isNumber = rows.some((row) => value(row, column) !== "" && Number.isFinite(Number(value(row, column))));
      const last = head.getAttribute("aria-sort");
      const order = last ? (last === "ascending" ? "descending" : "ascending") : isNumber ? "descending" : "ascending";
      const sign = order === "ascending" ? 1 : -1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const compare = (one, other) => {
        const a = value(one, column);
        const b = value(other, column);
        if (a === "" || b === "") return (a === "") - (b === "");  // what is not known stays at the end
        return sign * (isNumber ? Number(a) - Number(b) : a.localeCompare(b));
      };
      body.append(...rows.sort(compare));
    });
  });
}
