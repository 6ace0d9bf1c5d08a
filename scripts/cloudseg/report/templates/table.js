// A click on a head sorts its table by that column: numbers from the largest, text from A, and the other way round.
for (const head of document.querySelectorAll("table.sortable th button")) {
  head.addEventListener("click", () => {
    const cell = head.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const number = cell.classList.contains("number"), column = cell.cellIndex;
    const before = cell.getAttribute("aria-sort");
    const falling = before ? before === "ascending" : number;
    for (const other of cell.parentNode.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const order = (a, b) => (number ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const [one, two] = [key(a), key(b)];
      if (one === "" || two === "") return (one === "") - (two === "");
      return falling ? order(two, one) : order(one, two);
    });
    body.append(...rows);
  });
}
