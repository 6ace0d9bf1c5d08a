// A button shows its class alone, in every picture; a link goes to where an image is shown.
const buttons = document.querySelectorAll(".classes button");
for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", other === button);
    for (const layer of document.querySelectorAll(".stack img"))
      layer.hidden = "class" in button.dataset && layer.dataset.class !== button.dataset.class;
  });
}
for (const link of document.querySelectorAll("[data-shows]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const articles = [...document.querySelectorAll("article")];
    const split = link.closest("[data-of]").dataset.of;
    articles.find((one) => one.dataset.image === link.dataset.shows && one.dataset.split === split).scrollIntoView();
  });
}
