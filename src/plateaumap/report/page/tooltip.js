// A tooltip that follows the pointer. Names and values are text, never markup.
"use strict";
const Tooltip = (() => {
  const GAP = 16;
  let box = null, pointer = { x: 0, y: 0 };
  window.addEventListener("pointermove", (event) => {
    pointer = { x: event.clientX, y: event.clientY };
  }, true);

  function place() {
    const { width, height } = box.getBoundingClientRect();
    const room = { x: window.innerWidth, y: window.innerHeight };
    const beside = pointer.x + GAP + width > room.x ? pointer.x - GAP - width : pointer.x + GAP;
    box.style.left = `${Math.max(0, beside)}px`;
    box.style.top = `${Math.max(0, Math.min(pointer.y + GAP, room.y - height))}px`;
  }

  // Fill a table with rows, each a name followed by values.
  function fill(table, rows) {
    const body = document.createElement("tbody");
    rows.forEach(([name, ...values]) => {
      const line = body.insertRow(), head = document.createElement("th");
      head.textContent = name;
      line.append(head);
      values.forEach((value) => { line.insertCell().textContent = value; });
    });
    table.replaceChildren(body);
  }

  function show(rows) {
    if (box === null) {
      box = document.createElement("table");
      box.id = "tooltip";
      box.setAttribute("role", "tooltip");
      document.body.append(box);
    }
    fill(box, rows);
    box.hidden = false;
    place();
  }

  function hide() {
    if (box !== null) box.hidden = true;
  }

  return { fill, show, hide };
})();
