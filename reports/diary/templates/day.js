"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  document.documentElement.classList.add("scripted");

  // The filter: lines and events that have all its words. Folds that hold some open, and close again behind it.
  const filter = one("#filter"), count = one("#count"), lines = all(".line"), rows = all(".found");
  const opened = new Set();
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (element) => words.every((word) => element.dataset.text.includes(word));
    const shown = [lines, rows].map((elements) => elements.filter((element) => {
      element.hidden = !fits(element);
      return !element.hidden;
    }).length);
    for (const fold of all("details.hour")) {
      fold.hidden = words.length > 0 && !one("[data-text]:not([hidden])", fold);
      if (words.length && !fold.hidden && !fold.open) { fold.open = true; opened.add(fold); }
    }
    if (!words.length) { opened.forEach((fold) => { fold.open = false; }); opened.clear(); }
    count.textContent = words.length ? `${shown[0]} of ${lines.length} lines, ${shown[1]} events` : "";
  };
  filter.addEventListener("input", apply);
  filter.form.addEventListener("submit", (event) => event.preventDefault());

  // The player: one video, below the line or the row whose button was pressed.
  let player = null;
  const close = () => { if (player) { player.box.remove(); player.link.focus(); player = null; } };
  const play = (link) => {
    const isSame = player && player.link === link;
    if (player) player.box.remove();
    if (isSame) { player = null; return; }
    const box = document.createElement("div"), video = document.createElement("video");
    box.className = "player";
    video.controls = true;
    video.src = link.href;
    video.addEventListener("error", () => {
      const note = document.createElement("p"), direct = document.createElement("a");
      direct.href = link.href;
      direct.textContent = "the file";
      note.append("This browser cannot play it here. Perhaps ", direct, " was moved, or needs another player.");
      video.replaceWith(note);
    });
    box.append(video);
    const row = link.closest("tr");
    if (row) {
      const below = document.createElement("tr"), cell = document.createElement("td");
      cell.colSpan = row.cells.length;
      cell.append(box);
      below.append(cell);
      row.after(below);
      player = { box: below, link };
    } else {
      link.closest(".line").append(box);
      player = { box, link };
    }
    video.play().catch(() => {});
    box.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.play");
    if (link && !event.ctrlKey && !event.metaKey) { event.preventDefault(); play(link); }
  });

  // The strip: zoom to an hour; a bar leads to its event, and so does a line's link to its events.
  const sheet = one(".sheet"), frame = one(".window");
  for (const button of all(".zoom button")) {
    button.addEventListener("click", () => {
      all(".zoom button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      sheet.style.setProperty("--zoom", button.dataset.zoom);
      sheet.classList.toggle("zoomed", Number(button.dataset.zoom) > 1);
      frame.scrollLeft = sheet.offsetWidth * Number(button.dataset.x) / 100;
    });
  }
  const show = (ids) => {
    all(".current").forEach((other) => other.classList.remove("current"));
    const found = ids.map((id) => document.getElementById(id)).filter(Boolean);
    for (const row of found) {
      for (let fold = row.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      row.hidden = false;
      row.classList.add("current");
    }
    if (found.length) found[0].scrollIntoView({ block: "center" });
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-ids]");
    if (!target) return;
    event.preventDefault();
    show(target.dataset.ids.split("\n"));
  });

  // Keys.
  const step = (by) => {
    const shown = lines.filter((line) => !line.hidden);
    if (!shown.length) return;
    const at = shown.indexOf(document.activeElement.closest(".line"));
    const line = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(shown.length - 1, Math.max(0, at + by))];
    const fold = line.closest("details");
    if (fold) fold.open = true;
    line.focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
  };
  const follow = (id) => { const link = document.getElementById(id); if (link) link.click(); };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (player) close(); else if (filter.value) { filter.value = ""; apply(); }
      if (document.activeElement === filter) filter.blur();
      return;
    }
    if (event.target.closest("input, video")) return;
    const line = document.activeElement.closest(".line");
    const keys = {
      j: () => step(1),
      k: () => step(-1),
      p: () => { const link = line && one("a.play", line); if (link) play(link); },
      "/": () => filter.focus(),
      "[": () => follow("previous"),
      "]": () => follow("next"),
    };
    if (Object.hasOwn(keys, event.key)) { event.preventDefault(); keys[event.key](); }
  });
})();
