// The browser's side of the explorer: tooltips, downloads and error messages.
"use strict";
const Explorer = (() => {
  function cellAt({ x, y, dw, dh, image }, px, py) {
    const [height, width] = image[0].shape;
    const column = Math.floor((px - x[0]) / dw[0] * width);
    const row = Math.floor((py - y[0]) / dh[0] * height);
    if (!(column >= 0 && column < width && row >= 0 && row < height)) return null;
    const centre = [x[0] + (column + 0.5) * dw[0] / width, y[0] + (row + 0.5) * dh[0] / height];
    return { at: row * width + column, centre };
  }

  const shown = (value) => Number.isInteger(value) ? value.toLocaleString("en")
    : String(Number(value.toPrecision(6)));

  // Show the coordinates of the cell under the pointer, and its length or the reason it has none.
  function hover(plot, image, cover, { x, y }) {
    const picture = plot.tags[0];
    const cell = picture ? cellAt(image.data, x, y) : null;
    if (cell === null) return Tooltip.hide();
    const value = image.data.image[0][cell.at], code = cover.data.image[0][cell.at];
    const places = cell.centre.map((place, i) => picture.logarithmic[i] ? 10 ** place : place);
    return Tooltip.show([
      ...picture.names.map((name, i) => [name, Number(places[i].toPrecision(8))]),
      [picture.measure, Number.isNaN(value) ? picture.covers[code] : shown(value)],
    ]);
  }

  function download({ name, type, content }) {
    for (let i = 0; i < name.length; i++) {
      const bytes = Uint8Array.from(atob(content[i]), (c) => c.charCodeAt(0));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes], { type: type[i] }));
      link.download = name[i];
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }
  }

  function showError(message) {
    const place = document.getElementById("trouble");
    place.textContent = message;
    place.hidden = false;
  }

  window.addEventListener("error", (event) => showError(`This page failed: ${event.message}`));
  window.addEventListener("unhandledrejection", (event) =>
    showError(`This page failed: ${event.reason}`));
  return { hover, download, showError, cellAt };
})();
