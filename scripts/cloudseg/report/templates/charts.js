// Unpacks the libraries that draw, draws every chart, and says so with their views to what else is on the page.
(async () => {
  const packed = atob(document.getElementById("charts-library").textContent);
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.type = "module";
  library.textContent = (await new Response(unpacked).text()) + ";dispatchEvent(new Event('charts-library'));";
  await new Promise((resolve) => {
    addEventListener("charts-library", resolve, { once: true });
    document.head.append(library);
  });
  const views = {};
  for (const data of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(data.dataset.chart);
    const options = { actions: false, renderer: "svg" };
    views[data.dataset.chart] = (await vegaEmbed(place, JSON.parse(data.textContent), options)).view;
  }
  document.dispatchEvent(new CustomEvent("charts", { detail: views }));
})();
